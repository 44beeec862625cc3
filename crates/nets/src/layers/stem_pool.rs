//! The 3x3 max-pool at stride 2 after the first convolution of every backbone.

use candle_core::Tensor;

use crate::error::Result;
use crate::layers::activation::Activation;

pub(crate) const KERNEL: usize = 3;
pub(crate) const STRIDE: usize = 2;
pub(crate) const PADDING: usize = 1;

/// What the backward pass needs.
#[derive(Debug)]
pub(crate) struct Saved {
    index: Tensor,
    side: (usize, usize),
}

pub(crate) fn forward(x: &Activation) -> Result<(Tensor, Saved)> {
    let (_, height, width, _) = x.x.dims4()?;
    let (y, index) = ops::max_pool_forward(x.input(), KERNEL, STRIDE, PADDING)?;
    let side = (height, width);
    Ok((y, Saved { index, side }))
}

pub(crate) fn backward(saved: &Saved, dy: &Tensor) -> Result<Tensor> {
    let Saved { index, side } = saved;
    Ok(ops::max_pool_backward(dy, index, KERNEL, STRIDE, PADDING, *side)?)
}
