//! What a training minimises.

use candle_core::Tensor;
use cxr::{Labels, OUTPUTS};
use ops::{ClassWeights, Focus};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::layers::share::Share;

/// The loss of an output, on its logit; of several, it is the mean over those whose label is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Loss {
    /// Binary cross-entropy.
    #[default]
    Bce,
    /// Binary cross-entropy, where positives and negatives weigh one over their share of the batch's known labels: W-CEL
    /// (Wang et al., CVPR 2017, equation 1, <https://arxiv.org/abs/1705.02315>), whose sum is a mean here.
    Weighted,
    /// The focal loss (Lin et al., ICCV 2017, equation 5, <https://arxiv.org/abs/1708.02002>).
    Focal {
        /// Weight of positives; negatives weigh the rest to 1.
        alpha: f64,
        /// Exponent of the probability that the other class has.
        gamma: f64,
    },
    /// The asymmetric loss (Ridnik et al., ICCV 2021, equation 7, <https://arxiv.org/abs/2009.14119>).
    Asymmetric {
        /// Exponent of positives.
        gamma_positive: f64,
        /// Exponent of negatives.
        gamma_negative: f64,
        /// Negatives of at most this probability cost nothing.
        clip: f64,
    },
}

/// A loss, and how far its targets are moved towards one half.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Objective {
    /// The loss.
    pub loss: Loss,
    /// A label `y` becomes `y (1 - smoothing) + smoothing / 2` (Szegedy et al., CVPR 2016, section 7, with two classes).
    pub smoothing: f64,
}

impl Objective {
    /// The weighting of the cross-entropy; `None` for the plain one.
    fn focus(self) -> Option<Focus> {
        let Objective { loss, smoothing } = self;
        let plain = Focus { smoothing, ..Focus::NONE };
        match loss {
            Loss::Bce if smoothing == 0.0 => None,
            Loss::Bce => Some(plain),
            Loss::Weighted => Some(Focus { weights: ClassWeights::Counted, ..plain }),
            Loss::Focal { alpha, gamma } => Some(Focus {
                weights: ClassWeights::Fixed([alpha, 1.0 - alpha]),
                gamma_positive: gamma,
                gamma_negative: gamma,
                ..plain
            }),
            Loss::Asymmetric { gamma_positive, gamma_negative, clip } => {
                Some(Focus { gamma_positive, gamma_negative, shift: clip, ..plain })
            }
        }
    }

    /// The mean loss of a batch, a scalar, and its gradient with respect to the logits.
    ///
    /// # Shapes
    /// `logits` and `targets` `[N, 15]`; a target is 0 or 1, or below 0 where nobody knows.
    ///
    /// # Errors
    /// Other shapes.
    pub fn of(self, logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(match self.focus() {
            None => ops::bce_with_logits(logits, targets)?,
            Some(focus) => ops::focused_bce_with_logits(logits, targets, &focus)?,
        })
    }

    /// As [`Objective::of`], of the share of a batch that is here: over all ranks, the losses add up to the mean loss of the
    /// whole batch, and so do their gradients.
    pub(crate) fn of_share(self, logits: &Tensor, targets: &Tensor, share: Option<&Share>) -> Result<(Tensor, Tensor)> {
        let Some(share) = share else { return self.of(logits, targets) };
        let (loss, slope) = match self.focus() {
            Some(focus) if focus.weights == ClassWeights::Counted => {
                let weights = ClassWeights::Whole(focus.weights(share.counts()));
                ops::focused_bce_with_logits(logits, targets, &Focus { weights, ..focus })?
            }
            _ => self.of(logits, targets)?,
        };
        Ok(((loss * share.of_known())?, (slope * share.of_known())?))
    }
}

/// A loss in f64, averaged over those outputs of all images that are known: the validation loss. `None` where none is.
/// The weights of [`Loss::Weighted`] are counted over all of them.
pub fn mean_loss(loss: Loss, logits: &[[f32; OUTPUTS]], labels: &[Labels]) -> Option<f64> {
    let truth = || labels.iter().flat_map(|labels| labels.outputs());
    let focus = Objective { loss, smoothing: 0.0 }.focus();
    let positives = truth().filter(|shown| *shown == Some(true)).count();
    let negatives = truth().filter(|shown| *shown == Some(false)).count();
    let weights = focus.map(|focus| (focus, focus.weights([positives, negatives])));
    let (mut sum, mut known) = (0.0, 0);
    for (&logit, shown) in logits.as_flattened().iter().zip(truth()) {
        let Some(shown) = shown else { continue };
        let (logit, target) = (f64::from(logit), f64::from(u8::from(shown)));
        sum += match weights {
            None => logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p(),
            Some((focus, weights)) => focus.term(weights, logit, target).0,
        };
        known += 1;
    }
    (known > 0).then(|| sum / f64::from(known))
}

#[cfg(test)]
mod tests {
    use cxr::Finding;

    use super::*;

    #[test]
    fn the_loss_is_over_what_is_known() {
        let mut labels = Labels::UNKNOWN;
        labels.set(Finding::Mass, Some(true));
        let mut logits = [[7.0; OUTPUTS]; 2];
        logits[1][Finding::Mass.index()] = 0.0;
        logits[1][OUTPUTS - 1] = 0.0;
        // Mass is present, so that "No Finding" is known to be wrong: ln 2 each.
        let two = [Labels::UNKNOWN, labels];
        let loss = |loss| mean_loss(loss, &logits, &two).unwrap();
        assert!((loss(Loss::Bce) - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!(mean_loss(Loss::Bce, &logits[..1], &[Labels::UNKNOWN]), None);
        assert_eq!(mean_loss(Loss::Weighted, &[], &[]), None);
        // One positive, one negative: each weighs twice; the exponent halves the loss of either.
        assert!((loss(Loss::Weighted) - 2.0 * std::f64::consts::LN_2).abs() < 1e-12);
        let focal = loss(Loss::Focal { alpha: 0.25, gamma: 2.0 });
        assert!((focal - 0.5 * 0.25 * std::f64::consts::LN_2).abs() < 1e-12);
        let asymmetric = loss(Loss::Asymmetric { gamma_positive: 1.0, gamma_negative: 2.0, clip: 0.25 });
        let negative = 0.25f64.powi(2) * -(0.75f64.ln());
        assert!((asymmetric - 0.5 * (0.5 * std::f64::consts::LN_2 + negative)).abs() < 1e-12);
    }
}
