//! Copies between host and device that run while both go on computing.

use candle_core::{Result, Tensor};

/// Values of a tensor on their way to the host. Waiting for them waits for the work that was queued before the copy, not for
/// work that was queued later.
#[derive(Debug)]
pub struct Readback(Values);

#[derive(Debug)]
enum Values {
    /// The tensor was on the CPU.
    Host(Vec<f32>),
    /// A buffer, and how many of its values are the tensor's.
    #[cfg(feature = "cuda")]
    Cuda(cuda::Pinned, usize),
}

impl Readback {
    /// Starts to copy `tensor`, of `f32`.
    ///
    /// # Errors
    ///
    /// The tensor has another type; the device fails.
    pub fn start(tensor: &Tensor) -> Result<Readback> {
        #[cfg(feature = "cuda")]
        if tensor.device().is_cuda() {
            let (pinned, len) = cuda::start(tensor)?;
            return Ok(Readback(Values::Cuda(pinned, len)));
        }
        Ok(Readback(Values::Host(tensor.flatten_all()?.to_vec1()?)))
    }

    /// Waits for the values and returns them in row-major order.
    ///
    /// # Errors
    ///
    /// The device fails.
    pub fn wait(self) -> Result<Vec<f32>> {
        match self.0 {
            Values::Host(values) => Ok(values),
            #[cfg(feature = "cuda")]
            Values::Cuda(pinned, len) => cuda::finish(pinned, len),
        }
    }
}

#[cfg(feature = "cuda")]
pub use cuda::Staging;

#[cfg(feature = "cuda")]
mod cuda {
    use std::{cell::RefCell, sync::Arc};

    use candle_core::{
        Device, Result, Shape, Storage, Tensor,
        cuda_backend::{
            WrapErr,
            cudarc::driver::{CudaContext, PinnedHostSlice},
        },
    };

    pub(super) type Pinned = PinnedHostSlice<f32>;

    thread_local! {
        /// Buffers of earlier readbacks, for later ones: allocating or freeing pinned memory makes the device wait.
        static FREE: RefCell<Vec<Pinned>> = const { RefCell::new(Vec::new()) };
    }

    /// Pinned memory for `len` values, uninitialised.
    fn pinned(context: &Arc<CudaContext>, len: usize) -> Result<Pinned> {
        let free = FREE.with_borrow_mut(|free| {
            let at = free.iter().position(|free| free.len() >= len && free.len() <= 4 * len.max(1))?;
            Some(free.swap_remove(at))
        });
        // SAFETY: only values that a copy has written are read.
        free.map_or_else(|| unsafe { context.alloc_pinned_with_flags::<f32>(len.max(1), 0) }.w(), Ok)
    }

    pub(super) fn start(tensor: &Tensor) -> Result<(Pinned, usize)> {
        let tensor = tensor.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(cuda) = &*storage else {
            return Err(candle_core::Error::Msg("a tensor on CUDA has CUDA storage".into()));
        };
        let stream = cuda.device.cuda_stream();
        let len = layout.shape().elem_count();
        let from = cuda.as_cuda_slice::<f32>()?.slice(layout.start_offset()..layout.start_offset() + len);
        let mut to = pinned(stream.context(), len)?;
        stream.memcpy_dtoh(&from, &mut to).w()?;
        Ok((to, len))
    }

    pub(super) fn finish(pinned: Pinned, len: usize) -> Result<Vec<f32>> {
        let values = pinned.as_slice().w()?[..len].to_vec();
        FREE.with_borrow_mut(|free| free.push(pinned));
        Ok(values)
    }

    /// Pinned host memory that a CUDA device reads on its own, while the host goes on.
    #[derive(Debug)]
    pub struct Staging(PinnedHostSlice<u8>);

    impl Staging {
        /// A buffer of `len` bytes, all 0.
        ///
        /// # Errors
        ///
        /// The device is of another kind; no memory.
        pub fn new(device: &Device, len: usize) -> Result<Staging> {
            let stream = device.as_cuda_device()?.cuda_stream();
            // SAFETY: it is filled before it is read.
            let mut pinned = unsafe { stream.context().alloc_pinned_with_flags::<u8>(len, 0) }.w()?;
            pinned.as_mut_slice().w()?.fill(0);
            Ok(Staging(pinned))
        }

        /// The bytes, for writing; waits until the device has read the previous ones.
        ///
        /// # Errors
        ///
        /// The device fails.
        pub fn bytes(&mut self) -> Result<&mut [u8]> {
            self.0.as_mut_slice().w()
        }

        /// Starts to copy the first bytes to a `u8` tensor of `shape` on the device.
        ///
        /// # Errors
        ///
        /// The shape has more bytes than the buffer; the device fails.
        pub fn upload(&self, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
            crate::cuda::upload(&self.0, shape.into(), device.as_cuda_device()?)
        }
    }
}
