//! `report` - measures the three branches on patients they have not seen, and writes what it finds.

use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use cxr::metrics::Bootstrap;
use cxr::{BBox, Split};
use report::localisation::{self, Attended};
use report::page::{Overlay, Page, Provenance};
use report::published::Dataset;
use report::results::{BRANCHES, Cohort, MEAN, Results};
use report::{Config, Error, SPEC, figures, overlay, sweep};
use serde_json::{Value, json};
use stage::{Common, Fail, Input, Outcome, Plan, Run};
use tables::{Stamp, images, metrics, predictions, regions};

/// Metrics with patient-level intervals, figures and one HTML page.
///
/// Reads prep, global, attend, local and fusion of the run; writes metrics.parquet, index.html, figures/ and overlays/.
/// A short table goes to stdout.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done or current, 1 failed, 2 usage or configuration, 3 input missing or stale, 4 bad data."
)]
struct Args {
    /// Instead: draw mean AUROC against attend.threshold over the reports of these runs, to <ARTIFACTS_DIR>/<RUN>/sweep/
    #[arg(long, value_name = "RUN,RUN,...", value_delimiter = ',')]
    sweep: Vec<String>,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let args = Args::parse();
    stage::main(|| if args.sweep.is_empty() { report(&args.common) } else { draw_sweep(&args) })
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
    let [global, local, fusion] = BRANCHES.map(|branch| run.input(branch, &["predictions.parquet"]));
    let branches = [global?, local?, fusion?];
    if let Plan::Stop(outcome) = run.plan()? {
        return Ok(outcome);
    }
    let mut work = run.begin()?;

    let images = images::read_meta(&prep.files("images/")).map_err(Fail::bad_data)?;
    let regions = regions::read_meta(&attend.files("regions")).map_err(Fail::bad_data)?;
    let cohorts = [split, other].map(|split| join(&branches, split, run.limit()));
    let [cohort, other_cohort] = cohorts;
    let (cohort, other_cohort) = (cohort?, other_cohort?);
    if cohort.image_ids.is_empty() {
        return Err(Fail::bad_data(Error::Empty { split }).into());
    }
    let attended = localisation::join(&images, &regions, split).map_err(Fail::bad_data)?;

    let bootstrap = Bootstrap { draws: config.draws, confidence: config.confidence, seed: run.seed() };
    let values_only = Bootstrap { draws: 0, ..bootstrap };
    let mut rows = cohort.measure(split, &bootstrap);
    rows.extend(localisation::measure(&attended, split, &bootstrap));
    rows.extend(other_cohort.measure(other, &values_only));
    let results = Results(rows);
    let stamp = Stamp { stage: SPEC.name.to_owned(), key: run.key() };
    let table = work.out().join("metrics.parquet");
    metrics::write(&table, &results.0, &stamp)?;
    work.rows("metrics.parquet", results.0.len() as u64);

    let forest = figures::forest(&results, split);
    let roc = figures::roc(&cohort, &results, split);
    save(work.out(), "auroc", &forest)?;
    save(work.out(), "roc", &roc)?;
    let overlays = overlays([&prep, &branches[0], &attend], &attended, config.overlays, run.seed())?;
    fs_err::create_dir(work.out().join("overlays"))?;
    for overlay in &overlays {
        fs_err::write(work.out().join("overlays").join(file_name(&overlay.image_id)), &overlay.png)?;
    }

    let dataset = dataset(&prep, images.len(), cohort.image_ids.len(), split);
    let [global, local, fusion] = &branches;
    let stages = phantom.iter().chain([&prep, global, &attend, local, fusion]);
    let mut provenance: Vec<Provenance> = stages.map(provenance).collect();
    provenance.push(own_provenance(&run, common, &config));
    let page = Page {
        run: &common.run,
        results: &results,
        dataset: &dataset,
        split,
        patients: cohort.patient_count(),
        draws: config.draws,
        confidence: config.confidence,
        crop: &global.config().get("crop").map_or(String::new(), Value::to_string),
        forest: &forest,
        roc: &roc,
        overlays: &overlays,
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

/// Draws the chosen images; reads pictures until it has them all.
fn overlays(
    [prep, global, attend]: [&Input; 3],
    attended: &[Attended],
    n: usize,
    seed: u64,
) -> anyhow::Result<Vec<Overlay>> {
    let chosen = overlay::choose(attended, n, seed);
    let mut drawn: Vec<Option<Overlay>> = vec![None; chosen.len()];
    let Some(&first) = chosen.first() else { return Ok(Vec::new()) };
    let prefix = format!("images/{}-", attended[first].image.split);
    for file in prep.files(&prefix) {
        if drawn.iter().all(Option::is_some) || stage::interrupted() {
            break;
        }
        images::read(&[file], |row| -> Result<(), Error> {
            let place = chosen.iter().position(|&i| attended[i].image.record.image_id == row.record.image_id);
            let Some(place) = place else { return Ok(()) };
            let attended = &attended[chosen[place]];
            let picture = overlay::decode(&row.record.image_id, &row.png)?;
            let boxes = attended.image.boxes.iter();
            drawn[place] = Some(Overlay {
                image_id: row.record.image_id.clone(),
                labels: row.record.labels.to_string(),
                boxes: boxes.map(|b| (b.finding, attended.region.bbox.contains(b.bbox.center()))).collect(),
                png: overlay::draw(&picture, attended, frame(attend, global, &picture))?,
            });
            Ok(())
        })
        .map_err(Fail::bad_data)?;
    }
    if stage::interrupted() {
        return Err(Fail::interrupted().into());
    }
    Ok(drawn.into_iter().flatten().collect())
}

/// Where attend's heat map lies in the stored picture: the centre crop that the network saw, `attend.crop`, or
/// `global.crop` where that is 0.
fn frame(attend: &Input, global: &Input, picture: &overlay::Grey) -> BBox {
    let (width, height) = (picture.width as f32, picture.height as f32);
    let crop = |input: &Input| input.config().get("crop").and_then(Value::as_f64).filter(|crop| *crop > 0.0);
    let crop = crop(attend).or_else(|| crop(global)).map_or(width, |crop| crop as f32);
    let (x, y) = (((width - crop) / 2.0).max(0.0), ((height - crop) / 2.0).max(0.0));
    BBox::new(x, y, (x + crop).min(width), (y + crop).min(height))
}

/// An image's name without its ending, with `.png`.
fn file_name(image_id: &str) -> String {
    let stem = image_id.strip_suffix(".png").unwrap_or(image_id);
    format!("{}.png", stem.replace(['/', '\\'], "_"))
}

fn save(out: &Path, name: &str, drawing: &report::drawing::Drawing) -> anyhow::Result<()> {
    let folder = out.join("figures");
    fs_err::create_dir_all(&folder)?;
    fs_err::write(folder.join(format!("{name}.svg")), drawing.svg()?)?;
    fs_err::write(folder.join(format!("{name}.png")), drawing.png()?)?;
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
            "draws": config.draws, "confidence": config.confidence, "split": config.split, "overlays": config.overlays,
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
    let work = run.begin()?;
    let mut entries = Vec::new();
    for report in &reports {
        let recorded = &report.manifest().metrics;
        let split: Split =
            recorded["split"].as_str().unwrap_or("test").parse().map_err(|e: String| Fail::bad_data(anyhow!(e)))?;
        let rows = metrics::read(&report.file("metrics.parquet")).map_err(Fail::bad_data)?;
        entries.push(sweep::Entry {
            run: report.run_name().to_owned(),
            threshold: recorded["attend_threshold"].clone(),
            split,
            results: Results(rows),
        });
    }
    let points = sweep::points(&entries);
    for entry in entries.iter().filter(|entry| entry.threshold.as_f64().is_none()) {
        stage::warn!("{}: attend.threshold = {} has no place in the figure", entry.run, entry.threshold);
    }
    let drawing = figures::sweep(&points);
    let csv = sweep::csv(&entries);
    fs_err::write(work.out().join("sweep.csv"), &csv)?;
    fs_err::write(work.out().join("sweep.svg"), drawing.svg()?)?;
    fs_err::write(work.out().join("sweep.png"), drawing.png()?)?;
    let outcome = work.publish(json!({ "runs": args.sweep }))?;
    stage::print(&csv)?;
    Ok(outcome)
}
