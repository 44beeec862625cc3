//! How to train: the recipe, its learning rates, and how images become inputs.

use candle_core::Device;
use cxr::EvalCrop;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// How to train any model.
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
}

impl Recipe {
    /// The learning rate of `step` of `epoch`, both from 0, where an epoch has `steps` steps.
    pub fn rate(&self, epoch: usize, step: usize, steps: usize) -> f64 {
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
        }
    }

    /// Whether the first `done` steps have the same learning rates, bit for bit, under another recipe.
    pub(crate) fn same_rates(&self, other: &Recipe, done: usize, steps: usize) -> bool {
        let rate = |recipe: &Recipe, at: usize| recipe.rate(at / steps, at % steps, steps).to_bits();
        (0..done).all(|at| rate(self, at) == rate(other, at))
    }

    /// # Errors
    /// [`Error::Setting`] of the first number that cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        at_least_one("epochs", self.epochs)?;
        at_least_one("batch", self.batch)?;
        if self.warmup_epochs > self.epochs {
            return setting("warmup_epochs", self.warmup_epochs, "at most the epochs");
        }
        match &self.schedule {
            Schedule::Step { milestones, .. } if !milestones.is_sorted_by(|a, b| a < b) => {
                setting("lr_milestones", format!("{milestones:?}"), "ascending numbers of epochs")
            }
            _ => Ok(()),
        }
    }
}

/// How a network is shown images in training and validation, and in what numbers it computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecipe {
    /// Side of the network's input in px.
    pub input_px: usize,
    /// How an evaluation input is cut from an image.
    pub crop: EvalCrop,
    /// Smallest area of a random resized crop, as a share of the image; 1 turns cropping off.
    pub scale_min: f64,
    /// Whether half the inputs are mirrored.
    pub flip: bool,
    /// Largest rotation in degrees, to both sides.
    pub rotate_deg: f64,
    /// Largest change of brightness: the factor is in `1 - b ..= 1 + b`.
    pub brightness: f64,
    /// Largest change of contrast: the factor is in `1 - c ..= 1 + c`.
    pub contrast: f64,
    /// In what numbers a training step computes.
    pub precision: Precision,
}

impl ImageRecipe {
    /// Describes the training of a network for its [`Identity`](crate::Identity): all that decides its weights beside
    /// the [`Recipe`], the data and the initial weights.
    pub fn model(&self, backbone: &str, pool: &str) -> Value {
        json!({ "backbone": backbone, "pool": pool, "images": self })
    }

    /// # Errors
    /// [`Error::Setting`] of the first number that cannot be for a backbone whose inputs have at least `min_side` px.
    pub(crate) fn check(&self, min_side: usize) -> Result<()> {
        if !(self.scale_min > 0.0 && self.scale_min <= 1.0) {
            return setting("scale_min", self.scale_min, "above 0, at most 1");
        }
        if self.input_px < min_side {
            return setting("crop", self.input_px, &format!("at least {min_side}, what the backbone needs"));
        }
        Ok(())
    }
}

/// In what numbers a training step stores activations and their gradients, and multiplies. Weights, statistics and sums
/// are `f32`. Evaluation computes in `f32` on a CPU, and in the same numbers as training on CUDA.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Precision {
    /// `f32`.
    #[default]
    F32,
    /// `f32`, with factors rounded to three digits by the tensor cores of a CUDA device; `F32` on a CPU.
    Tf32,
    /// bf16, with three digits: half the memory, and faster on CUDA and on a CPU that has instructions for it
    /// (AVX512-BF16), slower on other CPUs.
    Bf16,
    /// `Bf16` where it is fast: on CUDA, and on a CPU that has instructions for it; `F32` elsewhere.
    Auto,
}

impl Precision {
    /// The precision that is used on a device: never `Auto`.
    pub fn on(self, device: &Device) -> Precision {
        match self {
            Precision::Auto if device.is_cuda() || ops::has_bf16() => Precision::Bf16,
            Precision::Auto => Precision::F32,
            Precision::Tf32 if !device.is_cuda() => Precision::F32,
            chosen => chosen,
        }
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn at_least_one(key: &'static str, value: usize) -> Result<()> {
    if value == 0 { setting(key, value, "at least 1") } else { Ok(()) }
}

fn setting(key: &'static str, got: impl ToString, expected: &str) -> Result<()> {
    Err(Error::Setting { key, got: got.to_string(), expected: expected.to_owned() })
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
        }
    }

    /// PyTorch's `MultiStepLR(milestones=[20, 40], gamma=0.1)`, whose `last_epoch` counts finished epochs.
    #[test]
    fn the_rate_falls_in_the_epoch_after_a_milestone() {
        let recipe = recipe(Schedule::Step { milestones: vec![20, 40], factor: 0.1 }, 0);
        let steps = 7;
        for (epoch, expected) in [(0, 1.0), (19, 1.0), (20, 0.1), (39, 0.1), (40, 0.01), (49, 0.01)] {
            for step in [0, steps - 1] {
                let rate = recipe.rate(epoch, step, steps);
                assert!((rate / (0.01 * expected) - 1.0).abs() < 1e-12, "epoch {epoch}, step {step}: {rate}");
            }
        }
        assert_eq!(recipe.rate(19, 6, steps), 0.01);
        let constant = Recipe { schedule: Schedule::Step { milestones: vec![], factor: 0.1 }, ..recipe };
        assert_eq!(constant.rate(49, 0, steps), 0.01);
    }

    #[test]
    fn warm_up_rises_to_the_full_rate_and_the_cosine_falls_from_there() {
        let recipe = recipe(Schedule::Cosine, 2);
        assert_eq!([recipe.rate(0, 0, 5), recipe.rate(1, 4, 5)], [0.01 / 10.0, 0.01]);
        assert_eq!(recipe.rate(2, 0, 5), 0.01);
        assert!((recipe.rate(26, 0, 5) - 0.005).abs() < 1e-12);
        assert!(recipe.rate(49, 4, 5) < 1e-6);
    }

    #[test]
    fn rates_are_the_same_up_to_a_milestone_that_only_one_recipe_has() {
        let step = |milestones: &[usize]| recipe(Schedule::Step { milestones: milestones.to_vec(), factor: 0.1 }, 0);
        assert!(step(&[20]).same_rates(&step(&[30]), 20 * 3, 3));
        assert!(!step(&[20]).same_rates(&step(&[30]), 20 * 3 + 1, 3));
        let cosine = recipe(Schedule::Cosine, 0);
        assert!(cosine.same_rates(&Recipe { epochs: 51, ..cosine.clone() }, 1, 3));
        assert!(!cosine.same_rates(&Recipe { epochs: 51, ..cosine.clone() }, 2, 3));
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
}
