//! From logits to answers: calibrated probabilities, calls, and abstentions, all fitted on validation images.

use cxr::metrics::Known;
use cxr::metrics::calibration::{sigmoid, temperature};
use cxr::metrics::decision::{Criterion, threshold};
use cxr::{Labels, OUTPUTS};
use serde::{Deserialize, Serialize};

/// What turns the fusion branch's logits into probabilities and calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// All logits are divided by it before the sigmoid (Guo et al., ICML 2017); `None` where no temperature is best.
    pub temperature: Option<f64>,
    /// What the thresholds are best at.
    pub criterion: Criterion,
    /// A finding is called where its logit is at or above this, in output order; `None` without validation images of both
    /// kinds.
    pub thresholds: [Option<f32>; OUTPUTS],
}

impl Decision {
    /// Chooses temperature and thresholds on validation images.
    pub fn fit(logits: &[[f32; OUTPUTS]], labels: &[Labels], criterion: Criterion) -> Decision {
        let pairs = logits.iter().zip(labels).flat_map(|(row, labels)| row.iter().copied().zip(labels.outputs()));
        let known = pairs.filter_map(|(logit, shown)| Some((f64::from(logit), shown?)));
        let (scores, truth): (Vec<f64>, Vec<bool>) = known.unzip();
        let chosen = |output: usize| {
            let known = Known::of(labels, output);
            threshold(&known.scores(logits), &known.truth, criterion)
        };
        Decision { temperature: temperature(&scores, &truth), criterion, thresholds: std::array::from_fn(chosen) }
    }

    /// The probability after calibration, 0 to 1.
    pub fn calibrated(&self, logit: f32) -> f32 {
        sigmoid(f64::from(logit) / self.temperature.unwrap_or(1.0)) as f32
    }

    /// Whether each finding is called; `None` where there is no threshold.
    pub fn calls(&self, logits: &[f32; OUTPUTS]) -> [Option<bool>; OUTPUTS] {
        std::array::from_fn(|output| self.thresholds[output].map(|threshold| logits[output] >= threshold))
    }
}

/// What is said about a finding at a stated error rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Verdict {
    /// It is there.
    Present,
    /// It is not.
    Absent,
    /// Neither can be said at this error rate.
    Abstain,
}

/// The fusion branch's logits on validation images, by truth: what conformal prediction compares a new logit with.
#[derive(Debug, Clone, PartialEq)]
pub struct Conformal {
    /// By output: the logits of images that show it, and of those that do not, rising.
    scores: [[Vec<f32>; 2]; OUTPUTS],
}

impl Conformal {
    /// Sorts the validation images' logits by what they show.
    pub fn fit(logits: &[[f32; OUTPUTS]], labels: &[Labels]) -> Conformal {
        let scores = |output: usize| {
            let of = |wanted: bool| {
                let rows = logits.iter().zip(labels).filter(|(_, labels)| labels.outputs()[output] == Some(wanted));
                let mut scores: Vec<f32> = rows.map(|(row, _)| row[output]).collect();
                scores.sort_by(f32::total_cmp);
                scores
            };
            [of(true), of(false)]
        };
        Conformal { scores: std::array::from_fn(scores) }
    }

    /// The verdict on every finding, by split conformal prediction with one quantile per class (Vovk, Conditional validity
    /// of inductive conformal predictors, ACML 2012): of images that show a finding, at most `error` get
    /// [`Verdict::Absent`], and the other way round, as long as they are drawn like the validation images.
    ///
    /// `None` where validation lacks one class.
    pub fn verdicts(&self, logits: &[f32; OUTPUTS], error: f64) -> [Option<Verdict>; OUTPUTS] {
        std::array::from_fn(|output| {
            let [positives, negatives] = &self.scores[output];
            if positives.is_empty() || negatives.is_empty() {
                return None;
            }
            let logit = logits[output];
            // How unusual the logit would be for an image of either class; at most the error rate is too unusual.
            let lower = positives.partition_point(|&score| score <= logit);
            let higher = negatives.len() - negatives.partition_point(|&score| score < logit);
            let plausible = |as_extreme: usize, all: usize| (as_extreme + 1) as f64 / (all + 1) as f64 > error;
            Some(match (plausible(lower, positives.len()), plausible(higher, negatives.len())) {
                (true, false) => Verdict::Present,
                (false, true) => Verdict::Absent,
                _ => Verdict::Abstain,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images of which every second shows everything; logits scatter around ±1.
    fn images(count: usize, seed: u32) -> (Vec<[f32; OUTPUTS]>, Vec<Labels>) {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let image = |i: usize| {
            let shift = if i.is_multiple_of(2) { 1.0 } else { -1.0 };
            let mut logits = [0.0; OUTPUTS];
            logits.iter_mut().for_each(|logit| *logit = shift + 2.0 * draw());
            logits[OUTPUTS - 1] *= -1.0;
            let labels = if i.is_multiple_of(2) { cxr::Finding::ALL.into_iter().collect() } else { Labels::default() };
            (logits, labels)
        };
        (0..count).map(image).unzip()
    }

    #[test]
    fn conformal_verdicts_keep_their_error_rate() {
        let (logits, labels) = images(1000, 1);
        let conformal = Conformal::fit(&logits, &labels);
        let (new, truth) = images(4000, 2);
        for error in [0.05, 0.1, 0.2] {
            let (mut wrong, mut positives, mut abstained) = (0, 0, 0);
            for (row, labels) in new.iter().zip(&truth) {
                let verdict = conformal.verdicts(row, error)[3].unwrap();
                abstained += usize::from(verdict == Verdict::Abstain);
                if labels.outputs()[3] == Some(true) {
                    positives += 1;
                    wrong += usize::from(verdict == Verdict::Absent);
                }
            }
            let rate = wrong as f64 / positives as f64;
            assert!(rate <= error + 0.02, "{rate} of the positives are called absent at {error}");
            assert!(abstained > 0, "logits that overlap decide everything at {error}");
        }
        // Without validation images of both classes nothing can be said.
        let one = Conformal::fit(&logits[..1], &labels[..1]);
        assert_eq!(one.verdicts(&logits[0], 0.1), [None; OUTPUTS]);
    }

    #[test]
    fn calls_are_the_reports_thresholds() {
        let (logits, labels) = images(300, 3);
        let decision = Decision::fit(&logits, &labels, Criterion::Youden);
        let scores: Vec<f32> = logits.iter().map(|row| row[2]).collect();
        let positives: Vec<bool> = labels.iter().map(|labels| labels.outputs()[2] == Some(true)).collect();
        assert_eq!(decision.thresholds[2], threshold(&scores, &positives, Criterion::Youden));
        let level = decision.thresholds[2].unwrap();
        let mut row = [0.0; OUTPUTS];
        row[2] = level;
        assert_eq!(decision.calls(&row)[2], Some(true));
        row[2] = level - 1e-3;
        assert_eq!(decision.calls(&row)[2], Some(false));
        assert!(decision.temperature.unwrap() > 0.0);
        assert_eq!(decision.calibrated(0.0), 0.5);
    }
}
