//! Where a sweep lies on disk: all that this program asks of `stage` for it.
//!
//! A sweep is published in the folder `sweep` of its run as a stage's results are, and the run's report reads it there.

use std::path::Path;

use serde_json::json;
use stage::{Common, Fail, Input, Outcome, Plan, Run, Spec};
use tables::{Stamp, metrics};

use super::ending::fail;
use crate::Error;
use crate::config::SPEC;
use crate::facts::{self, Reported};

/// How a sweep is published; it has no settings of its own.
const SWEEP: Spec = Spec { name: "sweep", version: 3, defaults: "[sweep]\n" };

/// Rows as in `metrics.parquet`.
const TABLE: &str = "sweep.parquet";

/// The sweep of a run, where it has one.
pub(super) fn of_run(run: &mut Run) -> Result<Option<Input>, Fail> {
    run.own_input(SWEEP.name, &[TABLE])
}

/// The rows of a sweep.
pub(super) fn rows(sweep: &Input) -> Result<Vec<metrics::Row>, Error> {
    Ok(metrics::read(&sweep.file(TABLE))?)
}

/// A sweep to be made: the reports of its runs.
pub(super) struct Sweep {
    run: Run,
    runs: Vec<String>,
    reports: Vec<Input>,
}

/// The report of one run.
pub(super) struct Report<'s> {
    pub(super) run: &'s str,
    pub(super) facts: Reported,
    pub(super) rows: Vec<metrics::Row>,
}

impl Sweep {
    /// Finds the reports of `runs`, for the sweep of the run that `common` names; `None` where there is nothing to do.
    pub(super) fn plan(common: &Common, runs: &[String]) -> anyhow::Result<Result<Sweep, Outcome>> {
        let mut run = Run::open(&SWEEP, common)?;
        if run.printed_config()? {
            return Ok(Err(Outcome::Nothing));
        }
        if runs.contains(&common.run) {
            return Err(fail(Error::SweepOfItself { run: common.run.clone() }).into());
        }
        let mut reports = Vec::new();
        for name in runs {
            let common = Common { run: name.clone(), base: Some(common.run.clone()), ..common.clone() };
            let report = Run::open(&SWEEP, &common)?.own_input(SPEC.name, &["metrics.parquet"])?;
            let report = report.ok_or_else(|| {
                let missing = anyhow::anyhow!("run {name} has no report");
                Fail::missing(missing).hint(format!("run just report --run {name} first"))
            })?;
            run.outside(name, report.manifest().key.clone());
            reports.push(report);
        }
        match run.plan()? {
            Plan::Go => Ok(Ok(Sweep { run, runs: runs.to_vec(), reports })),
            Plan::Stop(outcome) => Ok(Err(outcome)),
        }
    }

    /// The report of every run.
    pub(super) fn reports(&self) -> Result<Vec<Report<'_>>, Error> {
        let mut reports = Vec::new();
        for (run, report) in self.runs.iter().zip(&self.reports) {
            let rows = metrics::read(&report.file("metrics.parquet"))?;
            reports.push(Report { run, facts: facts::reported(report)?, rows });
        }
        Ok(reports)
    }

    /// Publishes the rows, and whatever `write` writes to the folder it is given.
    pub(super) fn publish(
        &self,
        rows: &[metrics::Row],
        write: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let mut work = self.run.begin()?;
        let stamp = Stamp { stage: SWEEP.name.to_owned(), key: self.run.key() };
        metrics::write(&work.out().join(TABLE), rows, &stamp).map_err(fail)?;
        work.rows(TABLE, rows.len() as u64);
        write(work.out())?;
        Ok(work.publish(json!({ "runs": self.runs }))?)
    }
}
