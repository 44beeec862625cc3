//! Activations: what one layer passes to the next.

use candle_core::Tensor;
use ops::{Affine, Input};

use crate::error::Result;

/// A tensor, and the batch norm that its readers apply on the way in.
#[derive(Debug, Clone)]
pub(crate) struct Activation {
    pub(crate) x: Tensor,
    pub(crate) norm: Option<Affine>,
}

impl Activation {
    /// A tensor that is read as it is.
    pub(crate) fn plain(x: Tensor) -> Activation {
        Activation { x, norm: None }
    }

    /// As a convolution in training reads it: cuDNN cannot normalise on the way in, so on CUDA what is read is stored.
    pub(crate) fn read(self) -> Result<Activation> {
        Ok(if self.x.device().is_cuda() {
            Activation::plain(ops::normalised_sum(self.input(), None, false)?)
        } else {
            self
        })
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input { x: &self.x, affine: self.norm.as_ref() }
    }
}

/// A part of the channels as a convolution in the backward pass reads it: cuDNN wants it without gaps.
pub(crate) fn dense(x: Tensor) -> Result<Tensor> {
    Ok(Activation::plain(x).read()?.x)
}
