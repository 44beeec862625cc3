//! The loss.

use candle_core::{Result, Tensor};

use super::{
    constants::THREADS,
    launch::launch,
    operand::{View, tensor, uninit},
};

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
