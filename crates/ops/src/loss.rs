//! Binary cross-entropy on logits.

pub(crate) mod focus;

use candle_core::{Device, Result, Tensor};

use self::focus::Focus;
use crate::{
    error::Error,
    trace,
    view::{View, check_shape, on_cuda},
};

/// The target that a label becomes: 1 for yes, 0 for no; -1, as any target below 0, says that nobody knows.
pub fn target(known: Option<bool>) -> f32 {
    known.map_or(-1.0, |shown| f32::from(u8::from(shown)))
}

/// The mean over all elements with a known target of `-t log σ(z) - (1 - t) log(1 - σ(z))`, computed as
/// `max(z, 0) - z t + log(1 + exp(-|z|))` so that no logit overflows, and its gradient with respect to the logits.
///
/// An element whose target is below 0, see [`target`], adds nothing to the loss and gets no gradient. Without any known
/// target both are 0.
///
/// # Shapes
///
/// `logits` and `targets` have one shape and at least one element; the loss is a scalar, the gradient has the shape of the
/// logits.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
    let op = "bce_with_logits";
    check(op, logits, targets)?;
    let _span = trace::pass(op, &[logits, targets, logits]);
    on_cuda!(logits, crate::cuda::bce(op, logits, targets));
    let (z, t) = (View::<f32>::new(op, "logits", logits)?, View::<f32>::new(op, "targets", targets)?);
    let term = |(z, t): (&f32, &f32)| {
        let (z, t) = (f64::from(*z), f64::from(*t));
        z.max(0.0) - z * t + (-z.abs()).exp().ln_1p()
    };
    let sum: f64 = z.iter().zip(t.iter()).filter(|(_, t)| !unknown(**t)).map(term).sum();
    let known = t.iter().filter(|t| !unknown(**t)).count().max(1);
    let (share, sigmoid) = (1.0 / known as f32, |z: f32| 1.0 / (1.0 + (-z).exp()));
    let slope = |(z, t): (&f32, &f32)| if unknown(*t) { 0.0 } else { (sigmoid(*z) - t) * share };
    let dz: Vec<f32> = z.iter().zip(t.iter()).map(slope).collect();
    Ok((Tensor::new((sum / known as f64) as f32, &Device::Cpu)?, Tensor::from_vec(dz, logits.shape(), &Device::Cpu)?))
}

/// As [`bce_with_logits`](crate::bce_with_logits), for a cross-entropy that is weighted by `focus`: the mean over all
/// elements with a known target, and its gradient.
///
/// # Shapes
///
/// As [`bce_with_logits`](crate::bce_with_logits); a known target is 0 or 1, and any target from 0.5 counts as a positive.
pub fn focused_bce_with_logits(logits: &Tensor, targets: &Tensor, focus: &Focus) -> Result<(Tensor, Tensor)> {
    let op = "focused_bce_with_logits";
    check(op, logits, targets)?;
    let _span = trace::pass(op, &[logits, targets, logits]);
    on_cuda!(logits, crate::cuda::focused_bce(op, logits, targets, focus));
    let (z, y) = (View::<f32>::new(op, "logits", logits)?, View::<f32>::new(op, "targets", targets)?);
    let positives = y.iter().filter(|&&y| y >= 0.5).count();
    let known = y.iter().filter(|&&y| !unknown(y)).count();
    let weights = focus.weights([positives, known - positives]);
    let count = known.max(1) as f64;
    let mut sum = 0.0;
    let each = |(&z, &y): (&f32, &f32)| {
        if unknown(y) {
            return 0.0;
        }
        let (loss, slope) = focus.term(weights, f64::from(z), f64::from(y));
        sum += loss;
        (slope / count) as f32
    };
    let dz: Vec<f32> = z.iter().zip(y.iter()).map(each).collect();
    Ok((Tensor::new((sum / count) as f32, &Device::Cpu)?, Tensor::from_vec(dz, logits.shape(), &Device::Cpu)?))
}

/// Whether nobody knows the label behind a target.
fn unknown(target: f32) -> bool {
    target < 0.0
}

fn check(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<()> {
    check_shape(op, "targets", targets, logits.dims())?;
    if logits.elem_count() == 0 {
        let (expected, got) = ("[N, C], no size 0".to_owned(), logits.dims().to_vec());
        return Err(Error::Shape { op, name: "logits", expected, got }.into());
    }
    Ok(())
}
