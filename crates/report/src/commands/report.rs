//! `report`: the numbers, the figures and the page.

use std::collections::HashMap;

use cxr::metrics::{Bootstrap, Metric, Scope};
use cxr::{Branch, Split};
use serde_json::json;
use stage::{Begin, Common, Computed, Fail, Outcome, Run, Work};
use tables::metrics::{self, Row};
use tables::regions;

use super::ending::{fail, keep_going};
use super::imports;
use super::inputs::{Data, Inputs};
use crate::cases::{self, Case, file_name};
use crate::cohort::groups;
use crate::compare::Side;
use crate::config::{Config, SPEC};
use crate::experts::Panel;
use crate::localisation::{self, Attended};
use crate::page::Page;
use crate::plan::{Plan, check};
use crate::provenance::Provenance;
use crate::published::{self, Dataset};
use crate::results::Results;
use crate::{Error, beside, figures, gallery, measure, overlay, sweep};

/// Measures the three branches on patients they have not seen, and publishes numbers, figures and page.
///
/// # Errors
/// A setting is out of range; an input is missing, stale, edited or corrupt; the disk is full.
pub fn report(common: &Common) -> Result<Outcome, Fail> {
    let (mut run, config) = Run::open::<Config>(&SPEC, common)?;
    let splits = config.splits();
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    let inputs = Inputs::open(&mut run)?;
    let peers = peers(&mut run, common, &config)?;
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };

    let data = inputs.read(splits, run.limit())?;
    let [split, _] = splits;
    let [cohort, _] = &data.cohorts;
    let frame = data.region_facts.frame;
    let attended = localisation::join(&data.images, &data.regions, split).map_err(fail)?;
    let refusal = localisation::refusal(&data.images);
    let control = localisation::control(&data.region_facts);

    let bootstrap = Bootstrap { draws: config.draws, seed: run.seed() };
    let plan = Plan { bootstrap, confidence: config.confidence, keep_going: &keep_going };
    let results = numbers(&data, &attended, refusal.as_deref(), splits, &plan).map_err(fail)?;
    let beside = beside(&run, &data, &peers, &config, split, &plan).map_err(fail)?;
    let results = Results::new(results.into_iter().chain(beside).collect()).map_err(fail)?;
    metrics::write(&work.out().join("metrics.parquet"), results.rows(), SPEC.name).map_err(fail)?;
    work.rows("metrics.parquet", results.rows().len() as u64);

    let paper = published::all().map_err(fail)?.sweeps;
    let swept = sweep::points(&data.swept);
    let shown = figures::Shown { cohort, results: &results, epochs: &data.epochs, swept: &swept, paper: &paper, split };
    let figures = figures::draw(&shown, &keep_going).map_err(fail)?;
    for figure in &figures {
        check(&keep_going).map_err(fail)?;
        figure.save(&work.out().join("figures"))?;
    }
    let chosen = gallery::choose(cohort, config.cases, run.seed());
    let shown = (attended.as_slice(), &data.region_facts);
    let cases = cases::read(&inputs.prep, inputs.source.regions(), cohort, shown, &chosen, &keep_going)?;
    draw_overlays(&work, &cases, &data.region_facts)?;

    let mut provenance: Vec<Provenance> = inputs.stages().map(Provenance::of).collect();
    provenance.push(Provenance::of_report(&run, &config));
    let page = Page {
        key: &run.key(),
        results: &results,
        dataset: &Dataset {
            kind: inputs.image_facts.dataset,
            split: inputs.image_facts.split.to_string(),
            images: data.images.len(),
            reported: cohort.len(),
            reported_split: split,
        },
        cohort,
        split,
        draws: config.draws,
        confidence: config.confidence,
        frame,
        model: inputs.source.model(),
        epochs: &data.epochs,
        refusal: refusal.as_deref(),
        control: control.as_deref(),
        sweep: &data.swept,
        figures: &figures,
        cases: &cases,
        provenance: &provenance,
    };
    fs_err::write(work.out().join("index.html"), page.html().map_err(fail)?)?;
    let mean = |branch: Branch| results.get(branch, Scope::Mean, Metric::Auroc, split).value;
    let means = Branch::ALL.map(|branch| (branch.name().to_owned(), json!(mean(branch))));
    let fusion = mean(Branch::Fusion).map_or("undefined".to_owned(), |value| format!("{value:.4}"));
    let region = data.region_facts.region;
    let controlled = if region.is_control() { format!(", {region} regions") } else { String::new() };
    work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
    let outcome = work.publish(json!({
        "headline": format!("fusion: mean AUROC {fusion} on {split}{controlled}"),
        "split": split.name(),
        "mean_auroc": serde_json::Map::from_iter(means),
        "attend_threshold": data.region_facts.threshold,
        "attend_region": data.region_facts.region,
    }))?;
    stage::print(&page.text())?;
    Ok(outcome)
}

/// All numbers: of the reported split, of attended regions, of the other split, and of a sweep.
fn numbers(
    data: &Data,
    attended: &[Attended],
    refusal: Option<&str>,
    [split, other]: [Split; 2],
    plan: &Plan,
) -> Result<Vec<Row>, Error> {
    let [cohort, other_cohort] = &data.cohorts;
    let tuning = (split == Split::Test).then_some(other_cohort);
    let mut rows = measure::measure(cohort, tuning, &groups(cohort, &data.images), split, plan)?;
    let regions = localisation::Regions {
        attended,
        facts: &data.region_facts,
        class_maps: data.class_maps.as_deref(),
        cohort,
        refusal,
    };
    rows.extend(localisation::measure(&regions, split, plan)?);
    rows.extend(measure::values(other_cohort, other, plan)?);
    rows.extend(sweep::rows(&data.swept));
    Ok(rows)
}

/// The imported models that are to be shown.
fn peers(run: &mut Run, common: &Common, config: &Config) -> Result<Vec<Side>, Fail> {
    let mut peers = Vec::new();
    for name in &config.peers {
        let (mut other, _) = Run::open::<Config>(&SPEC, &Common { run: name.clone(), ..common.clone() })?;
        let model = imports::of_run(&mut other)?.ok_or_else(|| {
            let missing = anyhow::anyhow!("report.peers: {name} is no imported model");
            Fail::missing(missing).hint(format!("`report import {name} predictions.csv --root FOLDER` imports it"))
        })?;
        run.outside(&format!("peer {name}"), model.digest, None);
        peers.push(Side { run: name.clone(), branch: None, rows: model.rows, scored: model.scored });
    }
    Ok(peers)
}

/// What stands beside the branches: imported models, and what experts say.
fn beside(
    run: &Run,
    data: &Data,
    peers: &[Side],
    config: &Config,
    split: Split,
    plan: &Plan,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for peer in peers {
        rows.extend(beside::peer(peer, &data.predictions, run.name(), split, plan)?);
    }
    if let Some(experts) = &data.experts {
        let [cohort, _] = &data.cohorts;
        let of: HashMap<&str, usize> = cohort.image_ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
        let read = experts.iter().filter_map(|row| Some((*of.get(row.image_id.as_str())?, row)));
        let panel =
            Panel::of(read.map(|(at, row)| (row.image_id.clone(), cohort.patients[at], cohort.labels[at], row.labels)));
        rows.extend(beside::experts(&panel, &data.predictions, &config.mapping(), split, plan)?);
    }
    Ok(rows)
}

/// Writes the overlay of every case.
fn draw_overlays(work: &Work, cases: &[Case], facts: &regions::Facts) -> Result<(), Fail> {
    let folder = work.out().join("overlays");
    fs_err::create_dir(&folder)?;
    for case in cases {
        check(&keep_going).map_err(fail)?;
        let id = &case.attended.image.record.image_id;
        let decode = |png: &[u8]| overlay::decode(id, png).map_err(fail);
        let (image, crop) = (decode(&case.stored.image_png)?, decode(&case.stored.crop_png)?);
        let png = overlay::draw(&image, &crop, &case.attended, facts).map_err(fail)?;
        fs_err::write(folder.join(file_name(id, ".png")), png)?;
    }
    Ok(())
}
