//! `report` - measures the three branches on patients they have not seen, and writes what it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Parser, Subcommand};
use cxr::Split;
use cxr::metrics::Bootstrap;
use report::cohort::{self, BRANCHES, Cohort};
use report::compare::compare;
use report::localisation::{self, Attended};
use report::measure::{self, MEAN};
use report::page::{Case, Figure, Page, Provenance};
use report::published::{self, Dataset};
use report::results::Results;
use report::{Config, Error, SPEC, figures, gallery, overlay, show, sweep};
use serde_json::{Value, json};
use stage::{Common, Fail, Input, Outcome, Plan, Run};
use tables::{epochs, images, metrics, predictions, regions};

/// Metrics with patient-level intervals, figures and one HTML page.
///
/// Reads prep, global, attend, local and fusion of the run; writes metrics.parquet, index.html, figures/ and overlays/.
/// A short table goes to stdout.
#[derive(Debug, Parser)]
#[command(
    version,
    subcommand_precedence_over_arg = true,
    after_help = "Exit codes: 0 done or current, 1 failed, 2 usage or configuration, 3 input missing or stale, 4 bad data."
)]
struct Args {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// Instead: draw mean AUROC against attend.threshold over the reports of these runs, to <ARTIFACTS_DIR>/<RUN>/sweep/;
    /// the run's own report shows it from then on
    #[arg(long, value_name = "RUN,RUN,...", value_delimiter = ',')]
    sweep: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Instead {
    /// Print one image's labels and the probabilities of the three branches, and write its overlay
    ///
    /// The overlay has three panels: the radiograph with the attended region (orange) and drawn boxes (turquoise), the heat
    /// map over it, and the crop that the local branch sees.
    Show {
        /// NIH's Image Index, e.g. 00000001_000.png
        image_id: String,
        /// Where the overlay goes [default: <IMAGE_ID without .png>-overlay.png, here]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the paired difference in AUROC of two runs, on the images that both report on
    ///
    /// Intervals are from draws of patients, p from DeLong's test. Only images that are in the reported split of both
    /// runs count.
    Compare {
        /// First run
        run_a: String,
        /// Second run
        run_b: String,
        /// global, local or fusion
        #[arg(long, default_value = "fusion", value_parser = ["global", "local", "fusion"])]
        branch: String,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    stage::main(|| match &args.instead {
        Some(Instead::Show { image_id, output }) => print_image(&args.common, image_id, output.as_deref()),
        Some(Instead::Compare { run_a, run_b, branch }) => print_comparison(&args.common, [run_a, run_b], branch),
        None if args.sweep.is_empty() => report(&args.common),
        None => draw_sweep(&args),
    })
}

fn report(common: &Common) -> anyhow::Result<Outcome> {
    let mut run = Run::open(&SPEC, common)?;
    let config: Config = run.config()?;
    let (split, other) = config.check().map_err(|text| Fail::usage(anyhow!(text)))?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    let prep = run.input("prep", &["images/"])?;
    let attend = run.input("attend", &["regions"])?;
    let phantom = from_phantom(&prep).then(|| run.input("phantom", &["Data_Entry"])).transpose()?;
    let [global, local, fusion] = BRANCHES.map(|branch| run.input(branch, &["predictions.parquet", "epochs.parquet"]));
    let branches = [global?, local?, fusion?];
    let swept = run.own_input(sweep::SPEC.name, &[sweep::TABLE])?;
    if let Plan::Stop(outcome) = run.plan()? {
        return Ok(outcome);
    }
    let mut work = run.begin()?;

    let images = images::read_meta(&prep.files("images/")).map_err(Fail::bad_data)?;
    let regions = regions::read_meta(&attend.files("regions")).map_err(Fail::bad_data)?;
    let [cohort, other_cohort] = [split, other].map(|split| join(&branches, split, run.limit()));
    let (cohort, other_cohort) = (cohort?, other_cohort?);
    if cohort.is_empty() {
        return Err(Fail::bad_data(Error::Empty { split }).into());
    }
    let attended = localisation::join(&images, &regions, split).map_err(Fail::bad_data)?;
    let epochs = read_epochs(&branches)?;
    let swept = match &swept {
        Some(swept) => metrics::read(&swept.file(sweep::TABLE)).map_err(Fail::bad_data)?,
        None => Vec::new(),
    };

    let plan =
        measure::Plan { bootstrap: Bootstrap { draws: config.draws, seed: run.seed() }, confidence: config.confidence };
    let tuned = (split == Split::Test).then_some(&other_cohort);
    let crop = heat_map_side(&attend, &branches[0]);
    let refusal = localisation::refusal(&images);
    let mut rows = measure::measure(&cohort, tuned, &cohort::subsets(&cohort, &images), split, &plan);
    rows.extend(localisation::measure(&attended, crop, refusal.as_deref(), split, &plan));
    rows.extend(measure::values(&other_cohort, other));
    rows.extend(swept.iter().cloned());
    let results = Results(rows);
    metrics::write(&work.out().join("metrics.parquet"), &results.0, SPEC.name)?;
    work.rows("metrics.parquet", results.0.len() as u64);

    let swept = sweep::entries(&swept);
    let figures = draw_figures(&cohort, &results, &epochs, &swept, split)?;
    for figure in &figures {
        save(&work.out().join("figures"), figure)?;
    }
    let chosen = gallery::choose(&cohort, config.cases, run.seed());
    let cases = read_cases([&prep, &attend], &cohort, &attended, &chosen)?;
    fs_err::create_dir(work.out().join("overlays"))?;
    for case in &cases {
        let name = file_name(&case.attended.image.record.image_id, ".png");
        fs_err::write(work.out().join("overlays").join(name), draw(case, crop)?)?;
    }

    let dataset = dataset(&prep, images.len(), cohort.len(), split);
    let [global, local, fusion] = &branches;
    let stages = phantom.iter().chain([&prep, global, &attend, local, fusion]);
    let mut provenance: Vec<Provenance> = stages.map(provenance).collect();
    provenance.push(own_provenance(&run, common, &config));
    let page = Page {
        run: &common.run,
        results: &results,
        dataset: &dataset,
        cohort: &cohort,
        split,
        draws: config.draws,
        confidence: config.confidence,
        crop,
        epochs: &epochs,
        refusal: refusal.as_deref(),
        sweep: &swept,
        figures: &figures,
        cases: &cases,
        provenance: &provenance,
    };
    fs_err::write(work.out().join("index.html"), page.html()?)?;
    let text = page.text();
    let means = BRANCHES.map(|branch| results.get(branch, MEAN, "auroc", split).and_then(|row| row.value));
    let outcome = work.publish(json!({
        "split": split.name(),
        "mean_auroc": { BRANCHES[0]: means[0], BRANCHES[1]: means[1], BRANCHES[2]: means[2] },
        "attend_threshold": attend.config().get("threshold"),
    }))?;
    stage::print(&text)?;
    Ok(outcome)
}

fn join(branches: &[Input; 3], split: Split, limit: Option<usize>) -> Result<Cohort, Fail> {
    let [global, local, fusion] =
        branches.each_ref().map(|input| predictions::read(&input.file("predictions.parquet")));
    let rows = [global, local, fusion].map(|rows| rows.map_err(Fail::bad_data));
    let [global, local, fusion] = rows;
    Cohort::join(&[global?, local?, fusion?], split, limit).map_err(Fail::bad_data)
}

fn read_epochs(branches: &[Input; 3]) -> Result<[Vec<epochs::Row>; 3], Fail> {
    let [global, local, fusion] =
        branches.each_ref().map(|input| epochs::read(&input.file("epochs.parquet")).map_err(Fail::bad_data));
    Ok([global?, local?, fusion?])
}

fn draw_figures(
    cohort: &Cohort,
    results: &Results,
    epochs: &[Vec<epochs::Row>; 3],
    swept: &[sweep::Entry],
    split: Split,
) -> anyhow::Result<Vec<Figure>> {
    let figure = |name, alt, drawing| Figure { name, alt, drawing };
    let mut drawn = vec![
        figure(
            "auroc",
            "AUROC of every finding with intervals, and paired differences",
            figures::forest(results, split),
        ),
        figure("roc", "ROC curves of the 14 findings", figures::roc(cohort, results, split)),
        figure("pr", "Precision-recall curves of the 14 findings", figures::pr(cohort, results, split)),
        figure(
            "calibration",
            "Share of positives against probability of the 14 findings",
            figures::calibration(cohort, results, split),
        ),
        figure("subgroups", "Mean AUROC by sex, age and view position", figures::subsets(results, split)),
        figure("training", "Loss and validation AUROC of every epoch", figures::training(epochs)),
    ];
    if results.get(localisation::BRANCH, measure::ALL, "iou_at_0.1", split).is_some_and(|row| row.value.is_some()) {
        let alt = "Share of boxes found against the overlap asked for";
        drawn.push(figure("localisation", alt, figures::overlaps(results, split)));
    }
    if !swept.is_empty() {
        let alt = "Mean AUROC against the threshold of the attention mask, beside the paper's";
        let paper = published::all()?.sweeps;
        drawn.push(figure("sweep", alt, figures::sweep(&sweep::points(swept), &paper)));
    }
    Ok(drawn)
}

/// Reads pictures and crops of the chosen images, file by file until it has them all.
fn read_cases<'a>(
    [prep, attend]: [&Input; 2],
    cohort: &Cohort,
    attended: &[Attended<'a>],
    chosen: &[(usize, gallery::Choice)],
) -> anyhow::Result<Vec<Case<'a>>> {
    let by_id: BTreeMap<&str, &Attended> =
        attended.iter().map(|attended| (attended.image.record.image_id.as_str(), attended)).collect();
    let wanted: BTreeSet<&str> = chosen.iter().map(|&(image, _)| cohort.image_ids[image].as_str()).collect();
    let Some(split) = attended.first().map(|attended| attended.image.split) else { return Ok(Vec::new()) };
    let (pictures, crops) = pictures(prep, attend, split, &wanted)?;
    let mut cases = Vec::new();
    for &(image, choice) in chosen {
        let id = &cohort.image_ids[image];
        let missing = || Fail::bad_data(Error::NoImage { image_id: id.clone() });
        let attended = **by_id.get(id.as_str()).ok_or_else(missing)?;
        let picture = pictures.get(id).ok_or_else(missing)?.clone();
        let crop = crops.get(id).ok_or_else(missing)?.clone();
        for png in [&picture, &crop] {
            overlay::decode(id, png).map_err(Fail::bad_data)?;
        }
        cases.push(Case { image, choice, attended, picture, heat: overlay::heat(attended.region)?, crop });
    }
    Ok(cases)
}

type Pictures = BTreeMap<String, Vec<u8>>;

/// The stored pictures and crops of some images of a split.
fn pictures(
    prep: &Input,
    attend: &Input,
    split: Split,
    wanted: &BTreeSet<&str>,
) -> anyhow::Result<(Pictures, Pictures)> {
    let (mut pictures, mut crops) = (Pictures::new(), Pictures::new());
    for file in prep.files(&format!("images/{split}-")) {
        if pictures.len() == wanted.len() || stage::interrupted() {
            break;
        }
        images::read(&[file], |row| -> Result<(), tables::Error> {
            if wanted.contains(row.record.image_id.as_str()) {
                pictures.insert(row.record.image_id, row.png);
            }
            Ok(())
        })
        .map_err(Fail::bad_data)?;
    }
    for file in attend.files("regions") {
        if crops.len() == wanted.len() || stage::interrupted() {
            break;
        }
        regions::read(&[file], |row| -> Result<(), tables::Error> {
            if wanted.contains(row.key.image_id.as_str()) {
                crops.insert(row.key.image_id, row.crop_png);
            }
            Ok(())
        })
        .map_err(Fail::bad_data)?;
    }
    if stage::interrupted() {
        return Err(Fail::interrupted().into());
    }
    Ok((pictures, crops))
}

fn draw(case: &Case, crop: f32) -> anyhow::Result<Vec<u8>> {
    let id = &case.attended.image.record.image_id;
    let picture = overlay::decode(id, &case.picture).map_err(Fail::bad_data)?;
    let cut = overlay::decode(id, &case.crop).map_err(Fail::bad_data)?;
    Ok(overlay::draw(&picture, &cut, &case.attended, case.attended.frame(crop))?)
}

/// Side of the centre crop under attend's heat maps: `attend.crop`, or `global.crop` where that is 0, or everything.
fn heat_map_side(attend: &Input, global: &Input) -> f32 {
    let crop = |input: &Input| input.config().get("crop").and_then(Value::as_f64).filter(|crop| *crop > 0.0);
    crop(attend).or_else(|| crop(global)).map_or(f32::INFINITY, |crop| crop as f32)
}

/// An image's name without its ending, with another.
fn file_name(image_id: &str, ending: &str) -> String {
    let stem = image_id.strip_suffix(".png").unwrap_or(image_id);
    format!("{}{ending}", stem.replace(['/', '\\'], "_"))
}

fn save(folder: &Path, figure: &Figure) -> anyhow::Result<()> {
    fs_err::create_dir_all(folder)?;
    fs_err::write(folder.join(format!("{}.svg", figure.name)), figure.drawing.svg()?)?;
    fs_err::write(folder.join(format!("{}.png", figure.name)), figure.drawing.png()?)?;
    Ok(())
}

/// Whether prep read the synthetic dataset of this run.
fn from_phantom(prep: &Input) -> bool {
    prep.manifest().inputs.iter().any(|source| source.stage == "phantom")
}

fn dataset(prep: &Input, images: usize, reported: usize, split: Split) -> Dataset {
    let setting = |key: &str| prep.config().get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Dataset { phantom: from_phantom(prep), split: setting("split"), images, reported, reported_split: split.name() }
}

fn provenance(input: &Input) -> Provenance {
    let manifest = input.manifest();
    Provenance {
        stage: manifest.stage.clone(),
        run: input.run_name().to_owned(),
        key: manifest.key.clone(),
        version: manifest.version,
        seed: manifest.seed,
        device: manifest.device.clone(),
        threads: manifest.threads,
        git: manifest.git.clone(),
        started: manifest.started.clone(),
        seconds: format!("{:.1} s", manifest.seconds),
        config: settings(&manifest.config),
    }
}

fn own_provenance(run: &Run, common: &Common, config: &Config) -> Provenance {
    Provenance {
        stage: SPEC.name.to_owned(),
        run: common.run.clone(),
        key: run.key(),
        version: SPEC.version,
        seed: run.seed(),
        device: run.device().to_owned(),
        threads: std::thread::available_parallelism().map_or(1, Into::into),
        git: None,
        started: String::new(),
        seconds: String::new(),
        config: settings(&json!({
            "draws": config.draws, "confidence": config.confidence, "split": config.split, "cases": config.cases,
        })),
    }
}

fn settings(config: &Value) -> Vec<(String, String)> {
    let pairs = config.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.to_string())).collect()
}

fn draw_sweep(args: &Args) -> anyhow::Result<Outcome> {
    let mut run = Run::open(&sweep::SPEC, &args.common)?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    if args.sweep.contains(&args.common.run) {
        let message =
            anyhow!("--sweep: {} shows the sweep in its own report, so it cannot be part of it", args.common.run);
        return Err(Fail::usage(message).hint("name another run with --run").into());
    }
    let mut reports = Vec::new();
    for name in &args.sweep {
        let base = Some(args.common.run.clone());
        let common = Common { run: name.clone(), base, ..args.common.clone() };
        let report = Run::open(&sweep::SPEC, &common)?.input(SPEC.name, &["metrics.parquet"])?;
        if report.run_name() != name {
            let message = anyhow!("--sweep: run {name} has no report");
            return Err(Fail::missing(message).hint(format!("run just report --run {name} first")).into());
        }
        run.outside(name, report.manifest().key.clone());
        reports.push(report);
    }
    if let Plan::Stop(outcome) = run.plan()? {
        return Ok(outcome);
    }
    let mut work = run.begin()?;
    let mut entries = Vec::new();
    for report in &reports {
        let recorded = &report.manifest().metrics;
        let split: Split = recorded["split"]
            .as_str()
            .unwrap_or("test")
            .parse()
            .map_err(|error: cxr::UnknownName| Fail::bad_data(error))?;
        let rows = metrics::read(&report.file("metrics.parquet")).map_err(Fail::bad_data)?;
        let entry = sweep::Entry::new(&recorded["attend_threshold"], split, rows);
        if entry.number().is_none() {
            stage::warn!("{}: attend.threshold = {} has no place in the figure", report.run_name(), entry.threshold);
        }
        entries.push(entry);
    }
    let rows = sweep::rows(&entries);
    metrics::write(&work.out().join(sweep::TABLE), &rows, sweep::SPEC.name)?;
    work.rows(sweep::TABLE, rows.len() as u64);
    let drawing = figures::sweep(&sweep::points(&entries), &published::all()?.sweeps);
    let csv = sweep::csv(&entries);
    fs_err::write(work.out().join("sweep.csv"), &csv)?;
    save(work.out(), &Figure { name: "sweep", alt: "", drawing })?;
    let outcome = work.publish(json!({ "runs": args.sweep }))?;
    stage::print(&csv)?;
    Ok(outcome)
}

fn print_image(common: &Common, image_id: &str, output: Option<&Path>) -> anyhow::Result<Outcome> {
    let mut run = Run::open(&SPEC, common)?;
    let prep = run.input("prep", &["images/"])?;
    let attend = run.input("attend", &["regions"])?;
    let global = run.input(BRANCHES[0], &["predictions.parquet"])?;
    let images = images::read_meta(&prep.files("images/")).map_err(Fail::bad_data)?;
    let Some(image) = images.iter().find(|image| image.record.image_id == image_id) else {
        let missing = Fail::bad_data(Error::NoImage { image_id: image_id.to_owned() });
        let first = images.first().map_or("", |image| image.record.image_id.as_str());
        return Err(missing.hint(format!("the first of this run's {} images is {first}", images.len())).into());
    };
    let regions = regions::read_meta(&attend.files("regions")).map_err(Fail::bad_data)?;
    let region = regions.iter().find(|region| region.key.image_id == image_id);
    let region = region.ok_or_else(|| Fail::bad_data(Error::NoRegion { image_id: image_id.to_owned() }))?;
    let attended = Attended { image, region };

    // A branch or report that has not run yet leaves its column empty.
    let mut rows: [Option<predictions::Row>; 3] = Default::default();
    for (row, branch) in rows.iter_mut().zip(BRANCHES) {
        if let Ok(input) = run.input(branch, &["predictions.parquet"]) {
            let all = predictions::read(&input.file("predictions.parquet")).map_err(Fail::bad_data)?;
            *row = all.into_iter().find(|row| row.key.image_id == image_id);
        }
    }
    let results = match run.own_input(SPEC.name, &["metrics.parquet"]) {
        Ok(Some(report)) => Results(metrics::read(&report.file("metrics.parquet")).map_err(Fail::bad_data)?),
        _ => Results::default(),
    };
    let threshold = |name: &str| results.get(BRANCHES[2], name, "threshold_youden", Split::Test)?.value;
    stage::print(&show::text(&attended, rows.each_ref().map(Option::as_ref), &threshold))?;

    let (pictures, crops) = pictures(&prep, &attend, image.split, &BTreeSet::from([image_id]))?;
    let missing = || Fail::bad_data(Error::NoImage { image_id: image_id.to_owned() });
    let picture = overlay::decode(image_id, pictures.get(image_id).ok_or_else(missing)?).map_err(Fail::bad_data)?;
    let crop = overlay::decode(image_id, crops.get(image_id).ok_or_else(missing)?).map_err(Fail::bad_data)?;
    let side = heat_map_side(&attend, &global);
    let png = overlay::draw(&picture, &crop, &attended, attended.frame(side))?;
    let path = output.map_or_else(|| PathBuf::from(file_name(image_id, "-overlay.png")), Path::to_path_buf);
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let mut file = fs_err::File::create(&partial).map_err(Fail::failed)?;
    file.write_all(&png).and_then(|()| fs_err::rename(&partial, &path)).map_err(Fail::failed)?;
    stage::info!("wrote {}", path.display());
    Ok(Outcome::Nothing)
}

fn print_comparison(common: &Common, names: [&String; 2], branch: &str) -> anyhow::Result<Outcome> {
    let config: Config = Run::open(&SPEC, common)?.config()?;
    let (split, _) = config.check().map_err(|text| Fail::usage(anyhow!(text)))?;
    let read = |name: &String| -> Result<Vec<predictions::Row>, Fail> {
        let input = Run::open(&SPEC, &Common { run: name.clone(), ..common.clone() })?;
        let path = { input }.input(branch, &["predictions.parquet"])?.file("predictions.parquet");
        predictions::read(&path).map_err(Fail::bad_data)
    };
    let [a, b] = names.map(read);
    let (a, b) = (a?, b?);
    let plan = measure::Plan {
        bootstrap: Bootstrap { draws: config.draws, seed: common.seed },
        confidence: config.confidence,
    };
    let names = names.map(String::as_str);
    let comparison = compare(names, [&a, &b], split, &plan).map_err(Fail::bad_data)?;
    stage::print(&comparison.text(names, branch, split, &plan))?;
    Ok(Outcome::Nothing)
}
