//! Mean AUROC of several runs against the threshold of the attention mask.

use std::fmt::Write;

use cxr::Split;
use cxr::metrics::Metric;
use serde_json::Value;
use tables::metrics::Row;

use crate::cohort::BRANCHES;
use crate::figures::Swept;
use crate::localisation;
use crate::measure::{ALL, DIFFERENCES, MEAN};
use crate::results::Results;

/// What the sweep is: a stage of its own as far as disk and rerun rules go, without configuration.
pub const SPEC: stage::Spec = stage::Spec { name: "sweep", version: 2, defaults: "[sweep]\n" };

/// The sweep's table, with rows as in `metrics.parquet`.
pub const TABLE: &str = "sweep.parquet";

/// `subset` of a sweep's rows begins with this; the threshold follows.
const SUBSET: &str = "attend.threshold=";

/// One run's report.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `attend.threshold`: a number, or the name of a method.
    pub threshold: String,
    /// Split reported on.
    pub split: Split,
    /// Its `metrics.parquet`, or what the sweep kept of it.
    pub results: Results,
}

impl Entry {
    /// From a run's `attend.threshold` and `metrics.parquet`.
    pub fn new(threshold: &Value, split: Split, rows: Vec<Row>) -> Entry {
        let threshold = threshold.as_str().map_or(threshold.to_string(), str::to_owned);
        Entry { threshold, split, results: Results(rows) }
    }

    /// The threshold, where it is a number.
    pub fn number(&self) -> Option<f64> {
        self.threshold.parse().ok()
    }

    fn mean(&self, branch: &str) -> Option<&Row> {
        self.results.get(branch, MEAN, Metric::Auroc.name(), self.split)
    }
}

/// What `sweep.parquet` keeps of each run: means, differences, and how large the regions are. `subset` names the
/// threshold.
pub fn rows(entries: &[Entry]) -> Vec<Row> {
    let mut rows = Vec::new();
    for entry in entries {
        let means = BRANCHES.into_iter().chain(DIFFERENCES.map(|(name, ..)| name)).filter_map(|name| entry.mean(name));
        let regions = ["attention_area", "fallback_rate"]
            .into_iter()
            .filter_map(|metric| entry.results.get(localisation::BRANCH, ALL, metric, entry.split));
        rows.extend(
            means.chain(regions).map(|row| Row { subset: format!("{SUBSET}{}", entry.threshold), ..row.clone() }),
        );
    }
    rows
}

/// The entries that [`rows`] came from, by rising threshold, methods last.
pub fn entries(rows: &[Row]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for row in rows {
        let Some(threshold) = row.subset.strip_prefix(SUBSET) else { continue };
        let row = Row { subset: ALL.to_owned(), ..row.clone() };
        match entries.iter_mut().find(|entry| entry.threshold == threshold) {
            Some(entry) => entry.results.0.push(row),
            None => {
                entries.push(Entry { threshold: threshold.to_owned(), split: row.split, results: Results(vec![row]) });
            }
        }
    }
    entries.sort_by(|a, b| a.number().unwrap_or(2.0).total_cmp(&b.number().unwrap_or(2.0)));
    entries
}

/// The points of the figure, by rising threshold; runs whose threshold is no number have none.
pub fn points(entries: &[Entry]) -> Vec<Swept> {
    let point = |entry: &Entry| {
        let [a, b, c] = BRANCHES.map(|branch| entry.mean(branch).cloned());
        Some(Swept { threshold: entry.number()?, means: [a?, b?, c?] })
    };
    let mut points: Vec<Swept> = entries.iter().filter_map(point).collect();
    points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
    points
}

/// All mean AUROCs and paired differences as CSV, one line per threshold and branch; empty where undefined.
pub fn csv(entries: &[Entry]) -> String {
    let mut text = String::from("threshold,branch,split,mean_auroc,ci_low,ci_high\n");
    let cell = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
    for entry in entries {
        for branch in BRANCHES.into_iter().chain(DIFFERENCES.map(|(name, _, _)| name)) {
            let Some(row) = entry.mean(branch) else { continue };
            let (value, low, high) = (cell(row.value), cell(row.ci_low), cell(row.ci_high));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{},{branch},{},{value},{low},{high}", entry.threshold, entry.split);
        }
    }
    text
}
