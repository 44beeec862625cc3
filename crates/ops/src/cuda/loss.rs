//! The loss.

use candle_core::{Result, Tensor, cuda_backend::cudarc::driver::DeviceRepr};

use super::{
    constants::THREADS,
    launch::launch,
    operand::{View, tensor, uninit},
};
use crate::loss::focus::{ClassWeights, Focus as Settings};

/// As [`crate::bce_with_logits`], after its checks.
pub(crate) fn bce(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
    let (z, t) = (View::new::<f32>(op, "logits", logits)?, View::new::<f32>(op, "targets", targets)?);
    let (device, count) = (z.device()?, logits.elem_count());
    let ((loss, loss_at), (grad, grad_at)) = (uninit::<f32>(device, 1)?, uninit::<f32>(device, count)?);
    // SAFETY: logits, targets and gradient have the same number of elements.
    unsafe {
        launch!(device, "bce", (1, 1), (THREADS, 1); z.at, t.at, count as i32, loss_at, grad_at);
    }
    Ok((tensor(loss, device, ()), tensor(grad, device, logits.shape())))
}

/// The struct of this name in `cuda/kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Focus {
    positive: f32,
    negative: f32,
    gamma_positive: f32,
    gamma_negative: f32,
    shift: f32,
    smoothing: f32,
    counted: i32, // 2: in the whole batch, of which this is a part
}

// SAFETY: numbers, laid out as in C.
unsafe impl DeviceRepr for Focus {}

/// As [`crate::focused_bce_with_logits`], after its checks.
pub(crate) fn focused_bce(
    op: &'static str,
    logits: &Tensor,
    targets: &Tensor,
    settings: &Settings,
) -> Result<(Tensor, Tensor)> {
    let (z, t) = (View::new::<f32>(op, "logits", logits)?, View::new::<f32>(op, "targets", targets)?);
    let (device, count) = (z.device()?, logits.elem_count());
    let ((loss, loss_at), (grad, grad_at)) = (uninit::<f32>(device, 1)?, uninit::<f32>(device, count)?);
    let ([positive, negative], counted) = match settings.weights {
        ClassWeights::Fixed(weights) => (weights, 0),
        ClassWeights::Counted => ([0.0; 2], 1),
        ClassWeights::Whole(weights) => (weights, 2),
    };
    let focus = Focus {
        positive: positive as f32,
        negative: negative as f32,
        gamma_positive: settings.gamma_positive as f32,
        gamma_negative: settings.gamma_negative as f32,
        shift: settings.shift as f32,
        smoothing: settings.smoothing as f32,
        counted,
    };
    // SAFETY: logits, targets and gradient have the same number of elements.
    unsafe {
        launch!(device, "focused_bce", (1, 1), (THREADS, 1); z.at, t.at, count as i32, focus, loss_at, grad_at);
    }
    Ok((tensor(loss, device, ()), tensor(grad, device, logits.shape())))
}
