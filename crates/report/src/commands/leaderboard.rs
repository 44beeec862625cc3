//! `report leaderboard`: all imported models and runs on one page.

use std::collections::BTreeSet;

use cxr::metrics::Bootstrap;
use cxr::{Branch, OUTPUTS, Split};
use serde_json::json;
use stage::inventory::inventory;
use stage::{Begin, Common, Computed, Fail, Outcome, Run, Spec, Unchecked};
use tables::predictions;

use super::ending::{fail, keep_going};
use super::imports;
use super::inputs::{PREP, is_evaluation, predictions_of};
use crate::config::{Config, SPEC};
use crate::import::{Scored, images};
use crate::leaderboard::{self, Entry};
use crate::plan::Plan;

/// How a leaderboard is published.
const LEADERBOARD: Spec =
    Spec { name: "leaderboard", version: 1, seeded: true, defaults: "[leaderboard]\n", about: "" };

/// Publishes a page of `models`, or of all that the artefacts folder has, for the run that `common` names, and prints it.
///
/// # Errors
/// There is no model; predictions are missing, stale, edited or corrupt; the disk is full.
pub fn leaderboard(common: &Common, models: &[String]) -> Result<Outcome, Fail> {
    let (_, config) = Run::open::<Config>(&SPEC, common)?;
    let bootstrap = Bootstrap { draws: config.draws, seed: common.seed };
    let plan = Plan { bootstrap, confidence: config.confidence, keep_going: &keep_going };
    let (mut run, Unchecked(_)) = Run::open(&LEADERBOARD, common)?;
    let names = if models.is_empty() { all(common)? } else { models.to_vec() };
    let mut found = Vec::new();
    for name in &names {
        let entries = match entries(common, name) {
            // Who names no model wants those that are there.
            Err(fail) if models.is_empty() => {
                stage::warn!("{name} is left out: {fail}");
                continue;
            }
            entries => entries?,
        };
        if entries.is_empty() && !models.is_empty() {
            return Err(Fail::missing(anyhow::anyhow!(
                "{name} is neither an imported model nor a run with predictions"
            )));
        }
        for (entry, digest) in entries {
            // All that the page says of it: the same predictions may be imported with other lists or another table.
            let shown = json!([digest, entry.kind, entry.split, entry.labels, entry.scored.scored]);
            run.outside(&entry.name, stage::digest(&shown), None);
            found.push(entry);
        }
    }
    if found.is_empty() {
        let none =
            anyhow::anyhow!("no imported model and no run with predictions in {}", common.artifacts_dir.display());
        return Err(Fail::missing(none).hint("`report import NAME predictions.csv --root FOLDER` imports one"));
    }
    run.outside("report", stage::digest(&json!([config.draws, config.confidence])), None);
    let work = run.begin()?;
    let groups = leaderboard::groups(found, &plan).map_err(fail)?;
    let outcome = match work {
        Begin::Stop(outcome) => outcome,
        Begin::Work(mut work) => {
            fs_err::write(work.out().join("index.html"), leaderboard::html(&groups, &plan).map_err(fail)?)?;
            fs_err::write(work.out().join("leaderboard.csv"), leaderboard::csv(&groups))?;
            work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
            let models: usize = groups.iter().map(|group| group.models.len()).sum();
            work.publish(json!({ "headline": format!("{models} models on {} sets of images", groups.len()) }))?
        }
    };
    stage::print(&leaderboard::text(&groups))?;
    Ok(outcome)
}

/// Every run that has predictions, imported or its own.
fn all(common: &Common) -> Result<Vec<String>, Fail> {
    let with = |stage: &str| {
        imports::IMPORT.name == stage || is_evaluation(stage) || Branch::ALL.iter().any(|b| b.name() == stage)
    };
    let items = inventory(&common.artifacts_dir)?.items;
    let runs: BTreeSet<String> =
        items.into_iter().filter(|item| with(&item.stage)).flat_map(|item| item.linked_by).collect();
    Ok(runs.into_iter().collect())
}

/// The models of a run, each with the digest of its predictions: the imported one, or its branches on test images.
fn entries(common: &Common, name: &str) -> Result<Vec<(Entry, String)>, Fail> {
    let (mut run, Unchecked(_)) = Run::open(&LEADERBOARD, &Common { run: name.to_owned(), ..common.clone() })?;
    if let Some(model) = imports::of_run(&mut run)? {
        let entry = Entry {
            name: name.to_owned(),
            kind: "imported",
            split: model.images.name,
            labels: model.table,
            scored: Scored::of(&model.rows, model.scored),
        };
        return Ok(vec![(entry, model.digest)]);
    }
    let Some(prep) = run.optional_input(PREP, &["images/"])? else { return Ok(Vec::new()) };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("unknown").to_owned();
    let (root, split) = (text(&prep.manifest().config["root"]), text(&prep.manifest().config["split"]));
    let mut entries = Vec::new();
    for branch in Branch::ALL {
        let Some(predicted) = predictions_of(&mut run, branch)? else { continue };
        let mut rows = predictions::read(&predicted.path).map_err(fail)?;
        rows.retain(|row| row.key.split == Split::Test);
        if rows.is_empty() {
            continue;
        }
        let ids: Vec<&str> = rows.iter().map(|row| row.key.image_id.as_str()).collect();
        let images = images(&ids, None, None);
        let entry = Entry {
            name: format!("{name}: {branch}"),
            kind: if predicted.elsewhere { "evaluated here" } else { "trained here" },
            split: match (images.known, root.as_str()) {
                (true, _) => images.name,
                (false, "phantom") => "synthetic test images".to_owned(),
                (false, _) => format!("test images of prep.split = \"{split}\""),
            },
            labels: text(&prep.manifest().metrics["labels"]),
            scored: Scored::of(&rows, [true; OUTPUTS]),
        };
        entries.push((entry, predicted.digest));
    }
    Ok(entries)
}
