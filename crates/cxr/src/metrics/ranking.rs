//! How well scores rank images: AUROC, average precision, and the curves they summarise.
//!
//! Logits and probabilities give the same values. Equal scores are one group: AUROC counts a tied pair as half,
//! average precision sees the group as one threshold (scikit-learn's definitions, to which the tests compare).
//!
//! The cost is one sort per ranking. A bootstrap draw re-weights the sorted images instead of copying and sorting
//! them, and many draws are weighed in one pass.

use crate::metrics::known::Known;
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
    Ranking::new(scores, positives)?.unweighted().average_precision
}

/// The mean AUROC over the 14 findings of rows of 15 outputs; "No Finding" does not count.
///
/// Findings with an undefined AUROC are left out, see [`Mean`]; an image whose label of a finding is unknown is left out
/// for that finding.
///
/// # Panics
/// If the slices differ in length.
pub fn mean_auroc(logits: &[[f32; OUTPUTS]], labels: &[Labels]) -> Mean {
    Mean::of((0..Finding::COUNT).map(|output| Ranking::of_output(logits, labels, output)?.unweighted().auroc))
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
        Mean { value: (defined > 0).then(|| sum / defined as f64), defined }
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
    /// Negatives from the highest score to the lowest, as positions in the caller's slices.
    negatives: Vec<u32>,
    /// Positives, likewise.
    positives: Vec<u32>,
    /// What lies between two thresholds at which a positive is.
    steps: Vec<Step>,
}

/// A group of equal scores with a positive in it, and the negatives above it.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Negatives since the group before.
    above: u32,
    /// Positives of the group, at least one.
    positives: u32,
    /// Negatives of the group.
    tied: u32,
}

impl Ranking {
    /// Sorts by score; `None` if a score is NaN.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn new(scores: &[f32], positives: &[bool]) -> Option<Ranking> {
        assert_eq!(scores.len(), positives.len(), "one score per label is needed");
        if scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
        let mut ranking = Ranking { negatives: Vec::new(), positives: Vec::new(), steps: Vec::new() };
        let mut above = 0;
        for group in order.chunk_by(|&a, &b| scores[a as usize] == scores[b as usize]) {
            let (with, without): (Vec<u32>, Vec<u32>) = group.iter().partition(|&&image| positives[image as usize]);
            ranking.positives.extend(&with);
            ranking.negatives.extend(&without);
            if with.is_empty() {
                above += without.len() as u32;
            } else {
                ranking.steps.push(Step { above, positives: with.len() as u32, tied: without.len() as u32 });
                above = 0;
            }
        }
        Some(ranking)
    }

    /// The ranking by one of the 15 outputs of those images whose label is known; `None` if a score is NaN.
    ///
    /// # Panics
    /// If the slices differ in length or `output` is not below 15.
    pub fn of_output(logits: &[[f32; OUTPUTS]], labels: &[Labels], output: usize) -> Option<Ranking> {
        assert_eq!(logits.len(), labels.len(), "one row of logits per image is needed");
        let known = Known::of(labels, output);
        Ranking::new(&known.scores(logits), &known.truth)
    }

    /// Positives and negatives.
    pub fn counts(&self) -> (usize, usize) {
        (self.positives.len(), self.negatives.len())
    }

    /// Both metrics, each image counting once.
    pub fn unweighted(&self) -> Scores {
        let [scores] = self.measure(|_| &[1]);
        scores
    }

    /// Both metrics, image `i` counting `weights[i]` times: as if it stood in the data so often.
    ///
    /// # Panics
    /// If `weights` is shorter than the data.
    pub fn weighted(&self, weights: &[u16]) -> Scores {
        let [scores] = self.measure(|image| std::array::from_ref(&weights[image as usize]));
        scores
    }

    /// Both metrics under `L` weightings at once, in one pass from the highest score down.
    ///
    /// All sums but average precision's are whole numbers, hence exact. Between two positives a negative is only
    /// counted, `L` weights in a few instructions; area and precision move at positives, which are rare.
    pub(crate) fn measure<'w, const L: usize>(&self, weights: impl Fn(u32) -> &'w [u16; L]) -> [Scores; L] {
        let mut twice_area = [0_u64; L]; // under the curve of positives over negatives, in half pairs
        let mut precision = [0.0_f64; L]; // sum of precision x positives at each threshold
        let [mut positives, mut negatives] = [[0_u32; L]; 2]; // so far
        let count = |images: &[u32], counts: &mut [u32; L]| {
            // A copy, so that the sums stay in registers.
            let mut sums = *counts;
            for &image in images {
                for (sum, &weight) in sums.iter_mut().zip(weights(image)) {
                    *sum += u32::from(weight);
                }
            }
            *counts = sums;
        };
        let (mut with, mut without) = (&self.positives[..], &self.negatives[..]);
        for step in &self.steps {
            count(next(&mut without, step.above), &mut negatives);
            let [mut group_positives, mut group_negatives] = [[0_u32; L]; 2];
            count(next(&mut with, step.positives), &mut group_positives);
            count(next(&mut without, step.tied), &mut group_negatives);
            for lane in 0..L {
                let [here, tied] = [group_positives[lane], group_negatives[lane]];
                // Every pair of one of these positives with a negative above it is in the wrong order.
                twice_area[lane] += u64::from(here) * (2 * u64::from(negatives[lane]) + u64::from(tied));
                positives[lane] += here;
                negatives[lane] += tied;
                if here > 0 {
                    let share = f64::from(positives[lane]) / f64::from(positives[lane] + negatives[lane]);
                    precision[lane] += f64::from(here) * share;
                }
            }
        }
        count(without, &mut negatives);
        std::array::from_fn(|lane| {
            let (positives, negatives) = (f64::from(positives[lane]), f64::from(negatives[lane]));
            if positives == 0.0 || negatives == 0.0 {
                return Scores::default();
            }
            let pairs = 2.0 * positives * negatives;
            Scores {
                auroc: Some((pairs - twice_area[lane] as f64) / pairs),
                average_precision: Some(precision[lane] / positives),
            }
        })
    }

    /// Images counted by class up to each threshold, from the highest: `(positives, negatives)`, starting at (0, 0).
    /// Thresholds between two positives are left out but for the lowest of them, so straight lines keep their ends.
    fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut counts = vec![(0, 0)];
        let (mut positives, mut negatives) = (0, 0);
        for step in &self.steps {
            if step.above > 0 {
                negatives += u64::from(step.above);
                counts.push((positives, negatives));
            }
            positives += u64::from(step.positives);
            negatives += u64::from(step.tied);
            counts.push((positives, negatives));
        }
        if negatives < self.negatives.len() as u64 {
            counts.push((positives, self.negatives.len() as u64));
        }
        counts
    }

    /// The ROC curve: `(false positive rate, true positive rate)`, from (0, 0) to (1, 1), at every threshold where it
    /// turns.
    ///
    /// `None` if one class is absent.
    pub fn roc_curve(&self) -> Option<Vec<(f64, f64)>> {
        let (positives, negatives) = self.counts();
        let point = |&(p, n): &(u64, u64)| (n as f64 / negatives as f64, p as f64 / positives as f64);
        (positives > 0 && negatives > 0).then(|| self.cumulative().iter().map(point).collect())
    }

    /// The precision-recall curve: `(recall, precision)` by rising recall, at every threshold where recall rises, and
    /// the lowest precision before the next; without the point (0, 1) that scikit-learn adds.
    ///
    /// `None` if one class is absent.
    pub fn pr_curve(&self) -> Option<Vec<(f64, f64)>> {
        let (positives, negatives) = self.counts();
        let point = |&(p, n): &(u64, u64)| (p as f64 / positives as f64, p as f64 / (p + n) as f64);
        (positives > 0 && negatives > 0).then(|| self.cumulative()[1..].iter().map(point).collect())
    }
}

/// Takes the first `n` images off.
fn next<'i>(images: &mut &'i [u32], n: u32) -> &'i [u32] {
    images.split_off(..n as usize).unwrap_or_default()
}
