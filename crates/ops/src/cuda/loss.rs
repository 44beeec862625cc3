//! The loss.

use candle_core::{Result, Tensor};

use super::{THREADS, View, launch, room, tensor};

/// As [`crate::bce_with_logits`], after its checks.
pub(crate) fn bce(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
    let (z, t) = (View::new::<f32>(op, "logits", logits)?, View::new::<f32>(op, "targets", targets)?);
    let (device, count) = (z.device()?, logits.elem_count());
    let ((loss, loss_at), (grad, grad_at)) = (room::<f32>(device, 1)?, room::<f32>(device, count)?);
    // SAFETY: logits, targets and gradient are as many.
    unsafe {
        launch!(device, "bce", (1, 1), (THREADS, 1); z.at, t.at, count as i32, loss_at, grad_at);
    }
    Ok((tensor(loss, device, ()), tensor(grad, device, logits.shape())))
}
