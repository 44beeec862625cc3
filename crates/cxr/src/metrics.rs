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

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

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
/// Findings with an undefined AUROC are left out, see [`Mean`].
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
    /// Images from the highest score to the lowest.
    order: Vec<Place>,
}

/// One image in a [`Ranking`].
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Its position in the caller's slices, or its unit after [`Ranking::by_unit`].
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
        assert_eq!(scores.len(), positives.len(), "one score per label is needed");
        if scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
        let place = |(rank, &index): (usize, &u32)| Place {
            index,
            positive: positives[index as usize],
            closes: order.get(rank + 1).is_none_or(|&next| scores[next as usize] != scores[index as usize]),
        };
        Some(Ranking { order: order.iter().enumerate().map(place).collect() })
    }

    /// The ranking by one of the 15 outputs; `None` if a score is NaN.
    ///
    /// # Panics
    /// If the slices differ in length or `output` is not below 15.
    pub fn of_output(logits: &[[f32; OUTPUTS]], labels: &[Labels], output: usize) -> Option<Ranking> {
        let scores: Vec<f32> = logits.iter().map(|row| row[output]).collect();
        let positives: Vec<bool> = labels.iter().map(|labels| labels.targets()[output] == 1.0).collect();
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

    /// The same ranking with images known by their unit (patient): `weights` of [`Ranking::weighted`] are then per unit.
    fn by_unit(mut self, unit_of: &[u32]) -> Ranking {
        for place in &mut self.order {
            place.index = unit_of[place.index as usize];
        }
        self
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
                    precision += group_positives as f64 * positives as f64 / (positives + negatives) as f64;
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
        (positives > 0 && negatives > 0)
            .then(|| counts.iter().map(|&(p, n)| (n as f64 / negatives as f64, p as f64 / positives as f64)).collect())
    }

    /// The precision-recall curve, one point per distinct score: `(recall, precision)`, by rising recall, without the
    /// point (0, 1) that scikit-learn adds.
    ///
    /// `None` if one class is absent.
    pub fn pr_curve(&self) -> Option<Vec<(f64, f64)>> {
        let counts = self.counts();
        let &(positives, negatives) = counts.last()?;
        (positives > 0 && negatives > 0).then(|| {
            counts[1..].iter().map(|&(p, n)| (p as f64 / positives as f64, p as f64 / (p + n) as f64)).collect()
        })
    }
}

/// A metric that [`Bootstrap`] follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// See [`auroc`].
    Auroc,
    /// See [`average_precision`].
    AveragePrecision,
}

impl Metric {
    /// Both.
    pub const ALL: [Metric; 2] = [Metric::Auroc, Metric::AveragePrecision];

    /// snake_case, as `metrics.parquet` has it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Auroc => "auroc",
            Metric::AveragePrecision => "average_precision",
        }
    }

    fn of(self, scores: Scores) -> Option<f64> {
        match self {
            Metric::Auroc => scores.auroc,
            Metric::AveragePrecision => scores.average_precision,
        }
    }
}

/// What a metric is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One of the 15 outputs.
    Output(usize),
    /// The mean over the 14 findings, see [`Mean`].
    Mean,
}

/// A value and its percentile interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// On the images as they are.
    pub value: Option<f64>,
    /// Lower end; `None` where there is no interval to speak of (see [`Bootstrap`]).
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// A bootstrap over patients: how much the metrics would vary with other patients.
///
/// One draw takes as many patients as there are, with replacement, each with all their images (images of one patient
/// are alike, so drawing images would make the interval too narrow). All models are measured on the same draws: the
/// interval of a difference is the interval of the paired differences.
///
/// A draw without a positive (or negative) leaves that finding undefined and is left out of its interval; the mean of
/// that draw is over the others. Where more than a tenth of the draws are undefined, which happens with fewer than
/// about three patients of one class, there is no interval: it would only tell how the other class varies.
///
/// Draw `d` uses stream `d` of ChaCha8 under the seed, so results depend neither on the number of threads nor on what
/// else is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Number of draws; 0 gives values without intervals.
    pub draws: usize,
    /// Share of the draws inside the interval, e.g. 0.95.
    pub confidence: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// Both metrics for the 15 outputs and the mean, of one model on one draw.
type Measured = [[Option<f64>; OUTPUTS + 1]; 2];

/// What [`Bootstrap::run`] found: per model, the values and their draws.
#[derive(Debug, Clone)]
pub struct Resampled {
    confidence: f64,
    /// `[model]`
    values: Vec<Measured>,
    /// `[draw][model]`
    draws: Vec<Vec<Measured>>,
}

impl Bootstrap {
    /// Measures models on the same images: `logits[model][image]`.
    ///
    /// O(models x 15 x images) per draw, parallel over draws.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn run(&self, logits: &[&[[f32; OUTPUTS]]], labels: &[Labels], patients: &[u32]) -> Resampled {
        assert_eq!(labels.len(), patients.len(), "one patient per image");
        let (unit_of, units) = units(patients);
        let rankings: Vec<Vec<Option<Ranking>>> = logits
            .par_iter()
            .map(|logits| {
                (0..OUTPUTS).map(|output| Some(Ranking::of_output(logits, labels, output)?.by_unit(&unit_of))).collect()
            })
            .collect();
        let measure = |weights: &[u32]| -> Vec<Measured> {
            rankings.iter().map(|outputs| measure_all(outputs, weights)).collect()
        };
        let draws = (0..self.draws as u64).into_par_iter().map(|draw| measure(&self.weights(draw, units)));
        Resampled { confidence: self.confidence, draws: draws.collect(), values: measure(&vec![1; units]) }
    }

    /// The mean of `values`, one per image or per box, with its interval.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn mean(&self, values: &[f64], patients: &[u32]) -> Estimate {
        assert_eq!(values.len(), patients.len(), "one patient per value");
        let (unit_of, units) = units(patients);
        let mut sums = vec![(0.0, 0.0); units];
        for (&value, &unit) in values.iter().zip(&unit_of) {
            let (sum, count) = &mut sums[unit as usize];
            *sum += value;
            *count += 1.0;
        }
        let mean = |weights: &[u32]| -> Option<f64> {
            let (mut sum, mut count) = (0.0, 0.0);
            for (&weight, &(unit_sum, unit_count)) in weights.iter().zip(&sums) {
                sum += f64::from(weight) * unit_sum;
                count += f64::from(weight) * unit_count;
            }
            (count > 0.0).then(|| sum / count)
        };
        let draws = (0..self.draws as u64).into_par_iter().map(|draw| mean(&self.weights(draw, units)));
        estimate(mean(&vec![1; units]), draws.collect(), self.confidence)
    }

    /// How often draw `draw` takes each of `units` patients.
    fn weights(&self, draw: u64, units: usize) -> Vec<u32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(draw);
        let mut weights = vec![0; units];
        for _ in 0..units {
            weights[rng.random_range(0..units)] += 1;
        }
        weights
    }
}

fn measure_all(outputs: &[Option<Ranking>], weights: &[u32]) -> Measured {
    let mut measured = Measured::default();
    for (output, ranking) in outputs.iter().enumerate() {
        let scores = ranking.as_ref().map(|ranking| ranking.weighted(weights)).unwrap_or_default();
        for metric in Metric::ALL {
            measured[metric as usize][output] = metric.of(scores);
        }
    }
    for row in &mut measured {
        row[OUTPUTS] = Mean::of(row[..Finding::COUNT].iter().copied()).value;
    }
    measured
}

impl Resampled {
    /// A model's metric.
    pub fn estimate(&self, model: usize, metric: Metric, target: Target) -> Estimate {
        self.follow(|models| pick(models, model, metric, target))
    }

    /// By how much `model` beats `other`, on the same draws.
    pub fn difference(&self, model: usize, other: usize, metric: Metric, target: Target) -> Estimate {
        self.follow(|models| Some(pick(models, model, metric, target)? - pick(models, other, metric, target)?))
    }

    /// How many of the 14 findings a model's mean is over.
    pub fn defined(&self, model: usize, metric: Metric) -> usize {
        let findings = &self.values[model][metric as usize][..Finding::COUNT];
        findings.iter().flatten().count()
    }

    fn follow(&self, quantity: impl Fn(&[Measured]) -> Option<f64>) -> Estimate {
        let draws = self.draws.iter().map(|draw| quantity(draw)).collect();
        estimate(quantity(&self.values), draws, self.confidence)
    }
}

/// Each image's patient as a number from 0, and how many there are.
fn units(patients: &[u32]) -> (Vec<u32>, usize) {
    let mut known = patients.to_vec();
    known.sort_unstable();
    known.dedup();
    let unit = |patient: &u32| known.partition_point(|other| other < patient) as u32;
    (patients.iter().map(unit).collect(), known.len())
}

/// The percentile interval of those draws that are defined.
fn estimate(value: Option<f64>, draws: Vec<Option<f64>>, confidence: f64) -> Estimate {
    let mut defined: Vec<f64> = draws.iter().flatten().copied().collect();
    if value.is_none() || defined.is_empty() || defined.len() * 10 < draws.len() * 9 {
        return Estimate { value, ..Estimate::default() };
    }
    defined.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Estimate { value, low: Some(quantile(&defined, tail)), high: Some(quantile(&defined, 1.0 - tail)) }
}

fn pick(models: &[Measured], model: usize, metric: Metric, target: Target) -> Option<f64> {
    let column = match target {
        Target::Output(output) => output,
        Target::Mean => OUTPUTS,
    };
    models[model][metric as usize][column]
}

/// The `q` quantile of sorted values, linear between neighbours (NumPy's default).
///
/// # Panics
/// If `sorted` is empty.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests;
