//! Mean AUROC of several runs against the threshold of the attention mask.

use std::fmt::Write;

use cxr::Split;
use cxr::metrics::Metric;
use serde_json::Value;
use tables::metrics::Row;

use crate::figures::Swept;
use crate::results::{BRANCHES, DIFFERENCES, MEAN, Results};

/// What the sweep is: a stage of its own as far as disk and rerun rules go, without configuration.
pub const SPEC: stage::Spec = stage::Spec { name: "sweep", version: 1, defaults: "[sweep]\n" };

/// One run's report.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name of the run.
    pub run: String,
    /// `attend.threshold`: a number, or the name of a method.
    pub threshold: Value,
    /// Split reported on.
    pub split: Split,
    /// Its `metrics.parquet`.
    pub results: Results,
}

impl Entry {
    fn mean(&self, branch: &str) -> Option<&Row> {
        self.results.get(branch, MEAN, Metric::Auroc.name(), self.split)
    }
}

/// The points of the figure, by rising threshold; runs whose threshold is no number have none.
pub fn points(entries: &[Entry]) -> Vec<Swept> {
    let point = |entry: &Entry| {
        let [a, b, c] = BRANCHES.map(|branch| entry.mean(branch).cloned());
        Some(Swept { threshold: entry.threshold.as_f64()?, means: [a?, b?, c?] })
    };
    let mut points: Vec<Swept> = entries.iter().filter_map(point).collect();
    points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
    points
}

/// All mean AUROCs and paired differences as CSV, one line per run and branch; empty where undefined.
pub fn csv(entries: &[Entry]) -> String {
    let mut text = String::from("run,threshold,branch,split,mean_auroc,ci_low,ci_high\n");
    let cell = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
    for entry in entries {
        let threshold = entry.threshold.as_str().map_or(entry.threshold.to_string(), str::to_owned);
        for branch in BRANCHES.into_iter().chain(DIFFERENCES.map(|(name, _, _)| name)) {
            let Some(row) = entry.mean(branch) else { continue };
            let (value, low, high) = (cell(row.value), cell(row.ci_low), cell(row.ci_high));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{},{threshold},{branch},{},{value},{low},{high}", entry.run, entry.split);
        }
    }
    text
}
