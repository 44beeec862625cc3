//! What an operator reads: a tensor, or one that is normalised on the way in.

use candle_core::{Result, Tensor};

use crate::{
    kernel::conv::{Change, Source},
    view::{Stored, View, check_shape},
};

/// A batch norm, and the ReLU that may follow it, as what they do to each channel: `scale x + shift`, then the ReLU.
///
/// Operators that take an [`Input`] apply it while they read, so that the normalised tensor is never stored: a
/// training step then keeps one tensor per convolution where it would keep two.
#[derive(Clone, Debug)]
pub struct Affine {
    /// `[C]`.
    pub(crate) scale: Tensor,
    /// `[C]`.
    pub(crate) shift: Tensor,
    pub(crate) relu: bool,
}

/// A tensor `[..., C]`, and what is done to it on the way in. A plain `&Tensor` is one too.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The tensor in memory.
    pub x: &'a Tensor,
    /// What is done to it.
    pub affine: Option<&'a Affine>,
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(x: &'a Tensor) -> Self {
        Input { x, affine: None }
    }
}

/// The slices of an [`Input`], locked for reading.
pub(crate) struct InputView<'a, T> {
    x: View<'a, T>,
    affine: Option<(View<'a>, View<'a>, bool)>,
}

impl<'a, T: Stored> InputView<'a, T> {
    pub(crate) fn new(op: &'static str, name: &'static str, input: Input<'a>) -> Result<Self> {
        let x = View::pixels(op, name, input.x)?;
        let channels = input.x.dims().last().copied().unwrap_or(0);
        let affine = input.affine.map(|affine| {
            check_shape(op, "scale", &affine.scale, &[channels])?;
            let vector = |name, tensor| View::new(op, name, tensor);
            Ok::<_, candle_core::Error>((vector("scale", &affine.scale)?, vector("shift", &affine.shift)?, affine.relu))
        });
        Ok(InputView { x, affine: affine.transpose()? })
    }

    /// As [`InputView::new`], for operators that want one pixel right behind the other.
    pub(crate) fn without_gaps(op: &'static str, name: &'static str, input: Input<'a>) -> Result<Self> {
        View::<T>::new(op, name, input.x)?;
        Self::new(op, name, input)
    }

    pub(crate) fn source(&self) -> Source<'_, T> {
        let change = self.affine.as_ref().map(|(scale, shift, relu)| Change { scale, shift, relu: *relu });
        Source { data: &self.x, pitch: self.x.pitch(), change }
    }
}
