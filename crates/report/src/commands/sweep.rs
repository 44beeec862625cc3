//! `report sweep`: mean AUROC of several runs against `attend.threshold`.

use stage::{Begin, Common, Fail, Outcome};

use super::ending::fail;
use super::swept::{Report, Sweep};
use crate::Error;
use crate::figures::{self, Figure};
use crate::published;
use crate::sweep::{self, Entry};

/// Draws the sweep over the reports of `runs`, for the run that `common` names.
///
/// # Errors
/// A run has no report, or its report cannot be used; the disk is full.
pub fn sweep(common: &Common, runs: &[String]) -> Result<Outcome, Fail> {
    let sweep = Sweep::open(common, runs)?;
    let work = match sweep.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    let mut entries: Vec<Entry> = Vec::new();
    for Report { run: name, facts, rows } in sweep.reports()? {
        if let Some(same) = entries.iter().position(|entry| entry.threshold == facts.threshold) {
            let runs = [&runs[same], name].map(str::to_owned);
            return Err(fail(Error::SameThreshold { runs, threshold: facts.threshold }));
        }
        let entry = Entry::new(facts.threshold, facts.split, rows).map_err(fail)?;
        if entry.number().is_none() {
            stage::warn!("{name}: attend.threshold = {} has no place in the figure", entry.threshold);
        }
        entries.push(entry);
    }
    let csv = sweep::csv(&entries);
    let paper = published::all().map_err(fail)?.sweeps;
    let drawing = figures::sweep(&sweep::points(&entries), &paper);
    let outcome = sweep.publish(work, &sweep::rows(&entries), |folder| {
        fs_err::write(folder.join("sweep.csv"), &csv)?;
        Figure { name: "sweep", alt: "", drawing }.save(folder).map_err(fail)
    })?;
    stage::print(&csv)?;
    Ok(outcome)
}
