//! `report compare`: two runs side by side.

use cxr::metrics::Bootstrap;
use cxr::{Branch, OUTPUTS};
use stage::{Common, Fail, Outcome, Run};
use tables::predictions;

use super::ending::{fail, keep_going};
use super::imports;
use super::inputs::predictions_of;
use crate::compare::{self, Side};
use crate::config::{Config, SPEC};
use crate::plan::Plan;

/// Prints the paired difference in AUROC of a branch in two runs; an imported model has no branches and is compared as
/// it is.
///
/// # Errors
/// A run lacks the branch, or the two have nothing in common.
pub fn compare(common: &Common, runs: [&str; 2], branch: Branch) -> Result<Outcome, Fail> {
    let (_, config) = Run::open::<Config>(&SPEC, common)?;
    let [split, _] = config.splits();
    let [a, b] = runs.map(|name| side(common, name, branch));
    let sides = [a?, b?];
    let bootstrap = Bootstrap { draws: config.draws, seed: common.seed };
    let plan = Plan { bootstrap, confidence: config.confidence, keep_going: &keep_going };
    let comparison = compare::compare(&sides, split, &plan).map_err(fail)?;
    stage::print(&comparison.text(&sides, split, &plan))?;
    Ok(Outcome::Nothing)
}

/// What a run brings to a comparison.
///
/// # Errors
/// The run lacks the branch, or it is an imported model and has predictions of its own, too.
pub(super) fn side(common: &Common, name: &str, branch: Branch) -> Result<Side, Fail> {
    let (mut run, _) = Run::open::<Config>(&SPEC, &Common { run: name.to_owned(), ..common.clone() })?;
    if let Some(model) = imports::of_run(&mut run)? {
        return Ok(Side { run: name.to_owned(), branch: None, rows: model.rows, scored: model.scored });
    }
    let rows = match predictions_of(&mut run, branch)? {
        Some(predicted) => predictions::read(&predicted.path).map_err(fail)?,
        // Its error says what to run.
        None => run.input(branch.name(), &[""]).map(|_| Vec::new())?,
    };
    Ok(Side { run: name.to_owned(), branch: Some(branch), rows, scored: [true; OUTPUTS] })
}
