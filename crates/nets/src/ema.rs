//! The moving average of all tensors of a model.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::layers::params::Params;

/// An exponential moving average of weights and running statistics, as timm's `ModelEmaV3` has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// What remains of the average in a step.
    pub decay: f64,
    /// Whether the decay rises to that value: in step `s`, from 1, it is at most `1 - s^(-2/3)`.
    pub warmup: bool,
}

/// The exponent of the decay's rise (timm's `warmup_power`).
const POWER: f64 = 2.0 / 3.0;

impl Ema {
    /// The decay of a step, counted from 1. The first takes the model as it is.
    pub fn decay_at(&self, step: u64) -> f64 {
        let before = step.saturating_sub(1);
        match (before, self.warmup) {
            (0, _) => 0.0,
            (_, false) => self.decay,
            (_, true) => self.decay.min(1.0 - (1.0 + before as f64).powf(-POWER)),
        }
    }
}

/// The average under way.
#[derive(Debug)]
pub(crate) struct Average {
    settings: Ema,
    /// In the order of [`Params::iter`].
    tensors: Vec<Tensor>,
}

impl Average {
    /// Starts with the model as it is.
    pub(crate) fn new(settings: Ema, params: &Params) -> Result<Average> {
        Ok(Average { settings, tensors: params.snapshot()? })
    }

    /// Takes up the model after a step, counted from 1.
    pub(crate) fn update(&self, params: &Params, step: u64) -> Result<()> {
        let pairs: Vec<_> = self.tensors.iter().zip(params.iter().map(|(_, tensor)| tensor)).collect();
        Ok(ops::average_steps(&pairs, self.settings.decay_at(step))?)
    }

    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Takes what [`Average::tensors`] gave.
    ///
    /// # Errors
    /// Tensors of another model.
    pub(crate) fn restore(&mut self, params: &Params, tensors: Vec<Tensor>) -> Result<()> {
        params.check(&tensors)?;
        self.tensors = tensors;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `timm.utils.ModelEmaV3(nn.Linear(1, 1), 0.99, use_warmup=warmup).get_decay(step)`, timm 1.0.31.
    #[test]
    fn the_decay_is_timms() {
        let steps = [1, 2, 3, 10, 100, 2000];
        for (warmup, expected) in [
            (false, [0.0, 0.99, 0.99, 0.99, 0.99, 0.99]),
            (true, [0.0, 0.3700394750525634, 0.5192501432308638, 0.7845565309968117, 0.9535841116638722, 0.99]),
        ] {
            for (step, expected) in steps.into_iter().zip(expected) {
                let got = Ema { decay: 0.99, warmup }.decay_at(step);
                assert!((got - expected).abs() < 1e-12, "step {step}: {got}, expected {expected}");
            }
        }
    }
}
