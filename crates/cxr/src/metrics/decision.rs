//! Yes or no: thresholds, and what follows from them.
//!
//! A threshold is chosen on one set of images (validation) and applied to another (test): chosen on the images that
//! are reported on, it flatters.
//!
//! ```
//! use cxr::metrics::decision::{Confusion, Criterion, threshold};
//!
//! let tau = threshold(&[2.0, 1.0, 0.5, -1.0], &[true, true, false, false], Criterion::Youden).unwrap();
//! assert_eq!(tau, 1.0); // positive at and above
//! let test = Confusion::at(tau, &[1.5, 0.0, 3.0], &[true, true, false]);
//! assert_eq!((test.sensitivity(), test.specificity()), (Some(0.5), Some(0.0)));
//! ```

/// What a threshold is best at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[derive(strum::Display, strum::IntoStaticStr, strum::VariantArray, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "snake_case")]
pub enum Criterion {
    /// Youden's J = sensitivity + specificity - 1 (Youden 1950, Cancer 3:32).
    Youden,
    /// F1, the harmonic mean of precision and sensitivity.
    F1,
}

impl Criterion {
    /// Both.
    pub const ALL: [Criterion; 2] = [Criterion::Youden, Criterion::F1];

    fn of(self, confusion: &Confusion) -> Option<f64> {
        match self {
            Criterion::Youden => confusion.youden(),
            Criterion::F1 => confusion.f1(),
        }
    }
}

/// The score at and above which images count as positive so that `criterion` is highest; of equals, the highest.
///
/// `None` if one class is absent or a score is NaN. O(n log n).
///
/// # Panics
/// If the slices differ in length.
pub fn threshold(scores: &[f32], positives: &[bool], criterion: Criterion) -> Option<f32> {
    assert_eq!(scores.len(), positives.len(), "one score per label is needed");
    let with = positives.iter().filter(|&&positive| positive).count() as u64;
    let without = positives.len() as u64 - with;
    if with == 0 || without == 0 || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut order: Vec<(f32, bool)> = scores.iter().copied().zip(positives.iter().copied()).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut best: Option<(f64, f32)> = None;
    let (mut tp, mut fp) = (0, 0);
    for group in order.chunk_by(|a, b| a.0 == b.0) {
        let here = group.iter().filter(|(_, positive)| *positive).count() as u64;
        tp += here;
        fp += group.len() as u64 - here;
        let confusion = Confusion {
            true_positives: tp,
            false_positives: fp,
            false_negatives: with - tp,
            true_negatives: without - fp,
        };
        if let Some(value) = criterion.of(&confusion)
            && best.is_none_or(|(most, _)| value > most)
        {
            best = Some((value, group[0].0));
        }
    }
    best.map(|(_, threshold)| threshold)
}

/// Images by truth and decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confusion {
    /// Positives called positive.
    pub true_positives: u64,
    /// Negatives called positive.
    pub false_positives: u64,
    /// Positives called negative.
    pub false_negatives: u64,
    /// Negatives called negative.
    pub true_negatives: u64,
}

impl Confusion {
    /// Counts; positive is a score at or above the threshold.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn at(threshold: f32, scores: &[f32], positives: &[bool]) -> Confusion {
        assert_eq!(scores.len(), positives.len(), "one score per label is needed");
        let mut confusion = Confusion::default();
        for (&score, &positive) in scores.iter().zip(positives) {
            let count = match (positive, score >= threshold) {
                (true, true) => &mut confusion.true_positives,
                (false, true) => &mut confusion.false_positives,
                (true, false) => &mut confusion.false_negatives,
                (false, false) => &mut confusion.true_negatives,
            };
            *count += 1;
        }
        confusion
    }

    /// Share of the positives that are called positive (recall).
    pub fn sensitivity(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Share of the negatives that are called negative.
    pub fn specificity(&self) -> Option<f64> {
        share(self.true_negatives, self.true_negatives + self.false_positives)
    }

    /// Share of those called positive that are (positive predictive value).
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Harmonic mean of precision and sensitivity.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }

    /// Youden's J.
    pub fn youden(&self) -> Option<f64> {
        Some(self.sensitivity()? + self.specificity()? - 1.0)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
