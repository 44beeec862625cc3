//! Binary cross-entropy on logits.

use candle_core::{Device, Result, Tensor};

use crate::{
    error::Error,
    trace,
    view::{View, check_shape, on_cuda},
};

/// The mean over all elements of `-t log σ(z) - (1 - t) log(1 - σ(z))`, computed as
/// `max(z, 0) - z t + log(1 + exp(-|z|))` so that no logit overflows, and its gradient with respect to the logits.
///
/// # Shapes
///
/// `logits` and `targets` have one shape and at least one element; the loss is a scalar, the gradient has the shape of the
/// logits.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
    let op = "bce_with_logits";
    check_shape(op, "targets", targets, logits.dims())?;
    let count = logits.elem_count();
    if count == 0 {
        let (expected, got) = ("[N, C], no size 0".to_owned(), logits.dims().to_vec());
        return Err(Error::Shape { op, name: "logits", expected, got }.into());
    }
    let _span = trace::pass(op, &[logits, targets, logits]);
    on_cuda!(logits, crate::cuda::bce(op, logits, targets));
    let (z, t) = (View::<f32>::new(op, "logits", logits)?, View::<f32>::new(op, "targets", targets)?);
    let term = |(z, t): (&f32, &f32)| {
        let (z, t) = (f64::from(*z), f64::from(*t));
        z.max(0.0) - z * t + (-z.abs()).exp().ln_1p()
    };
    let sum: f64 = z.iter().zip(t.iter()).map(term).sum();
    let (share, sigmoid) = (1.0 / count as f32, |z: f32| 1.0 / (1.0 + (-z).exp()));
    let dz: Vec<f32> = z.iter().zip(t.iter()).map(|(z, t)| (sigmoid(*z) - t) * share).collect();
    Ok((Tensor::new((sum / count as f64) as f32, &Device::Cpu)?, Tensor::from_vec(dz, logits.shape(), &Device::Cpu)?))
}
