//! The input of an operator: a tensor, possibly normalised while it is loaded.

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use crate::{
    kernel::{Element, Prologue, Source, vectorised},
    view::{Stored, View, check_shape},
};

/// A tensor in the type of the activations, as [`Tensor::to_dtype`] gives it; `f32` is rounded to bf16 by all threads, and not
/// by one.
///
/// # Errors
///
/// The device fails.
pub fn activations(x: &Tensor, dtype: DType) -> Result<Tensor> {
    const CHUNK: usize = 16 << 10;
    if !x.device().is_cpu() || (x.dtype(), dtype) != (DType::F32, DType::BF16) || !x.is_contiguous() {
        return x.to_dtype(dtype);
    }
    let from = View::<f32>::new("activations", "x", x)?;
    let mut to = vec![bf16::ZERO; from.len()];
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
        vectorised(|| {
            for (to, from) in to.iter_mut().zip(from) {
                *to = bf16::narrow(*from);
            }
        });
    });
    Tensor::from_vec(to, x.dims(), &Device::Cpu)
}

/// A batch norm and the ReLU that may follow it, as a function of each channel: `scale x + shift`, then the ReLU.
///
/// Operators that take an [`Input`] apply it while they load, so that the normalised tensor is never stored: a training step
/// keeps one tensor per convolution instead of two.
#[derive(Clone, Debug)]
pub struct Affine {
    /// `[C]`.
    pub(crate) scale: Tensor,
    /// `[C]`.
    pub(crate) shift: Tensor,
    pub(crate) relu: bool,
}

/// A tensor `[..., C]`, and the affine that is applied while it is loaded. A `&Tensor` converts to one without an affine.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The tensor in memory.
    pub x: &'a Tensor,
    /// The affine to apply.
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

    /// As [`InputView::new`], for operators that need contiguous pixels.
    pub(crate) fn without_gaps(op: &'static str, name: &'static str, input: Input<'a>) -> Result<Self> {
        View::<T>::new(op, name, input.x)?;
        Self::new(op, name, input)
    }

    pub(crate) fn source(&self) -> Source<'_, T> {
        let prologue = self.affine.as_ref().map(|(scale, shift, relu)| Prologue { scale, shift, relu: *relu });
        Source { data: &self.x, pitch: self.x.pitch(), prologue }
    }
}
