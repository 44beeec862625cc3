//! Where a sweep lies on disk: all that this program asks of `stage` for it.
//!
//! A sweep is published in the folder `sweep` of its run as a stage's results are, and the run's report reads it there.

use std::path::Path;

use serde_json::json;
use stage::{Begin, Common, Computed, Fail, Input, Outcome, Run, Spec, Unchecked, Work};
use tables::metrics;

use super::ending::fail;
use crate::Error;
use crate::config::SPEC;
use crate::facts::{self, Reported};

/// How a sweep is published.
const SWEEP: Spec = Spec { name: "sweep", version: 5, seeded: false, defaults: "[sweep]\n", about: "" };

/// Rows as in `metrics.parquet`.
const TABLE: &str = "sweep.parquet";

/// The sweep of a run, where it has one.
pub(super) fn of_run(run: &mut Run) -> Result<Option<Input>, Fail> {
    run.optional_input(SWEEP.name, &[TABLE])
}

/// The rows of a sweep.
pub(super) fn rows(sweep: &Input) -> Result<Vec<metrics::Row>, Fail> {
    metrics::read(&sweep.file(TABLE)?).map_err(fail)
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
    /// Finds the reports of `runs`, for the sweep of the run that `common` names.
    pub(super) fn open(common: &Common, runs: &[String]) -> Result<Sweep, Fail> {
        let (mut run, Unchecked(_)) = Run::open(&SWEEP, common)?;
        if runs.contains(&common.run) {
            return Err(fail(Error::SweepOfItself { run: common.run.clone() }));
        }
        let mut reports = Vec::new();
        for name in runs {
            let (mut other, Unchecked(_)) = Run::open(&SWEEP, &Common { run: name.clone(), ..common.clone() })?;
            let report = other.optional_input(SPEC.name, &["metrics.parquet"])?;
            let report = report.ok_or_else(|| {
                let missing = anyhow::anyhow!("run {name} has no report");
                Fail::missing(missing).hint(format!("run just report --run {name} first"))
            })?;
            run.outside(name, report.digest("metrics.parquet"), None);
            reports.push(report);
        }
        Ok(Sweep { run, runs: runs.to_vec(), reports })
    }

    /// Whether there is anything to do.
    pub(super) fn begin(&self) -> Result<Begin<'_>, Fail> {
        self.run.begin()
    }

    /// The report of every run.
    pub(super) fn reports(&self) -> Result<Vec<Report<'_>>, Fail> {
        let mut reports = Vec::new();
        for (run, report) in self.runs.iter().zip(&self.reports) {
            let rows = metrics::read(&report.file("metrics.parquet")?).map_err(fail)?;
            reports.push(Report { run, facts: facts::reported(report).map_err(fail)?, rows });
        }
        Ok(reports)
    }

    /// Publishes the rows, and whatever `write` writes to the folder it is given.
    pub(super) fn publish(
        &self,
        mut work: Box<Work<'_>>,
        rows: &[metrics::Row],
        write: impl FnOnce(&Path) -> Result<(), Fail>,
    ) -> Result<Outcome, Fail> {
        metrics::write(&work.out().join(TABLE), rows, SWEEP.name).map_err(fail)?;
        work.rows(TABLE, rows.len() as u64);
        write(work.out())?;
        work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
        work.publish(json!({ "headline": format!("{} runs", self.runs.len()), "runs": self.runs }))
    }
}
