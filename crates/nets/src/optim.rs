//! How a step changes the weights.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;

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

/// An update rule with its state.
#[derive(Debug)]
pub struct Optimizer;

impl Optimizer {
    /// For parameters shaped as `parameters`; `momentum` is AdamW's first beta.
    pub fn new(_kind: OptimizerKind, _momentum: f64, _weight_decay: f64, _parameters: &[Tensor]) -> Result<Optimizer> {
        unimplemented!()
    }
    /// Updates `parameters` in place.
    pub fn step(&mut self, _parameters: &[Tensor], _grads: &[Tensor], _lr: f64) -> Result<()> {
        unimplemented!()
    }
}
