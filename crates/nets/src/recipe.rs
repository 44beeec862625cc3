//! How to train: the recipe, its learning rates, and how images become inputs.

mod images;

use serde::{Deserialize, Serialize};

pub use self::images::{ImageRecipe, MOST_RATIO, Precision, ratio_max};
use crate::canonical::is_default;
use crate::ema::Ema;
use crate::error::{Error, Result};
use crate::losses::{Loss, Objective};
use crate::plateau::reductions;

/// How to train any model. What is off is left out of its JSON, so that an option never changes the identity of a training
/// without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training examples.
    pub epochs: usize,
    /// Examples per step; the last step of an epoch takes what remains.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum of SGD; AdamW's first beta.
    pub momentum: f64,
    /// Weight decay: added to the gradient by SGD, decoupled in AdamW.
    pub weight_decay: f64,
    /// The update rule.
    pub optimizer: OptimizerKind,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Epochs in which the learning rate rises linearly, step by step.
    pub warmup_epochs: usize,
    /// Seed of the order of the examples and of their augmentation.
    pub seed: u64,
    /// What is minimised.
    #[serde(default, skip_serializing_if = "is_default")]
    pub loss: Loss,
    /// How far targets are moved towards one half; 0 is off.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    /// The largest norm of all gradients together; `None` is off.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clip_norm: Option<f64>,
    /// The average that is validated and published in place of the weights; `None` is off.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ema: Option<Ema>,
}

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// SGD with momentum, PyTorch's formula.
    Sgd,
    /// AdamW (Loshchilov and Hutter, ICLR 2019).
    AdamW,
}

/// How the learning rate falls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// Multiplied by `factor` once after each of the `milestones` (PyTorch's `MultiStepLR`).
    Step {
        /// Numbers of finished epochs, ascending.
        milestones: Vec<usize>,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// Half a cosine from the full rate to 0.
    Cosine,
    /// Multiplied by `factor` once the validation loss has not fallen for more than `patience` epochs, and again (PyTorch's
    /// `ReduceLROnPlateau`). Epochs of the warm-up are not counted (as in timm's `PlateauLRScheduler`).
    Plateau {
        /// Epochs in a row that may pass without a lower loss.
        patience: usize,
        /// What the rate is multiplied by.
        factor: f64,
    },
}

impl Recipe {
    /// The loss with its label smoothing.
    pub fn objective(&self) -> Objective {
        Objective { loss: self.loss, smoothing: self.label_smoothing }
    }

    /// The learning rate of `step` of `epoch`, both from 0, where an epoch has `steps` steps; `losses` are the validation
    /// losses of at least the epochs before it.
    pub fn rate(&self, epoch: usize, step: usize, steps: usize, losses: &[Option<f64>]) -> f64 {
        let (done, warmup) = (epoch * steps + step, self.warmup_epochs * steps);
        if done < warmup {
            return self.lr * (done + 1) as f64 / warmup as f64;
        }
        match &self.schedule {
            Schedule::Step { milestones, factor } => {
                let passed = milestones.iter().filter(|&&milestone| milestone <= epoch).count();
                self.lr * factor.powi(passed as i32)
            }
            Schedule::Cosine => {
                let part = (done - warmup) as f64 / (self.epochs * steps - warmup) as f64;
                self.lr * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
            }
            Schedule::Plateau { patience, factor } => {
                let before = losses.get(self.warmup_epochs..epoch.min(losses.len())).unwrap_or_default();
                self.lr * factor.powi(reductions(before, *patience))
            }
        }
    }

    /// Whether the first `done` steps have the same learning rates, bit for bit, under another recipe, where the finished
    /// epochs had these validation losses.
    pub(crate) fn same_rates(&self, other: &Recipe, done: usize, steps: usize, losses: &[Option<f64>]) -> bool {
        let rate = |recipe: &Recipe, at: usize| recipe.rate(at / steps, at % steps, steps, losses).to_bits();
        (0..done).all(|at| rate(self, at) == rate(other, at))
    }

    /// # Errors
    /// [`Error::Setting`] of the first number that cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        at_least_one("epochs", self.epochs)?;
        at_least_one("batch", self.batch)?;
        if self.warmup_epochs > self.epochs {
            return Error::setting("warmup_epochs", self.warmup_epochs, "at most the epochs");
        }
        self.check_options()?;
        match &self.schedule {
            Schedule::Step { milestones, .. } if !milestones.is_sorted_by(|a, b| a < b) => {
                Error::setting("lr_milestones", format!("{milestones:?}"), "ascending numbers of epochs")
            }
            _ => Ok(()),
        }
    }

    /// Refuses a plateau where there is no validation loss to watch.
    pub(crate) fn check_validated(&self, validated: bool) -> Result<()> {
        match self.schedule {
            Schedule::Plateau { .. } if !validated => Error::setting(
                "schedule",
                "plateau",
                "step or cosine: there is no validation loss that could stop falling",
            ),
            _ => Ok(()),
        }
    }

    fn check_options(&self) -> Result<()> {
        let below_one = |key, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Error::setting(key, value, "at least 0, below 1"),
        };
        let exponent = |key, value: f64| match (0.0..=MOST_GAMMA).contains(&value) {
            true => Ok(()),
            false => Error::setting(key, value, &format!("0 to {MOST_GAMMA}")),
        };
        below_one("label_smoothing", self.label_smoothing)?;
        match self.loss {
            Loss::Bce | Loss::Weighted => {}
            Loss::Focal { alpha, gamma } => {
                if !(alpha > 0.0 && alpha < 1.0) {
                    return Error::setting("focal_alpha", alpha, "above 0, below 1");
                }
                exponent("focal_gamma", gamma)?;
            }
            Loss::Asymmetric { gamma_positive, gamma_negative, clip } => {
                exponent("gamma_positive", gamma_positive)?;
                exponent("gamma_negative", gamma_negative)?;
                below_one("probability_clip", clip)?;
            }
        }
        if let Some(most) = self.clip_norm.filter(|most| !(*most > 0.0 && most.is_finite())) {
            return Error::setting("clip_norm", most, "above 0");
        }
        match self.ema {
            Some(Ema { decay, .. }) if !(decay > 0.0 && decay < 1.0) => {
                Error::setting("ema_decay", decay, "above 0, below 1")
            }
            _ => Ok(()),
        }
    }
}

/// The largest exponent of a focal or asymmetric loss (the focal loss's paper tries 0 to 5).
pub const MOST_GAMMA: f64 = 10.0;

fn at_least_one(key: &'static str, value: usize) -> Result<()> {
    if value == 0 { Error::setting(key, value, "at least 1") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(schedule: Schedule, warmup_epochs: usize) -> Recipe {
        Recipe {
            epochs: 50,
            batch: 8,
            lr: 0.01,
            momentum: 0.9,
            weight_decay: 0.0,
            optimizer: OptimizerKind::Sgd,
            schedule,
            warmup_epochs,
            seed: 1,
            loss: Loss::Bce,
            label_smoothing: 0.0,
            clip_norm: None,
            ema: None,
        }
    }

    /// PyTorch's `MultiStepLR(milestones=[20, 40], gamma=0.1)`, whose `last_epoch` counts finished epochs.
    #[test]
    fn the_rate_falls_in_the_epoch_after_a_milestone() {
        let recipe = recipe(Schedule::Step { milestones: vec![20, 40], factor: 0.1 }, 0);
        let steps = 7;
        for (epoch, expected) in [(0, 1.0), (19, 1.0), (20, 0.1), (39, 0.1), (40, 0.01), (49, 0.01)] {
            for step in [0, steps - 1] {
                let rate = recipe.rate(epoch, step, steps, &[]);
                assert!((rate / (0.01 * expected) - 1.0).abs() < 1e-12, "epoch {epoch}, step {step}: {rate}");
            }
        }
        assert_eq!(recipe.rate(19, 6, steps, &[]), 0.01);
        let constant = Recipe { schedule: Schedule::Step { milestones: vec![], factor: 0.1 }, ..recipe };
        assert_eq!(constant.rate(49, 0, steps, &[]), 0.01);
    }

    #[test]
    fn warm_up_rises_to_the_full_rate_and_the_cosine_falls_from_there() {
        let recipe = recipe(Schedule::Cosine, 2);
        assert_eq!([recipe.rate(0, 0, 5, &[]), recipe.rate(1, 4, 5, &[])], [0.01 / 10.0, 0.01]);
        assert_eq!(recipe.rate(2, 0, 5, &[]), 0.01);
        assert!((recipe.rate(26, 0, 5, &[]) - 0.005).abs() < 1e-12);
        assert!(recipe.rate(49, 4, 5, &[]) < 1e-6);
    }

    #[test]
    fn rates_are_the_same_up_to_a_milestone_that_only_one_recipe_has() {
        let step = |milestones: &[usize]| recipe(Schedule::Step { milestones: milestones.to_vec(), factor: 0.1 }, 0);
        assert!(step(&[20]).same_rates(&step(&[30]), 20 * 3, 3, &[]));
        assert!(!step(&[20]).same_rates(&step(&[30]), 20 * 3 + 1, 3, &[]));
        let cosine = recipe(Schedule::Cosine, 0);
        assert!(cosine.same_rates(&Recipe { epochs: 51, ..cosine.clone() }, 1, 3, &[]));
        assert!(!cosine.same_rates(&Recipe { epochs: 51, ..cosine.clone() }, 2, 3, &[]));
    }

    #[test]
    fn numbers_that_cannot_be_are_named() {
        let wrong = recipe(Schedule::Step { milestones: vec![20, 20], factor: 0.1 }, 0);
        assert_eq!(
            wrong.check().unwrap_err().to_string(),
            "lr_milestones = [20, 20], expected ascending numbers of epochs"
        );
        assert!(recipe(Schedule::Cosine, 51).check().is_err());
    }

    #[test]
    fn the_rate_falls_where_the_loss_does_not() {
        let plateau = |patience, warmup| recipe(Schedule::Plateau { patience, factor: 0.5 }, warmup);
        let losses = [0.5, 0.6, 0.7, 0.4, 0.4, 0.4, 0.4].map(Some);
        let rates = |recipe: &Recipe| (0..8).map(|epoch| recipe.rate(epoch, 2, 3, &losses)).collect::<Vec<_>>();
        assert_eq!(rates(&plateau(1, 0)), [0.01, 0.01, 0.01, 0.005, 0.005, 0.005, 0.0025, 0.0025]);
        // The loss of the warm-up's one epoch is not looked at; the last step has the full rate.
        assert_eq!(rates(&plateau(1, 1)), [0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005]);
        // Another patience is the same training up to where it differs.
        assert!(plateau(1, 0).same_rates(&plateau(2, 0), 9, 3, &losses));
        assert!(!plateau(1, 0).same_rates(&plateau(2, 0), 10, 3, &losses));
    }

    #[test]
    fn options_that_cannot_be_are_named() {
        let base = recipe(Schedule::Cosine, 0);
        let asymmetric = Loss::Asymmetric { gamma_positive: 1.0, gamma_negative: 11.0, clip: 0.05 };
        for (wrong, message) in [
            (Recipe { label_smoothing: 1.0, ..base.clone() }, "label_smoothing = 1, expected at least 0, below 1"),
            (Recipe { clip_norm: Some(f64::NAN), ..base.clone() }, "clip_norm = NaN, expected above 0"),
            (
                Recipe { ema: Some(Ema { decay: 1.0, warmup: false }), ..base.clone() },
                "ema_decay = 1, expected above 0, below 1",
            ),
            (Recipe { loss: asymmetric, ..base.clone() }, "gamma_negative = 11, expected 0 to 10"),
            (
                Recipe { loss: Loss::Focal { alpha: 0.0, gamma: 2.0 }, ..base.clone() },
                "focal_alpha = 0, expected above 0, below 1",
            ),
        ] {
            assert_eq!(wrong.check().unwrap_err().to_string(), message);
        }
        // What is off is not said.
        let text = serde_json::to_string(&base).unwrap();
        assert!(!["loss", "smoothing", "clip", "ema"].iter().any(|word| text.contains(word)), "{text}");
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), base);
    }
}
