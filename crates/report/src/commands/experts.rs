//! `report experts`: NIH's labels, and models, against what radiologists said of the same images.

use std::path::{Path, PathBuf};

use cxr::metrics::{Bootstrap, Scope};
use cxr::{Branch, Split};
use labels::experts::experts;
use stage::{Common, Fail, Outcome, Run};

use super::compare::side;
use super::ending::{fail, keep_going};
use super::imports;
use crate::config::{Config, SPEC};
use crate::experts::{Panel, agreement_text, judged_text};
use crate::import::{Truth, titles};
use crate::plan::Plan;
use crate::results::title;

/// The most bytes of a file of experts' labels.
const MOST: u64 = 1 << 26;

/// What `report experts` is asked for.
#[derive(Debug)]
pub struct Against {
    /// The experts' labels.
    pub file: PathBuf,
    /// Folder with NIH's label table and lists.
    pub root: PathBuf,
    /// Runs and imported models.
    pub models: Vec<String>,
    /// All images of the file, not only those of the official test list.
    pub all: bool,
}

/// Prints how far NIH's labels agree with the experts', and the AUROC of models against both.
///
/// # Errors
/// A file or run is missing or not as expected.
pub fn against(common: &Common, asked: &Against) -> Result<Outcome, Fail> {
    let (_, config) = Run::open::<Config>(&SPEC, common)?;
    let mapping = config.mapping();
    let bytes = Truth::file(&asked.file, MOST).map_err(fail)?;
    let read = experts(&asked.file, &bytes, &mapping).map_err(fail)?;
    let truth = Truth::read(&asked.root, None).map_err(fail)?;
    let list = truth.test.as_ref().filter(|_| !asked.all);
    let panel = Panel::join(&read, &truth, list);
    if panel.image_ids.is_empty() {
        return Err(fail(no_overlap(&asked.file, &read, &truth)));
    }
    let bootstrap = Bootstrap { draws: config.draws, seed: common.seed };
    let plan = Plan { bootstrap, confidence: config.confidence, keep_going: &keep_going };
    let agreements = panel.agreement(&mapping, &plan).map_err(fail)?;
    let place = list.map_or(String::new(), |list| format!(" in {}", titles(list)[0]));
    stage::print(&agreement_text(&panel, &agreements, &mapping, &place, &plan))?;
    for (expert, findings) in &read.made {
        let made = crate::experts::union(findings);
        stage::print(&format!(
            "{}: the file has no column for it, and is read as {made}\n",
            title(Scope::Expert(*expert))
        ))?;
    }
    for name in &asked.models {
        let (mut run, _) = Run::open::<Config>(&SPEC, &Common { run: name.clone(), ..common.clone() })?;
        let imported = imports::of_run(&mut run)?.is_some();
        let branches = if imported { &Branch::ALL[..1] } else { &Branch::ALL[..] };
        for &branch in branches {
            let mut side = side(common, name, branch)?;
            side.rows.retain(|row| row.key.split == Split::Test);
            let judged = panel.judge(&side.rows, &side.scored, &mapping, &plan).map_err(fail)?;
            stage::print(&judged_text(&side.title(), &judged, &plan))?;
        }
    }
    Ok(Outcome::Nothing)
}

fn no_overlap(file: &Path, read: &labels::experts::Experts, truth: &Truth) -> crate::Error {
    crate::Error::NoOverlap {
        file: file.display().to_string(),
        images: read.rows.len(),
        first: read.rows.first().map(|(name, _)| name.clone()).unwrap_or_default(),
        table: truth.table.clone(),
        expected: truth.records.first().map(|record| record.image_id.clone()).unwrap_or_default(),
    }
}
