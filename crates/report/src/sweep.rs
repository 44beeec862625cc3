//! Mean AUROC of several runs against the threshold of the attention mask.

use std::fmt::Write;

use cxr::metrics::{Cell, Metric, Scope, Series, Subset};
use cxr::{Branch, Split};
use tables::metrics::Row;

use crate::Error;
use crate::figures::Swept;
use crate::results::Results;

/// One run's report.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `attend.threshold`: a number, or the name of a method.
    pub threshold: String,
    /// Split reported on.
    pub split: Split,
    /// The numbers that a sweep keeps of it, see [`kept`].
    results: Results,
}

/// What a sweep keeps of a report: means, differences, and how large the regions are.
fn kept(split: Split) -> impl Iterator<Item = Cell> {
    let means = Series::scored().map(|series| (series, Scope::Mean, Metric::Auroc));
    let regions = [Metric::AttentionArea, Metric::FallbackRate].map(|metric| (Series::Attention, Scope::All, metric));
    let cells = means.chain(regions);
    cells.map(move |(series, scope, metric)| Cell { series, scope, metric, subset: Subset::All, split })
}

impl Entry {
    /// From the numbers of a report on that split.
    ///
    /// # Errors
    /// [`Error::NoCell`] where one that a sweep keeps is missing, [`Error::Duplicate`].
    pub fn new(threshold: String, split: Split, report: Vec<Row>) -> Result<Entry, Error> {
        let report = Results::new(report)?;
        let row = |cell: Cell| report.find(&cell).cloned().ok_or(Error::NoCell { cell });
        let rows = kept(split).map(row).collect::<Result<Vec<Row>, Error>>()?;
        Ok(Entry { threshold, split, results: Results::new(rows)? })
    }

    /// The threshold, where it is a number.
    pub fn number(&self) -> Option<f64> {
        self.threshold.parse().ok()
    }

    /// The mean AUROC of a branch, or the difference of two.
    pub fn mean(&self, series: impl Into<Series>) -> &Row {
        self.results.get(series, Scope::Mean, Metric::Auroc, self.split)
    }

    /// The share of images without a region.
    pub fn fallback_rate(&self) -> &Row {
        self.results.get(Series::Attention, Scope::All, Metric::FallbackRate, self.split)
    }
}

/// The rows of `sweep.parquet`: what each run keeps, with the threshold for a subset.
pub fn rows(entries: &[Entry]) -> Vec<Row> {
    let of_entry = |entry: &Entry| -> Vec<Row> {
        let subset = Subset::Threshold(entry.threshold.clone());
        let rows = entry.results.rows().iter();
        rows.map(|row| Row { cell: Cell { subset: subset.clone(), ..row.cell.clone() }, ..row.clone() }).collect()
    };
    entries.iter().flat_map(of_entry).collect()
}

/// The entries that [`rows`] came from, by rising threshold, methods last.
///
/// # Errors
/// As [`Entry::new`].
pub fn entries(rows: &[Row]) -> Result<Vec<Entry>, Error> {
    let mut runs: Vec<(String, Split, Vec<Row>)> = Vec::new();
    for row in rows {
        let Subset::Threshold(threshold) = &row.cell.subset else { continue };
        let row = Row { cell: Cell { subset: Subset::All, ..row.cell.clone() }, ..row.clone() };
        match runs.iter_mut().find(|(known, ..)| known == threshold) {
            Some((_, _, rows)) => rows.push(row),
            None => runs.push((threshold.clone(), row.cell.split, vec![row])),
        }
    }
    let entries = runs.into_iter().map(|(threshold, split, rows)| Entry::new(threshold, split, rows));
    let mut entries = entries.collect::<Result<Vec<Entry>, Error>>()?;
    let place = |entry: &Entry| entry.number().unwrap_or(f64::INFINITY);
    entries.sort_by(|a, b| place(a).total_cmp(&place(b)));
    Ok(entries)
}

/// The points of the figure, by rising threshold; runs whose threshold is no number have none.
pub fn points(entries: &[Entry]) -> Vec<Swept> {
    let means = |entry: &Entry| Branch::ALL.map(|branch| entry.mean(branch).clone());
    let point = |entry: &Entry| Some(Swept { threshold: entry.number()?, means: means(entry) });
    let mut points: Vec<Swept> = entries.iter().filter_map(point).collect();
    points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
    points
}

/// All mean AUROCs and paired differences as CSV, one line per threshold and branch; empty where undefined.
pub fn csv(entries: &[Entry]) -> String {
    let mut text = String::from("threshold,branch,split,mean_auroc,ci_low,ci_high\n");
    let cell = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
    for entry in entries {
        for series in Series::scored() {
            let row = entry.mean(series);
            let (value, low, high) = (cell(row.value), cell(row.ci_low), cell(row.ci_high));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{},{series},{},{value},{low},{high}", entry.threshold, entry.split);
        }
    }
    text
}
