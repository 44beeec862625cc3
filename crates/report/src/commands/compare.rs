//! `report compare`: two runs side by side.

use cxr::Branch;
use cxr::metrics::Bootstrap;
use stage::{Common, Fail, Outcome, Run};
use tables::predictions;

use super::ending::{fail, keep_going};
use super::inputs::predictions_of;
use crate::compare;
use crate::config::{Config, SPEC};
use crate::plan::Plan;

/// Prints the paired difference in AUROC of a branch in two runs.
///
/// # Errors
/// A run lacks the branch, or the two have nothing in common.
pub fn compare(common: &Common, runs: [&str; 2], branch: Branch) -> Result<Outcome, Fail> {
    let (_, config) = Run::open::<Config>(&SPEC, common)?;
    let [split, _] = config.splits();
    let read = |name: &str| -> Result<Vec<predictions::Row>, Fail> {
        let (mut run, _) = Run::open::<Config>(&SPEC, &Common { run: name.to_owned(), ..common.clone() })?;
        match predictions_of(&mut run, branch)? {
            Some(path) => predictions::read(&path).map_err(fail),
            // Its error says what to run.
            None => run.input(branch.name(), &[""]).map(|_| Vec::new()),
        }
    };
    let [a, b] = runs.map(read);
    let (a, b) = (a?, b?);
    let bootstrap = Bootstrap { draws: config.draws, seed: common.seed };
    let plan = Plan { bootstrap, confidence: config.confidence, keep_going: &keep_going };
    let comparison = compare::compare(runs, [&a, &b], split, &plan).map_err(fail)?;
    stage::print(&comparison.text(runs, branch, split, &plan))?;
    Ok(Outcome::Nothing)
}
