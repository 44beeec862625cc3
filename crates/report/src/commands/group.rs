//! `report seeds` and `report study`: several trainings beside each other.

use cxr::Branch;
use cxr::metrics::{Bootstrap, Metric, Scope};
use serde_json::json;
use stage::{Begin, Common, Computed, Fail, Input, Outcome, Run, Spec, Unchecked};
use tables::{images, metrics, predictions};

use super::ending::{fail, keep_going};
use super::recipes::{self, Recipe};
use crate::Error;
use crate::cohort::Cohort;
use crate::config::{self, Config};
use crate::figures::{self, Figure};
use crate::group::{self, Arm, Group};
use crate::page::GroupPage;
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::published::Dataset;
use crate::results::Results;
use crate::study::{self, ArmSettings, Study};

/// How a group of seeds is published.
const SEEDS: Spec = Spec { name: "seeds", version: 1, seeded: true, defaults: "[seeds]\n", about: "" };

const PREDICTIONS: &str = "predictions.parquet";
const IMAGES: &str = "images/";
const REGIONS: &str = "regions";

/// Measures `runs`, which differ in their seed, for the run that `common` names.
///
/// # Errors
/// A run is not trained, or two of them are the same training or about other images; the disk is full.
pub fn seeds(common: &Common, runs: &[String]) -> Result<Outcome, Fail> {
    let (run, Unchecked(_)) = Run::open(&SEEDS, common)?;
    let arm = ArmSettings { name: String::new(), about: String::new(), set: Default::default() };
    publish(common, run, &[arm], &[runs.to_vec()], None)
}

/// Measures the arms of the study that the configuration has; with `plan`, prints the flags of its trainings instead.
///
/// # Errors
/// As [`seeds`].
pub fn study(common: &Common, plan: bool) -> Result<Outcome, Fail> {
    let (run, study) = Run::open::<Study>(&study::SPEC, common)?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    if plan {
        stage::print(&study.plan(&common.run))?;
        return Ok(Outcome::Nothing);
    }
    let runs_of = |arm: &ArmSettings| study.seeds.iter().map(|&seed| Study::run(&common.run, arm, seed)).collect();
    let runs: Vec<Vec<String>> = study.arms.iter().map(runs_of).collect();
    publish(common, run, &study.arms, &runs, Some(&study.seeds))
}

/// What one run trained.
struct Trained {
    prep: Input,
    attend: Input,
    /// In the order of [`Branch::ALL`].
    branches: [Input; 3],
}

impl Trained {
    fn open(run: &mut Run) -> Result<Trained, Fail> {
        let prep = run.input("prep", &[IMAGES])?;
        let [global, local, fusion] = Branch::ALL.map(|branch| run.input(branch.name(), &[PREDICTIONS]));
        let branches = [global?, local?, fusion?];
        Ok(Trained { prep, attend: run.input("attend", &[REGIONS])?, branches })
    }

    /// Its stages, the fusion last.
    fn stages(&self) -> [&Input; 5] {
        let [global, local, fusion] = &self.branches;
        [&self.prep, global, &self.attend, local, fusion]
    }

    fn fusion(&self) -> &Input {
        &self.branches[Branch::Fusion as usize]
    }
}

fn publish(
    common: &Common,
    mut run: Run,
    arms: &[ArmSettings],
    runs: &[Vec<String>],
    seeds: Option<&[u64]>,
) -> Result<Outcome, Fail> {
    // What is measured, and how, is what the runs' own reports say.
    let (_, config) = Run::open::<Config>(&config::SPEC, common)?;
    let [split, _] = config.splits();
    run.outside("report", stage::digest(&json!([config.draws, config.confidence, split])), None);
    // The runs stay open: what they read is not removed meanwhile.
    let (trained, _opened) = open(common, &mut run, runs)?;
    let recipe = |(run, found): (&String, &Trained)| Recipe::of(run, &found.stages());
    let recipes: Vec<Vec<Recipe>> =
        runs.iter().zip(&trained).map(|(runs, of_arm)| runs.iter().zip(of_arm).map(recipe).collect()).collect();
    recipes::check(arms, &recipes, seeds).map_err(fail)?;
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    let mut group_arms = Vec::new();
    for (arm, of_arm) in arms.iter().zip(&trained) {
        let mut seeds = Vec::new();
        for found in of_arm {
            let read =
                |branch: Branch| predictions::read(&found.branches[branch as usize].file(PREDICTIONS)?).map_err(fail);
            let [global, local, fusion] = Branch::ALL.map(read);
            seeds.push(Cohort::join(&[global?, local?, fusion?], split, run.limit()).map_err(fail)?);
        }
        group_arms.push(Arm { name: arm.name.clone(), about: arm.about.clone(), seeds });
    }
    let seeds = recipes[0].iter().map(Recipe::seed).collect();
    let group = Group::new(group_arms, seeds, split, runs).map_err(fail)?;
    if group.cohort().is_empty() {
        return Err(fail(Error::Empty { split }));
    }
    let bootstrap = Bootstrap { draws: config.draws, seed: run.seed() };
    let plan = Plan { bootstrap, confidence: config.confidence, keep_going: &keep_going };
    let results = Results::new(group::measure(&group, &plan).map_err(fail)?).map_err(fail)?;
    let kind = run.stage();
    metrics::write(&work.out().join("metrics.parquet"), results.rows(), kind).map_err(fail)?;
    work.rows("metrics.parquet", results.rows().len() as u64);
    let figures = draw(&group, &results);
    for figure in &figures {
        figure.save(&work.out().join("figures"))?;
    }
    let facts = images::facts(&[trained[0][0].prep.first(IMAGES)?]).map_err(fail)?;
    let dataset = Dataset {
        kind: facts.dataset,
        split: facts.split.to_string(),
        images: rows(&trained[0][0].prep, IMAGES),
        reported: group.cohort().len(),
        reported_split: split,
    };
    let page = GroupPage {
        kind,
        key: &run.key(),
        group: &group,
        results: &results,
        dataset: &dataset,
        provenance: &trained[0][0].stages().map(Provenance::of),
        sets: &arms.iter().map(ArmSettings::lines).collect::<Vec<_>>(),
        draws: config.draws,
        confidence: config.confidence,
        figures: &figures,
    };
    fs_err::write(work.out().join("index.html"), page.html().map_err(fail)?)?;
    let mean = results.of_subset(Branch::Fusion, Scope::Mean, Metric::Auroc, &group.subset(&group.arms[0]), split);
    let fusion = mean.value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
    let (arms, seeds) = (group.arms.len(), group.seeds.len());
    work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
    let outcome = work.publish(json!({
        "headline": format!("{arms} arms, {seeds} seeds; fusion: mean AUROC {fusion} on {split}"),
        "seeds": group.seeds,
        "runs": runs,
    }))?;
    stage::print(&group::text(&group, &results, &dataset, config.confidence))?;
    Ok(outcome)
}

/// Opens `[arm][seed]` runs, and makes their predictions part of the key of `run`.
fn open(common: &Common, run: &mut Run, runs: &[Vec<String>]) -> Result<(Vec<Vec<Trained>>, Vec<Run>), Fail> {
    let mut trained: Vec<Vec<Trained>> = Vec::new();
    let mut opened = Vec::new();
    for (arm, runs) in runs.iter().enumerate() {
        let mut of_arm: Vec<Trained> = Vec::new();
        for (seed, name) in runs.iter().enumerate() {
            let (mut other, Unchecked(_)) = Run::open(&SEEDS, &Common { run: name.clone(), ..common.clone() })?;
            let found = Trained::open(&mut other)?;
            let fusion = found.fusion().digest(PREDICTIONS);
            if let Some(same) = of_arm.iter().position(|earlier| earlier.fusion().digest(PREDICTIONS) == fusion) {
                return Err(fail(Error::SameTraining { runs: [runs[same].clone(), name.clone()] }));
            }
            for (branch, input) in Branch::ALL.into_iter().zip(&found.branches) {
                run.outside(&format!("arm {arm}, seed {seed}, {branch}"), input.digest(PREDICTIONS), None);
            }
            of_arm.push(found);
            opened.push(other);
        }
        trained.push(of_arm);
    }
    Ok((trained, opened))
}

/// Rows of the files of a stage whose names begin with `prefix`.
fn rows(input: &Input, prefix: &str) -> usize {
    let files = input.manifest().outputs.iter().filter(|file| file.name.starts_with(prefix));
    files.filter_map(|file| file.rows).sum::<u64>() as usize
}

fn draw(group: &Group, results: &Results) -> Vec<Figure> {
    if !group.is_study() {
        let drawing = figures::forest(results, group.split);
        return vec![Figure {
            name: "auroc",
            alt: "AUROC of every finding with intervals over patients and seeds",
            drawing,
        }];
    }
    vec![
        Figure { name: "arms", alt: "Mean AUROC of every arm with intervals", drawing: figures::arms(group, results) },
        Figure {
            name: "contrasts",
            alt: "Differences between the first arm and the others with intervals",
            drawing: figures::contrasts(group, results),
        },
    ]
}
