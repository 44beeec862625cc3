//! How a step changes the weights.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Recipe, Result};

/// AdamW's second beta and the term in its denominator (PyTorch's defaults).
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// Multiplied by `factor` after every `every` epochs.
    Step {
        /// Epochs between two falls.
        every: usize,
        /// What it is multiplied by.
        factor: f64,
    },
    /// Half a cosine from the full rate to 0.
    Cosine,
}

/// The learning rate of `step` of `epoch`, both from 0.
pub(crate) fn rate(recipe: &Recipe, epoch: usize, step: usize, steps: usize) -> f64 {
    let (done, warmup) = (epoch * steps + step, recipe.warmup_epochs * steps);
    if done < warmup {
        return recipe.lr * (done + 1) as f64 / warmup as f64;
    }
    match recipe.schedule {
        Schedule::Step { every, factor } => recipe.lr * factor.powi((epoch / every.max(1)) as i32),
        Schedule::Cosine => {
            let part = (done - warmup) as f64 / (recipe.epochs * steps - warmup) as f64;
            recipe.lr * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
        }
    }
}

/// An update rule with its state.
#[derive(Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    momentum: f64,
    weight_decay: f64,
    steps: u64,
    /// One tensor per parameter and kind of state: momenta; or first moments, then second moments.
    state: Vec<Tensor>,
}

impl Optimizer {
    /// For parameters shaped as `parameters`; `momentum` is AdamW's first beta.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(kind: OptimizerKind, momentum: f64, weight_decay: f64, parameters: &[Tensor]) -> Result<Optimizer> {
        let states = match kind {
            OptimizerKind::Sgd => 1,
            OptimizerKind::AdamW => 2,
        };
        let zeros = (0..states).flat_map(|_| parameters.iter().map(Tensor::zeros_like));
        let state = zeros.collect::<candle_core::Result<_>>()?;
        Ok(Optimizer { kind, momentum, weight_decay, steps: 0, state })
    }

    /// Updates `parameters` in place.
    ///
    /// # Errors
    /// Gradients of other shapes.
    pub fn step(&mut self, parameters: &[Tensor], grads: &[Tensor], lr: f64) -> Result<()> {
        self.step_with(parameters, &[], grads, lr)
    }

    /// As [`Optimizer::step`], with copies of some parameters that are written along.
    pub(crate) fn step_with(
        &mut self,
        parameters: &[Tensor],
        copies: &[Option<&Tensor>],
        grads: &[Tensor],
        lr: f64,
    ) -> Result<()> {
        self.steps += 1;
        let (first, second) = self.state.split_at(parameters.len());
        let steps = parameters.iter().zip(grads).enumerate().map(|(index, (param, grad))| ops::Step {
            param,
            grad,
            first: &first[index],
            second: second.get(index),
            copy: copies.get(index).copied().flatten(),
        });
        let (steps, mu, wd) = (steps.collect::<Vec<_>>(), self.momentum, self.weight_decay);
        match self.kind {
            OptimizerKind::Sgd => ops::sgd_steps(&steps, lr, mu, wd)?,
            OptimizerKind::AdamW => ops::adamw_steps(&steps, lr, mu, BETA2, EPS, wd, self.steps)?,
        }
        Ok(())
    }

    /// Its steps so far and its state, for a checkpoint.
    pub(crate) fn state(&self) -> (u64, &[Tensor]) {
        (self.steps, &self.state)
    }

    /// Takes what [`Optimizer::state`] gave.
    pub(crate) fn restore(&mut self, steps: u64, state: Vec<Tensor>) {
        self.steps = steps;
        self.state = state;
    }
}
