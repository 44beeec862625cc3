//! The table of metrics: looking things up, and how its cells read.

use cxr::{Finding, Split};
use tables::metrics::Row;

use crate::measure::{ALL, MEAN};

/// Rows of `metrics.parquet`, to look things up in.
#[derive(Debug, Clone, Default)]
pub struct Results(pub Vec<Row>);

impl Results {
    /// The row on all images, if there is one.
    pub fn get(&self, branch: &str, finding: &str, metric: &str, split: Split) -> Option<&Row> {
        self.of_subset(branch, finding, metric, ALL, split)
    }

    /// The row, if there is one.
    pub fn of_subset(&self, branch: &str, finding: &str, metric: &str, subset: &str, split: Split) -> Option<&Row> {
        self.0.iter().find(|row| {
            row.branch == branch
                && row.finding == finding
                && row.metric == metric
                && row.subset == subset
                && row.split == split
        })
    }

    /// Names of the subsets of images, `all` first, in the order of the table.
    pub fn subsets(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for row in self.0.iter().filter(|row| !row.subset.starts_with("attend.")) {
            if !names.contains(&row.subset) {
                names.push(row.subset.clone());
            }
        }
        names
    }
}

/// How a finding reads: `Pleural Thickening`, `No Finding`, `Mean`.
pub fn title(snake: &str) -> String {
    match snake {
        "no_finding" => "No Finding".to_owned(),
        MEAN => "Mean".to_owned(),
        ALL => "All".to_owned(),
        _ => Finding::ALL
            .into_iter()
            .find(|finding| finding.snake() == snake)
            .map_or(snake.to_owned(), |finding| finding.name().replace('_', " ")),
    }
}

/// How a subset reads: `All images`, `Women`, `40-59 years`, `AP view`.
pub fn subset_title(subset: &str) -> String {
    match subset.split_once('=') {
        Some(("sex", "F")) => "Women".to_owned(),
        Some(("sex", "M")) => "Men".to_owned(),
        Some(("age", band)) => format!("{} years", band.replace('-', "\u{2013}")),
        Some(("view", view)) => format!("{view} view"),
        _ => "All images".to_owned(),
    }
}

/// `0.868`, or why there is no number.
pub fn value(row: &Row) -> String {
    match row.value {
        Some(value) => format!("{value:.3}"),
        None => undefined(row),
    }
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
