//! `report import`: the predictions of another model, scored as a branch is.

use std::path::{Path, PathBuf};

use cxr::Branch;
use cxr::metrics::Bootstrap;
use labels::scores::{self, scores};
use stage::{Common, Fail, Outcome, Run};

use super::ending::{fail, keep_going};
use super::{compare, imports};
use crate::config::{Config, SPEC};
use crate::import::{self, Scored, Truth, text};
use crate::plan::Plan;

/// What `report import` is asked for.
#[derive(Debug)]
pub struct Import {
    /// What the model is called from now on.
    pub name: String,
    /// The predictions: CSV, perhaps gzip.
    pub file: PathBuf,
    /// Folder with NIH's label table and lists.
    pub root: PathBuf,
    /// The label table, if not the one that prep would find.
    pub labels: Option<String>,
    /// What stands beside the findings in the names of the columns.
    pub columns: Option<String>,
    /// Only images of the official test list.
    pub official: bool,
    /// The run beside whose branches it is shown.
    pub beside: Option<String>,
}

/// Reads predictions of others, publishes them as a result, and prints their AUROCs; beside those of a run where one is
/// named.
///
/// # Errors
/// A file is missing or not as expected; it is about other images; the name is that of a run.
pub fn import(common: &Common, asked: &Import) -> Result<Outcome, Fail> {
    let (_, config) = Run::open::<Config>(&SPEC, common)?;
    let bytes = Truth::file(&asked.file, scores::LIMITS.bytes).map_err(fail)?;
    let read = scores(&asked.file, &bytes, asked.columns.as_deref()).map_err(fail)?;
    let truth = Truth::read(&asked.root, asked.labels.as_deref()).map_err(fail)?;
    let file = name_of(&asked.file);
    let mut imported = import::join(&file, &read, &truth, asked.official).map_err(fail)?;
    imported.rows.truncate(common.limit.unwrap_or(usize::MAX));
    let ids: Vec<&str> = imported.rows.iter().map(|row| row.key.image_id.as_str()).collect();
    let images = import::images(&ids, truth.test.as_ref(), truth.train_val.as_ref());

    let mut made_from = truth.texts.clone();
    made_from.push(("predictions".to_owned(), labels::texts::digest(&bytes)));
    made_from.push(("options".to_owned(), imports::options(asked.columns.as_deref(), asked.official, common.limit)));
    let run = imports::open(common, &asked.name, &made_from)?;
    let outcome = imports::publish(&run, &imported, &images, &truth.table)?;
    stage::print(&text::notes(&asked.name, &read, &imported, &images, &truth))?;

    let bootstrap = Bootstrap { draws: config.draws, seed: common.seed };
    let plan = Plan { bootstrap, confidence: config.confidence, keep_going: &keep_going };
    let scored = Scored::of(&imported.rows, imported.scored);
    let aurocs = scored.aurocs(&scored.resamples(&plan), &plan).map_err(fail)?;
    stage::print(&text::table(&asked.name, &truth.table, &scored, &aurocs, &plan))?;
    if let Some(beside) = &asked.beside {
        for branch in Branch::ALL {
            stage::print("\n")?;
            compare(common, [beside, &asked.name], branch)?;
        }
        stage::info!("`--set 'report.peers=[\"{}\"]'` shows it in the page of run {beside}, too", asked.name);
    }
    Ok(outcome)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
