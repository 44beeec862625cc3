//! From three branches' predictions to one table of metrics, and how its cells read.

use cxr::metrics::{Bootstrap, Estimate, Metric, Target};
use cxr::{Finding, Labels, OUTPUTS, Split, output_names};
use tables::metrics::Row;
use tables::predictions;

use crate::Error;

/// The branches, in the order of figures and tables.
pub const BRANCHES: [&str; 3] = ["global", "local", "fusion"];

/// Paired differences: name in `metrics.parquet`, and positions in [`BRANCHES`].
pub const DIFFERENCES: [(&str, usize, usize); 2] = [("fusion-global", 2, 0), ("fusion-local", 2, 1)];

/// `finding` of the mean over the 14.
pub const MEAN: &str = "mean";

/// `metric` that says how many of the 14 findings a mean is over.
pub const DEFINED: &str = "findings_defined";

/// The images of one split with all branches' scores.
#[derive(Debug, Clone, Default)]
pub struct Cohort {
    /// Sorted.
    pub image_ids: Vec<String>,
    /// NIH's patient of each image.
    pub patients: Vec<u32>,
    /// The truth, as reported.
    pub labels: Vec<Labels>,
    /// `[branch][image]`, in the order of [`BRANCHES`].
    pub logits: [Vec<[f32; OUTPUTS]>; 3],
}

impl Cohort {
    /// Joins the branches' predictions of one split by `image_id`; with a limit, the first images only.
    ///
    /// # Errors
    /// [`Error::Images`], [`Error::Labels`]: the branches are not about the same images.
    pub fn join(branches: &[Vec<predictions::Row>; 3], split: Split, limit: Option<usize>) -> Result<Self, Error> {
        let of_split = |branch: usize| {
            let mut rows: Vec<_> = branches[branch].iter().filter(|r| r.split == split).collect();
            rows.sort_by(|a, b| a.image_id.cmp(&b.image_id));
            rows
        };
        let first = of_split(0);
        for (branch, name) in BRANCHES.into_iter().enumerate().skip(1) {
            let other = of_split(branch);
            let ids = |rows: &[&predictions::Row]| -> std::collections::BTreeSet<String> {
                rows.iter().map(|row| row.image_id.clone()).collect()
            };
            let (ours, theirs) = (ids(&first), ids(&other));
            let apart: Vec<&String> = ours.symmetric_difference(&theirs).collect();
            if !apart.is_empty() {
                return Err(Error::Images {
                    split,
                    branches: [BRANCHES[0], name],
                    count: apart.len(),
                    first: list(&apart),
                });
            }
            let differ = |(a, b): &(&&predictions::Row, &&predictions::Row)| {
                a.labels != b.labels || a.patient_id != b.patient_id
            };
            let apart: Vec<&String> = first.iter().zip(&other).filter(differ).map(|(row, _)| &row.image_id).collect();
            if !apart.is_empty() {
                return Err(Error::Labels {
                    split,
                    branches: [BRANCHES[0], name],
                    count: apart.len(),
                    first: list(&apart),
                });
            }
        }
        let n = limit.unwrap_or(usize::MAX).min(first.len());
        let first = &first[..n];
        Ok(Cohort {
            image_ids: first.iter().map(|row| row.image_id.clone()).collect(),
            patients: first.iter().map(|row| row.patient_id).collect(),
            labels: first.iter().map(|row| row.labels).collect(),
            logits: [0, 1, 2].map(|b| of_split(b)[..n].iter().map(|row| row.logits).collect()),
        })
    }

    /// How many different patients.
    pub fn patient_count(&self) -> usize {
        self.patients.iter().collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Images with and without the output (or, for the mean, with any finding).
    fn counts(&self, target: Target) -> (u64, u64) {
        let shows = |labels: &&Labels| match target {
            Target::Output(output) => labels.targets()[output] == 1.0,
            Target::Mean => !labels.no_finding(),
        };
        let positive = self.labels.iter().filter(shows).count();
        (positive as u64, (self.labels.len() - positive) as u64)
    }

    /// Both metrics of the 15 outputs and the mean, for every branch and every difference.
    pub fn measure(&self, split: Split, bootstrap: &Bootstrap) -> Vec<Row> {
        let logits: Vec<&[[f32; OUTPUTS]]> = self.logits.iter().map(Vec::as_slice).collect();
        let measured = bootstrap.run(&logits, &self.labels, &self.patients);
        let names = output_names();
        let targets = (0..OUTPUTS).map(|output| (names[output], Target::Output(output))).chain([(MEAN, Target::Mean)]);
        let mut rows = Vec::new();
        for (finding, target) in targets {
            let (n_pos, n_neg) = self.counts(target);
            let mut push = |branch: &str, metric: &str, estimate: Estimate| {
                rows.push(Row {
                    branch: branch.to_owned(),
                    finding: finding.to_owned(),
                    metric: metric.to_owned(),
                    split,
                    value: estimate.value,
                    ci_low: estimate.low,
                    ci_high: estimate.high,
                    n_pos,
                    n_neg,
                });
            };
            for metric in Metric::ALL {
                for (model, branch) in BRANCHES.into_iter().enumerate() {
                    push(branch, metric.name(), measured.estimate(model, metric, target));
                }
                for (name, model, other) in DIFFERENCES {
                    let estimate = measured.difference(model, other, metric, target);
                    push(name, metric.name(), estimate);
                }
            }
            if target == Target::Mean {
                for (model, branch) in BRANCHES.into_iter().enumerate() {
                    let defined = measured.defined(model, Metric::Auroc) as f64;
                    let value = Some(defined);
                    push(branch, DEFINED, Estimate { value, ..Estimate::default() });
                }
            }
        }
        rows
    }
}

/// The first ten names, for an error.
fn list(names: &[&String]) -> String {
    let first: Vec<&str> = names.iter().take(10).map(|name| name.as_str()).collect();
    first.join(", ")
}

/// Rows of `metrics.parquet`, to look things up in.
#[derive(Debug, Clone, Default)]
pub struct Results(pub Vec<Row>);

impl Results {
    /// The row, if there is one.
    pub fn get(&self, branch: &str, finding: &str, metric: &str, split: Split) -> Option<&Row> {
        self.0
            .iter()
            .find(|row| row.branch == branch && row.finding == finding && row.metric == metric && row.split == split)
    }
}

/// How a finding reads: `Pleural Thickening`, `No Finding`, `Mean`.
pub fn title(snake: &str) -> String {
    match snake {
        "no_finding" => "No Finding".to_owned(),
        MEAN => "Mean".to_owned(),
        crate::localisation::ALL => "All".to_owned(),
        _ => Finding::ALL
            .into_iter()
            .find(|finding| finding.snake() == snake)
            .map_or(snake.to_owned(), |finding| finding.name().replace('_', " ")),
    }
}

/// `0.868`, or why there is no number.
pub fn value(row: &Row) -> String {
    match row.value {
        Some(value) => format!("{value:.3}"),
        None => undefined(row).to_owned(),
    }
}

/// `+0.027`, `−0.004` with a true minus sign, or why there is no number.
pub fn signed(row: &Row) -> String {
    match row.value {
        Some(value) => plus_minus(value),
        None => undefined(row).to_owned(),
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
pub fn undefined(row: &Row) -> &'static str {
    match (row.n_pos, row.n_neg) {
        (0, _) => "undefined (no positives)",
        (_, 0) => "undefined (no negatives)",
        _ => "undefined",
    }
}
