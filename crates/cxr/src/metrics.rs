//! How well scores rank images: ROC and precision-recall, with intervals from a bootstrap over patients.
//!
//! Every metric depends on the order of the scores only, so logits and probabilities give the same values.
//! Equal scores are one group: AUROC counts a tied pair as half, average precision sees the group as one threshold
//! (scikit-learn's definitions, to which the tests compare).
//!
//! A metric that does not exist is `None`, never 0.5: one class is absent, or a score is NaN.
//!
//! The cost is one sort per ranking. A bootstrap draw re-weights the sorted images instead of copying and sorting
//! them, which is O(n) (see [`Ranking::weighted`]).
//!
//! ```
//! use cxr::metrics::{auroc, average_precision};
//!
//! let scores = [0.9, 0.8, 0.7, 0.1];
//! let positives = [true, false, true, false];
//! assert_eq!(auroc(&scores, &positives), Some(0.75)); // three of the four pairs are in order
//! assert_eq!(average_precision(&scores, &positives), Some(0.5 * 1.0 + 0.5 * 2.0 / 3.0));
//! assert_eq!(auroc(&scores, &[false; 4]), None);
//! ```

use crate::{Finding, Labels, OUTPUTS};

/// Area under the ROC curve: the share of pairs (positive, negative) that the scores order rightly, ties half.
///
/// `None` if one class is absent or a score is NaN. O(n log n).
///
/// # Panics
/// If the slices differ in length.
pub fn auroc(scores: &[f32], positives: &[bool]) -> Option<f64> {
    Ranking::new(scores, positives)?.unweighted().auroc
}

/// Average precision: the precision at each threshold, weighted by the recall gained there; no interpolation
/// (scikit-learn's `average_precision_score`).
///
/// `None` if there is no positive (scikit-learn warns and says 0), no negative (it would be 1 for any scores), or a
/// score is NaN. O(n log n).
///
/// # Panics
/// If the slices differ in length.
pub fn average_precision(scores: &[f32], positives: &[bool]) -> Option<f64> {
    Ranking::new(scores, positives)?
        .unweighted()
        .average_precision
}

/// The mean AUROC over the 14 findings of rows of 15 outputs; "No Finding" does not count.
///
/// Findings with an undefined AUROC are left out, see [`Mean`].
///
/// # Panics
/// If the slices differ in length.
pub fn mean_auroc(logits: &[[f32; OUTPUTS]], labels: &[Labels]) -> Mean {
    Mean::of((0..Finding::COUNT).map(|output| {
        Ranking::of_output(logits, labels, output)?
            .unweighted()
            .auroc
    }))
}

/// A mean over those findings whose metric is defined.
///
/// A small test set has findings without a positive image (Hernia is in 0.2 % of NIH's). Dropping them, and saying how
/// many remain, keeps the mean usable there; two means compare only if they are over the same findings, which holds
/// for any two models on the same images, since labels alone decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean; `None` if no finding is defined.
    pub value: Option<f64>,
    /// How many findings it is over.
    pub defined: usize,
}

impl Mean {
    /// The mean of those values that are defined.
    pub fn of(values: impl IntoIterator<Item = Option<f64>>) -> Mean {
        let (mut sum, mut defined) = (0.0, 0);
        for value in values.into_iter().flatten() {
            sum += value;
            defined += 1;
        }
        Mean {
            value: (defined > 0).then(|| sum / defined as f64),
            defined,
        }
    }
}

/// Both metrics of one ranking.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scores {
    /// Area under the ROC curve.
    pub auroc: Option<f64>,
    /// Average precision.
    pub average_precision: Option<f64>,
}

/// Images sorted by score, once, for any number of metrics and re-weightings.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Images from the highest score to the lowest.
    order: Vec<Place>,
}

/// One image in a [`Ranking`].
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Its position in the caller's slices.
    index: u32,
    positive: bool,
    /// The last image of its group of equal scores.
    closes: bool,
}

impl Ranking {
    /// Sorts by score; `None` if a score is NaN.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn new(scores: &[f32], positives: &[bool]) -> Option<Ranking> {
        assert_eq!(
            scores.len(),
            positives.len(),
            "one score per label is needed"
        );
        if scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| {
            scores[b as usize]
                .total_cmp(&scores[a as usize])
                .then(a.cmp(&b))
        });
        let place = |(rank, &index): (usize, &u32)| Place {
            index,
            positive: positives[index as usize],
            closes: order
                .get(rank + 1)
                .is_none_or(|&next| scores[next as usize] != scores[index as usize]),
        };
        Some(Ranking {
            order: order.iter().enumerate().map(place).collect(),
        })
    }

    /// The ranking by one of the 15 outputs; `None` if a score is NaN.
    ///
    /// # Panics
    /// If the slices differ in length or `output` is not below 15.
    pub fn of_output(
        logits: &[[f32; OUTPUTS]],
        labels: &[Labels],
        output: usize,
    ) -> Option<Ranking> {
        let scores: Vec<f32> = logits.iter().map(|row| row[output]).collect();
        let positives: Vec<bool> = labels
            .iter()
            .map(|labels| labels.targets()[output] == 1.0)
            .collect();
        Ranking::new(&scores, &positives)
    }

    /// Both metrics, each image counting once.
    pub fn unweighted(&self) -> Scores {
        self.measure(|_| 1)
    }

    /// Both metrics, image `i` counting `weights[i]` times: as if it stood in the data so often.
    ///
    /// # Panics
    /// If `weights` is shorter than the data.
    pub fn weighted(&self, weights: &[u32]) -> Scores {
        self.measure(|index| weights[index as usize])
    }

    /// One pass from the highest score down. All sums but average precision's are whole numbers, hence exact.
    fn measure(&self, weight: impl Fn(u32) -> u32) -> Scores {
        let mut twice_area = 0_u64; // under the curve of positives over negatives, in half pairs
        let mut precision = 0.0_f64; // sum of precision x positives at each threshold
        let [mut positives, mut negatives] = [0_u64; 2]; // so far
        let [mut group_positives, mut group_negatives] = [0_u64; 2];
        for place in &self.order {
            let weight = u64::from(weight(place.index));
            if place.positive {
                group_positives += weight;
            } else {
                group_negatives += weight;
            }
            if place.closes {
                twice_area += group_negatives * (2 * positives + group_positives);
                positives += group_positives;
                negatives += group_negatives;
                if group_positives > 0 {
                    precision +=
                        group_positives as f64 * positives as f64 / (positives + negatives) as f64;
                }
                [group_positives, group_negatives] = [0; 2];
            }
        }
        if positives == 0 || negatives == 0 {
            return Scores::default();
        }
        Scores {
            auroc: Some(twice_area as f64 / (2.0 * positives as f64 * negatives as f64)),
            average_precision: Some(precision / positives as f64),
        }
    }

    /// Images counted by class up to each threshold, from the highest: `(positives, negatives)`, starting at (0, 0).
    fn counts(&self) -> Vec<(u64, u64)> {
        let mut counts = vec![(0, 0)];
        let (mut positives, mut negatives) = (0, 0);
        for place in &self.order {
            if place.positive {
                positives += 1;
            } else {
                negatives += 1;
            }
            if place.closes {
                counts.push((positives, negatives));
            }
        }
        counts
    }

    /// The ROC curve, one point per distinct score: `(false positive rate, true positive rate)`, from (0, 0) to (1, 1).
    ///
    /// `None` if one class is absent.
    pub fn roc_curve(&self) -> Option<Vec<(f64, f64)>> {
        let counts = self.counts();
        let &(positives, negatives) = counts.last()?;
        (positives > 0 && negatives > 0).then(|| {
            counts
                .iter()
                .map(|&(p, n)| (n as f64 / negatives as f64, p as f64 / positives as f64))
                .collect()
        })
    }

    /// The precision-recall curve, one point per distinct score: `(recall, precision)`, by rising recall, without the
    /// point (0, 1) that scikit-learn adds.
    ///
    /// `None` if one class is absent.
    pub fn pr_curve(&self) -> Option<Vec<(f64, f64)>> {
        let counts = self.counts();
        let &(positives, negatives) = counts.last()?;
        (positives > 0 && negatives > 0).then(|| {
            counts[1..]
                .iter()
                .map(|&(p, n)| (p as f64 / positives as f64, p as f64 / (p + n) as f64))
                .collect()
        })
    }
}
