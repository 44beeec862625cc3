//! Gradients of a bounded norm.

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

use crate::{error::Error, inplace::Each1, trace, view::View};

/// Added to the norm that is divided by (PyTorch's `clip_grad_norm_`).
const EPS: f64 = 1e-6;

/// Elements whose squares are added up in one go.
const TASK: usize = 64 << 10;

/// Scales all gradients by one factor, in place, so that their common norm (the root of the sum of all squares) is at most
/// `most`: by `min(1, most / (norm + 1e-6))`, PyTorch's `clip_grad_norm_`.
///
/// On CUDA the norm stays on the device, and a bf16 gradient is rounded once more.
///
/// # Errors
///
/// Gradients that are not contiguous, or neither `f32` nor, on CUDA, bf16.
pub fn clip_by_norm(grads: &[Tensor], most: f64) -> Result<()> {
    let op = "clip_by_norm";
    check(op, grads)?;
    let all: Vec<&Tensor> = grads.iter().collect();
    let _span = trace::pass(op, &all);
    #[cfg(feature = "cuda")]
    if grads.first().is_some_and(|grad| grad.device().is_cuda()) {
        return crate::cuda::clip_by_norm(op, &all, most, EPS);
    }
    let factor = (most / (norm(grads)? + EPS)) as f32;
    if factor >= 1.0 {
        return Ok(());
    }
    grads.iter().try_for_each(|grad| grad.inplace_op1(&Each1 { name: op, f: move |g: f32| factor * g }))
}

/// The root of the sum of all squares of some tensors on a CPU, contiguous and `f32`: in f64, in an order that the shapes
/// alone decide.
///
/// # Errors
///
/// Other tensors.
pub fn norm(tensors: &[Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for tensor in tensors {
        let view = View::<f32>::new("norm", "tensor", tensor)?;
        let parts: Vec<f64> = view
            .par_chunks(TASK)
            .map(|part| part.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>())
            .collect();
        sum += parts.iter().sum::<f64>();
    }
    Ok(sum.sqrt())
}

fn check(op: &'static str, grads: &[Tensor]) -> Result<()> {
    for grad in grads {
        let name = "gradient";
        if !grad.is_contiguous() {
            let (shape, strides) = (grad.shape().clone(), grad.stride().to_vec());
            return Err(Error::Strided { op, name, shape, strides }.into());
        }
        let half = grad.device().is_cuda() && grad.dtype() == DType::BF16;
        if grad.dtype() != DType::F32 && !half {
            return Err(Error::Type { op, name, expected: DType::F32, got: grad.dtype() }.into());
        }
    }
    Ok(())
}
