//! The loss.

use candle_core::{CudaStorage, DType, Layout, Result, Storage, Tensor, backend::BackendStorage};

use super::{THREADS, address, launch, room};
use crate::Error;

/// The mean binary cross-entropy `[]` of logits, and its gradient.
pub(crate) fn bce(
    op: &'static str,
    (z, lz): (&CudaStorage, &Layout),
    (t, lt): (&CudaStorage, &Layout),
) -> Result<(CudaStorage, CudaStorage)> {
    let count = lz.shape().elem_count();
    if lz.dims() != lt.dims() || count == 0 {
        let expected = format!("{:?}, at least one element", lz.dims());
        return Err(Error::Shape { op, name: "targets", expected, got: lt.dims().to_vec() }.into());
    }
    for (name, layout) in [("logits", lz), ("targets", lt)] {
        if !layout.is_contiguous() {
            let (shape, strides) = (layout.shape().clone(), layout.stride().to_vec());
            return Err(Error::Strided { op, name, shape, strides }.into());
        }
    }
    let device = &z.device;
    let at = |name, storage: &CudaStorage, layout: &Layout| -> Result<u64> {
        if storage.dtype() != DType::F32 {
            return Err(Error::Type { op, name, expected: DType::F32, got: storage.dtype() }.into());
        }
        let slice = storage.as_cuda_slice::<f32>()?;
        Ok(address(slice, device) + (layout.start_offset() * size_of::<f32>()) as u64)
    };
    let (logits, targets) = (at("logits", z, lz)?, at("targets", t, lt)?);
    let ((loss, loss_at), (grad, grad_at)) = (room::<f32>(device, 1)?, room::<f32>(device, count)?);
    // SAFETY: logits, targets and gradient are as many.
    unsafe {
        launch!(device, "bce", (1, 1), (THREADS, 1); logits, targets, count as i32, loss_at, grad_at);
    }
    let storage = |slice| CudaStorage::wrap_cuda_slice(slice, device.clone());
    Ok((storage(loss), storage(grad)))
}

/// The gradient alone.
pub(crate) fn bce_grad(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let ((z, lz), (t, lt)) = (logits.storage_and_layout(), targets.storage_and_layout());
    let (Storage::Cuda(z), Storage::Cuda(t)) = (&*z, &*t) else {
        let got = format!("{:?}", targets.device().location());
        return Err(Error::Device { op, name: "targets", got }.into());
    };
    let (_, grad) = bce(op, (z, lz), (t, lt))?;
    Ok(super::of_storage(grad, logits.shape()))
}
