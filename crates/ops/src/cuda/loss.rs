//! The loss.

use candle_core::{Result, Tensor};

use super::{THREADS, View, launch, room, tensor};

/// The mean binary cross-entropy `[]` of logits, and its gradient.
pub(crate) fn bce(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
    let shape = logits.shape().clone();
    let (logits, targets) = (View::new::<f32>(op, "logits", logits)?, View::new::<f32>(op, "targets", targets)?);
    let device = logits.device()?.clone();
    let ((loss, loss_at), (grad, grad_at)) = (room::<f32>(&device, 1)?, room::<f32>(&device, shape.elem_count())?);
    // SAFETY: logits, targets and gradient are as many.
    unsafe {
        launch!(device, "bce", (1, 1), (THREADS, 1);
            logits.at, targets.at, shape.elem_count() as i32, loss_at, grad_at);
    }
    Ok((tensor(loss, &device, ()), tensor(grad, &device, shape)))
}
