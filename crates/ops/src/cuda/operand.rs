//! Tensors on a CUDA device as addresses, after checking that a kernel may use them.

use candle_core::{
    CudaDevice, CudaStorage, Result, Shape, Storage, StorageRef, Tensor, WithDType,
    cuda_backend::{
        CudaDType, WrapErr,
        cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, PinnedHostSlice},
    },
    op::BackpropOp,
};

use super::element::OnCuda;
use crate::{error::Error, view::pixel_pitch};

/// A tensor on a CUDA device, locked for reading.
pub(crate) struct View<'a> {
    storage: StorageRef<'a>,
    /// Address of its first element.
    pub(crate) at: u64,
    /// Elements from one pixel, the last axis, to the next.
    pub(crate) pitch: usize,
}

impl<'a> View<'a> {
    /// Locks a contiguous tensor, which operator `op` calls `name`.
    pub(crate) fn new<T: OnCuda>(op: &'static str, name: &'static str, tensor: &'a Tensor) -> Result<Self> {
        let view = Self::pixels::<T>(op, name, tensor)?;
        if !tensor.is_contiguous() {
            let (shape, strides) = (tensor.shape().clone(), tensor.stride().to_vec());
            return Err(Error::Strided { op, name, shape, strides }.into());
        }
        Ok(view)
    }

    /// As [`View::new`], but the pixels `[..., C]` may lie further apart than `C`, as in a part of the channels.
    pub(crate) fn pixels<T: OnCuda>(op: &'static str, name: &'static str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let pitch = match pixel_pitch(layout) {
            Some(pitch) => pitch,
            None if layout.is_contiguous() => layout.dims().last().copied().unwrap_or(1),
            None => {
                let (shape, strides) = (layout.shape().clone(), layout.stride().to_vec());
                return Err(Error::Strided { op, name, shape, strides }.into());
            }
        };
        if tensor.dtype() != T::DTYPE {
            return Err(Error::Type { op, name, expected: T::DTYPE, got: tensor.dtype() }.into());
        }
        let Storage::Cuda(cuda) = &*storage else {
            let got = format!("{:?}", tensor.device().location());
            return Err(Error::Device { op, name, got }.into());
        };
        let at = address(cuda.as_cuda_slice::<T>()?, &cuda.device) + (layout.start_offset() * size_of::<T>()) as u64;
        Ok(View { storage, at, pitch })
    }

    /// As [`View::new`], for bytes.
    pub(crate) fn bytes(op: &'static str, name: &'static str, tensor: &'a Tensor) -> Result<Self> {
        Self::of::<u8>(op, name, tensor)
    }

    /// As [`View::new`], for `f64`.
    pub(crate) fn wide(op: &'static str, name: &'static str, tensor: &'a Tensor) -> Result<Self> {
        Self::of::<f64>(op, name, tensor)
    }

    /// As [`View::new`], for types that are no activations'.
    fn of<T: CudaDType + WithDType>(op: &'static str, name: &'static str, tensor: &'a Tensor) -> Result<Self> {
        if tensor.dtype() != <T as WithDType>::DTYPE {
            return Err(Error::Type { op, name, expected: <T as WithDType>::DTYPE, got: tensor.dtype() }.into());
        }
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(cuda) = &*storage else {
            let got = format!("{:?}", tensor.device().location());
            return Err(Error::Device { op, name, got }.into());
        };
        let at = address(cuda.as_cuda_slice::<T>()?, &cuda.device) + (layout.start_offset() * size_of::<T>()) as u64;
        let pitch = layout.dims().last().copied().unwrap_or(1);
        Ok(View { storage, at, pitch })
    }

    /// Whether both are in the same storage.
    pub(crate) fn shares(&self, other: &View) -> bool {
        std::ptr::eq(&*self.storage, &*other.storage)
    }

    /// The device it is on.
    pub(crate) fn device(&self) -> Result<&CudaDevice> {
        match &*self.storage {
            Storage::Cuda(cuda) => Ok(&cuda.device),
            _ => Err(candle_core::Error::Msg("a view is of CUDA storage".into())),
        }
    }
}

/// The address that stands for "no tensor".
pub(crate) const NULL: u64 = 0;

/// The address of a tensor that may be missing.
pub(crate) fn address_of(view: &Option<View>) -> u64 {
    view.as_ref().map_or(NULL, |view| view.at)
}

/// The address of a slice. All work is on one stream, so kernels launched later run later.
pub(crate) fn address<T>(slice: &CudaSlice<T>, device: &CudaDevice) -> u64 {
    slice.device_ptr(&device.cuda_stream()).0
}

/// Uninitialised memory for `len` elements, and its address.
pub(crate) fn uninit<T: DeviceRepr>(device: &CudaDevice, len: usize) -> Result<(CudaSlice<T>, u64)> {
    // SAFETY: every caller has a kernel write all of it before anything reads it.
    let slice = unsafe { device.alloc::<T>(len)? };
    let at = address(&slice, device);
    Ok((slice, at))
}

/// A tensor from memory that a kernel has written.
pub(crate) fn tensor<T: CudaDType + DeviceRepr>(
    slice: CudaSlice<T>,
    device: &CudaDevice,
    shape: impl Into<Shape>,
) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Tensor::from_storage(storage, shape.into(), BackpropOp::none(), false)
}

/// Starts to copy pinned memory to the device; the first bytes become a tensor of `shape`.
pub(crate) fn upload(from: &PinnedHostSlice<u8>, shape: Shape, device: &CudaDevice) -> Result<Tensor> {
    let len = shape.elem_count();
    if len > from.len() {
        let (expected, got) = (format!("at most {} bytes", from.len()), format!("{shape:?}"));
        return Err(Error::Parameter { op: "upload", name: "shape", expected, got }.into());
    }
    // The whole buffer is copied: all copies have one length, so the allocator can reuse the block.
    let (mut slice, _) = uninit::<u8>(device, from.len())?;
    device.cuda_stream().memcpy_htod(from, &mut slice).w()?;
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}
