//! The update rules.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::layers::params::Params;
use crate::recipe::OptimizerKind;

/// AdamW's second beta and the term in its denominator (PyTorch's defaults).
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

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
    /// For the trained tensors of `params`; `momentum` is AdamW's first beta.
    pub(crate) fn new(kind: OptimizerKind, momentum: f64, weight_decay: f64, params: &Params) -> Result<Optimizer> {
        let states = match kind {
            OptimizerKind::Sgd => 1,
            OptimizerKind::AdamW => 2,
        };
        let zeros = (0..states).flat_map(|_| params.trained().map(|(_, _, tensor)| tensor.zeros_like()));
        let state = zeros.collect::<candle_core::Result<_>>()?;
        Ok(Optimizer { kind, momentum, weight_decay, steps: 0, state })
    }

    /// Updates the trained tensors of `params`, and the copies that convolutions read, in place.
    ///
    /// # Errors
    /// Gradients or a state of other shapes.
    pub(crate) fn step(&mut self, params: &mut Params, grads: &[Tensor], lr: f64) -> Result<()> {
        let count = params.trained().count();
        if grads.len() != count || self.state.len() < count {
            return Err(Error::shape("gradients", count, grads.len()));
        }
        self.steps += 1;
        let (first, second) = self.state.split_at(count);
        let tensors = params.trained().map(|(_, _, tensor)| tensor).zip(params.copies()).enumerate();
        let steps = tensors.map(|(index, (param, copy))| ops::Step {
            param,
            grad: &grads[index],
            first: &first[index],
            second: second.get(index),
            copy,
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
    ///
    /// # Errors
    /// Tensors of other shapes; nothing has changed then.
    pub(crate) fn restore(&mut self, steps: u64, state: Vec<Tensor>) -> Result<()> {
        let dims = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.dims().to_vec()).collect::<Vec<_>>();
        if dims(&state) != dims(&self.state) {
            return Err(Error::shape("the optimiser's state", self.state.len(), "another number or shape of tensors"));
        }
        self.steps = steps;
        self.state = state;
        Ok(())
    }
}
