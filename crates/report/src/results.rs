//! The numbers of a report: an index of them, and how they read.

use std::cmp::Ordering;
use std::collections::HashMap;

use cxr::metrics::{Cell, Metric, Scope, Series, Subset};
use cxr::{Branch, Finding, Split};
use tables::metrics::Row;

use crate::Error;

/// Rows of `metrics.parquet`, found by what they are about.
#[derive(Debug, Clone, Default)]
pub struct Results {
    rows: Vec<Row>,
    index: HashMap<Cell, usize>,
}

impl Results {
    /// Indexes the rows.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where two rows are about the same.
    pub fn new(rows: Vec<Row>) -> Result<Results, Error> {
        let mut index = HashMap::with_capacity(rows.len());
        for (position, row) in rows.iter().enumerate() {
            if index.insert(row.cell.clone(), position).is_some() {
                return Err(Error::Duplicate { cell: row.cell.clone() });
            }
        }
        Ok(Results { rows, index })
    }

    /// All rows, in the order of the file.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row of a cell, if there is one.
    pub fn find(&self, cell: &Cell) -> Option<&Row> {
        self.index.get(cell).map(|&position| &self.rows[position])
    }

    /// The row on all images of a split. A number that is undefined has a row too, which says why.
    ///
    /// # Panics
    /// If there is no such row: the caller asks for a number that is never measured, which is a bug.
    pub fn get(&self, series: impl Into<Series>, scope: impl Into<Scope>, metric: Metric, split: Split) -> &Row {
        self.of_subset(series, scope, metric, &Subset::All, split)
    }

    /// As [`Results::get`], on a subset of the images.
    ///
    /// # Panics
    /// As [`Results::get`].
    pub fn of_subset(
        &self,
        series: impl Into<Series>,
        scope: impl Into<Scope>,
        metric: Metric,
        subset: &Subset,
        split: Split,
    ) -> &Row {
        let cell = Cell { series: series.into(), scope: scope.into(), metric, subset: subset.clone(), split };
        self.find(&cell).unwrap_or_else(|| panic!("a bug: nothing was measured for {cell}"))
    }

    /// The row about regions on all images of a split, if there is one: only findings with boxes have them, and not every
    /// result has class maps.
    pub fn located(&self, series: Series, scope: impl Into<Scope>, metric: Metric, split: Split) -> Option<&Row> {
        let scope = scope.into();
        self.find(&Cell { series, scope, metric, subset: Subset::All, split })
    }

    /// Whether an image of the split has a label of it; also true where the split has no images.
    fn has_labels(&self, scope: Scope, split: Split) -> bool {
        let row = self.get(Branch::Global, scope, Metric::Auroc, split);
        row.n_pos + row.n_neg > 0 || row.n_unknown == 0
    }

    /// The findings that the split has labels of.
    pub fn findings(&self, split: Split) -> Vec<Finding> {
        Finding::ALL.into_iter().filter(|&finding| self.has_labels(finding.into(), split)).collect()
    }

    /// What tables and figures have a line for: the findings that the split has labels of, the mean and No Finding.
    pub fn scopes(&self, split: Split) -> Vec<Scope> {
        let findings = self.findings(split).into_iter().map(Scope::from);
        let rest = [Scope::Mean, Scope::NoFinding].into_iter();
        findings.chain(rest.filter(|&scope| scope == Scope::Mean || self.has_labels(scope, split))).collect()
    }

    /// Which findings the split has no labels of, in a sentence.
    pub fn unlabelled(&self, split: Split) -> Option<String> {
        let unlabelled = Finding::ALL.into_iter().filter(|&finding| !self.has_labels(finding.into(), split));
        let names: Vec<String> = unlabelled.map(title).collect();
        (!names.is_empty()).then(|| format!("Not in these data: {}", names.join(", ")))
    }

    /// The subsets of the split's images that were measured, all images first, in the order of the table.
    pub fn subsets(&self, split: Split) -> Vec<&Subset> {
        let mut subsets = vec![&Subset::All];
        for row in self.rows.iter().filter(|row| row.cell.split == split) {
            let subset = &row.cell.subset;
            if subset.is_group() && !subsets.contains(&subset) {
                subsets.push(subset);
            }
        }
        subsets
    }
}

/// How a finding reads: `Pleural Thickening`, `No Finding`, `Mean`.
pub fn title(scope: impl Into<Scope>) -> String {
    match scope.into() {
        Scope::Finding(finding) => finding.name().replace('_', " "),
        Scope::NoFinding => "No Finding".to_owned(),
        Scope::Mean => "Mean".to_owned(),
        Scope::All => "All".to_owned(),
        Scope::Expert(expert) => expert.name().replace('_', " "),
    }
}

/// How a subset reads: `All images`, `Women`, `40–59 years`, `AP view`.
pub fn subset_title(subset: &Subset) -> String {
    match subset {
        Subset::All => "All images".to_owned(),
        Subset::Sex(cxr::Sex::Female) => "Women".to_owned(),
        Subset::Sex(cxr::Sex::Male) => "Men".to_owned(),
        Subset::Age(band) => format!("{} years", band.to_string().replace('-', "\u{2013}")),
        Subset::ViewPosition(position) => format!("{} view", position.name()),
        Subset::Threshold(threshold) => format!("Threshold {threshold}"),
        Subset::Arm(arm) => arm.clone(),
        Subset::Versus(first, second) => format!("{first} \u{2212} {second}"),
        Subset::Experts | Subset::ExpertImages => "Images that experts read".to_owned(),
        Subset::Peer(name) => format!("Images of {name}"),
    }
}

/// How a series reads: `fusion`, or `fusion − global` with a true minus sign.
pub fn series_title(series: impl Into<Series>) -> String {
    match series.into() {
        Series::Pair(pair) => format!("{} \u{2212} {}", cxr::Branch::Fusion, pair.other()),
        Series::EnsembleGain => format!("{} \u{2212} {}", Series::Ensemble, cxr::Branch::Fusion),
        other => other.to_string(),
    }
}

/// `0.868`, or why there is no number.
pub fn value(row: &Row) -> String {
    match row.value {
        Some(value) => format!("{value:.3}"),
        None => undefined(row),
    }
}

/// `of 80 known`, where some of the images have no label.
pub fn known(row: &Row) -> Option<String> {
    (row.n_unknown > 0).then(|| format!("of {} known", row.n_pos + row.n_neg))
}

/// `+0.027`, `−0.004` with a true minus sign, or why there is no number.
pub fn signed(row: &Row) -> String {
    match row.value {
        Some(value) => plus_minus(value),
        None => undefined(row),
    }
}

/// `0.861–0.875`; `None` where there is no interval.
pub fn interval(row: &Row) -> Option<String> {
    Some(format!("{:.3}\u{2013}{:.3}", row.ci_low?, row.ci_high?))
}

/// `+0.020 to +0.034`; `None` where there is no interval.
pub fn signed_interval(row: &Row) -> Option<String> {
    Some(format!("{} to {}", plus_minus(row.ci_low?), plus_minus(row.ci_high?)))
}

/// Whether a difference is above or below 0, or `Equal` where its interval has 0 in it; `None` without an interval.
pub fn sign(row: &Row) -> Option<Ordering> {
    let (low, high) = (row.ci_low?, row.ci_high?);
    Some(match (low > 0.0, high < 0.0) {
        (true, _) => Ordering::Greater,
        (_, true) => Ordering::Less,
        _ => Ordering::Equal,
    })
}

/// A p-value: `0.027`, `< 0.001`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

fn plus_minus(value: f64) -> String {
    // Rounded first: no "-0.000".
    let thousandths = (value * 1000.0).round();
    let sign = match thousandths {
        t if t > 0.0 => "+",
        t if t < 0.0 => "\u{2212}",
        _ => "",
    };
    format!("{sign}{:.3}", thousandths.abs() / 1000.0)
}

/// Why a metric has no value.
pub fn undefined(row: &Row) -> String {
    match &row.reason {
        Some(reason) if reason != "undefined" => format!("undefined ({reason})"),
        _ => "undefined".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(metric: Metric, value: Option<f64>) -> Row {
        let (series, scope) = (Branch::Fusion.into(), Scope::Mean);
        let cell = Cell { series, scope, metric, subset: Subset::All, split: Split::Test };
        let reason = value.is_none().then(|| "no positives".to_owned());
        Row {
            cell,
            value,
            ci_low: None,
            ci_high: None,
            n_pos: 0,
            n_neg: 3,
            n_unknown: 0,
            undefined_draws: 0,
            reason,
            seeds: None,
        }
    }

    #[test]
    fn a_number_is_there_once() {
        let results = Results::new(vec![row(Metric::Auroc, None), row(Metric::Ece, Some(0.1))]).unwrap();
        let undefined = results.get(Branch::Fusion, Scope::Mean, Metric::Auroc, Split::Test);
        assert_eq!((undefined.value, value(undefined).as_str()), (None, "undefined (no positives)"));
        let twice = Results::new(vec![row(Metric::Ece, None), row(Metric::Ece, Some(0.1))]).unwrap_err().to_string();
        assert_eq!(twice, "two rows for branch fusion, finding mean, metric ece, subset all, split test");
    }

    #[test]
    #[should_panic(expected = "nothing was measured for branch attend, finding mean, metric auroc")]
    fn a_number_that_cannot_be_is_a_bug() {
        let results = Results::new(vec![row(Metric::Auroc, Some(0.8))]).unwrap();
        results.get(Series::Attention, Scope::Mean, Metric::Auroc, Split::Test);
    }
}
