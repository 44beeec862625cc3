//! Binary cross-entropy on logits.

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};

use crate::{
    Error, trace,
    view::{View, on_cuda, slice},
};

/// The mean over all elements of `-t log σ(z) - (1 - t) log(1 - σ(z))`, computed as
/// `max(z, 0) - z t + log(1 + exp(-|z|))` so that no logit overflows it.
///
/// Differentiable in `logits`, not in `targets`.
///
/// # Shapes
///
/// `logits` and `targets` alike, at least one element; the result is a scalar.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let _span = trace::pass("bce_with_logits", &[logits, targets]);
    logits.apply_op2(targets, BceWithLogits)
}

struct BceWithLogits;

impl CustomOp2 for BceWithLogits {
    fn name(&self) -> &'static str {
        "bce_with_logits"
    }

    fn cpu_fwd(&self, z: &CpuStorage, lz: &Layout, t: &CpuStorage, lt: &Layout) -> Result<(CpuStorage, Shape)> {
        let op = self.name();
        if lz.dims() != lt.dims() || lz.shape().elem_count() == 0 {
            return Err(Error::Shape {
                op,
                name: "targets",
                expected: format!("{:?}, at least one element", lz.dims()),
                got: lt.dims().to_vec(),
            }
            .into());
        }
        let (z, t): (&[f32], &[f32]) = (slice(op, "logits", z, lz)?, slice(op, "targets", t, lt)?);
        let sum: f64 = z
            .iter()
            .zip(t)
            .map(|(z, t)| {
                let (z, t) = (f64::from(*z), f64::from(*t));
                z.max(0.0) - z * t + (-z.abs()).exp().ln_1p()
            })
            .sum();
        let mean = (sum / z.len() as f64) as f32;
        Ok((CpuStorage::F32(vec![mean]), Shape::from(())))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        z: &candle_core::CudaStorage,
        lz: &Layout,
        t: &candle_core::CudaStorage,
        lt: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (loss, _) = crate::cuda::bce(self.name(), (z, lz), (t, lt))?;
        Ok((loss, Shape::from(())))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let op = self.name();
        on_cuda!(logits, {
            // The loss is what is differentiated: its own gradient is 1, and is not read back.
            let dz = crate::cuda::bce_grad(op, logits, targets)?;
            Ok((Some(dz.broadcast_mul(grad)?), None))
        });
        let scale = grad.to_scalar::<f32>()? / logits.elem_count() as f32;
        let (z, t) = (View::<f32>::new(op, "logits", logits)?, View::<f32>::new(op, "targets", targets)?);
        let sigmoid = |z: f32| 1.0 / (1.0 + (-z).exp());
        let dz: Vec<f32> = z.iter().zip(t.iter()).map(|(z, t)| (sigmoid(*z) - t) * scale).collect();
        let dz = Tensor::from_vec(dz, logits.shape(), &Device::Cpu)?;
        Ok((Some(dz), None))
    }
}
