//! The machine: its memory, and how fast it can be.

use std::time::{Duration, Instant};

use candle_core::DType;

use crate::kernel::conv::Precision;

/// Multiplications and additions per second of all threads, with operands in registers and the first-level cache: what
/// no convolution of this crate on tensors of this type can exceed. Takes half a second.
pub fn multiply_ceiling(activations: DType) -> f64 {
    let tile = if activations == DType::BF16 { Precision::Bf16 } else { Precision::F32 }.tile();
    let run = |seconds: f64| {
        let start = Instant::now();
        let flop = rayon::broadcast(|_| {
            let mut flop = 0;
            while start.elapsed() < Duration::from_secs_f64(seconds) {
                flop += crate::kernel::exercise(&tile, 1000);
            }
            flop
        });
        let flop: usize = flop.into_iter().sum();
        flop as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run(0.1)).fold(0.0, f64::max)
}

/// Keeps freed memory in the process instead of handing it back to the kernel.
///
/// A training step allocates and frees the same gigabytes of activations again and again. By default glibc maps each
/// large block anew, so every step pays for its page faults; measured on a virtual machine that cost a third of the
/// step. Call this once, early in `main`. The process's resident size then stays at its peak. Does nothing where the
/// allocator is not glibc's.
pub fn keep_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const NEVER_TRIM: i32 = -1;
        // SAFETY: `mallopt` only sets parameters of the allocator; it is thread-safe and cannot invalidate any block.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER_TRIM);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}

/// Prepares a CUDA device for work on its one stream: no events per allocation, and freed memory stays with the process.
///
/// # Errors
///
/// A device of another kind; the driver.
#[cfg(feature = "cuda")]
pub fn one_stream(device: &candle_core::Device) -> candle_core::Result<()> {
    use candle_core::cuda_backend::{
        WrapErr,
        cudarc::driver::{result, sys},
    };
    let cuda = device.as_cuda_device()?;
    // SAFETY: everything runs on the device's one stream, in order, so no event is needed between two uses of a block.
    unsafe { cuda.disable_event_tracking() };
    let mut threshold = u64::MAX;
    // SAFETY: the attribute is a number of 64 bits, and the driver reads it before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(cuda.cuda_stream().context().cu_device()).w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast()).w()?;
    }
    Ok(())
}

/// The most memory of a CUDA device that this process's tensors and workspaces have taken so far, in bytes: in use, and
/// kept for them.
///
/// # Errors
///
/// A device of another kind; the driver.
#[cfg(feature = "cuda")]
pub fn peak_memory(device: &candle_core::Device) -> candle_core::Result<[u64; 2]> {
    use candle_core::cuda_backend::{
        WrapErr,
        cudarc::driver::{result, sys::CUmemPool_attribute as Attribute},
    };
    let context = device.as_cuda_device()?.cuda_stream().context().cu_device();
    let read = |attribute| -> candle_core::Result<u64> {
        let mut bytes = 0u64;
        // SAFETY: the attribute is a number of 64 bits, written before the call returns.
        unsafe {
            let pool = result::device::get_default_mem_pool(context).w()?;
            result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()).w()?;
        }
        Ok(bytes)
    };
    Ok([read(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?, read(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?])
}

/// Whether convolutions of `f32` on CUDA may multiply in TF32, whose factors have three digits; at first they may not.
pub fn allow_tf32(allow: bool) {
    #[cfg(feature = "cuda")]
    crate::cuda::allow_tf32(allow);
    #[cfg(not(feature = "cuda"))]
    let _ = allow;
}

/// Values of a tensor on their way to the host: whoever waits for them waits for what came before them alone, not for
/// what has been asked of the device since.
#[derive(Debug)]
pub struct Reading(Copy);

#[derive(Debug)]
enum Copy {
    Here(Vec<f32>),
    /// So many of them.
    #[cfg(feature = "cuda")]
    Cuda(Pinned, usize),
}

#[cfg(feature = "cuda")]
type Pinned = candle_core::cuda_backend::cudarc::driver::PinnedHostSlice<f32>;

#[cfg(feature = "cuda")]
thread_local! {
    /// What readings have used and others may use again: to allocate and to free it makes the device wait.
    static PINNED: std::cell::RefCell<Vec<Pinned>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Host memory for `len` values, which are not there yet.
#[cfg(feature = "cuda")]
fn pinned(
    context: &std::sync::Arc<candle_core::cuda_backend::cudarc::driver::CudaContext>,
    len: usize,
) -> candle_core::Result<Pinned> {
    use candle_core::cuda_backend::WrapErr;
    let known = PINNED.with_borrow_mut(|free| {
        let at = free.iter().position(|free| free.len() >= len && free.len() <= 4 * len.max(1))?;
        Some(free.swap_remove(at))
    });
    // SAFETY: a copy writes what is read of it.
    known.map_or_else(|| unsafe { context.alloc_pinned_with_flags::<f32>(len.max(1), 0) }.w(), Ok)
}

impl Reading {
    /// Starts reading `tensor`, of `f32`.
    ///
    /// # Errors
    ///
    /// Another type; the device.
    pub fn start(tensor: &candle_core::Tensor) -> candle_core::Result<Reading> {
        #[cfg(feature = "cuda")]
        if tensor.device().is_cuda() {
            use candle_core::{Storage, cuda_backend::WrapErr};
            let tensor = tensor.contiguous()?;
            let (storage, layout) = tensor.storage_and_layout();
            if let Storage::Cuda(cuda) = &*storage {
                let stream = cuda.device.cuda_stream();
                let len = layout.shape().elem_count();
                let from = cuda.as_cuda_slice::<f32>()?.slice(layout.start_offset()..layout.start_offset() + len);
                let mut to = pinned(stream.context(), len)?;
                stream.memcpy_dtoh(&from, &mut to).w()?;
                return Ok(Reading(Copy::Cuda(to, len)));
            }
        }
        Ok(Reading(Copy::Here(tensor.flatten_all()?.to_vec1()?)))
    }

    /// The values, in row-major order, once they are there.
    ///
    /// # Errors
    ///
    /// The device.
    pub fn wait(self) -> candle_core::Result<Vec<f32>> {
        match self.0 {
            Copy::Here(values) => Ok(values),
            #[cfg(feature = "cuda")]
            Copy::Cuda(pinned, len) => {
                use candle_core::cuda_backend::WrapErr;
                let values = pinned.as_slice().w()?[..len].to_vec();
                PINNED.with_borrow_mut(|free| free.push(pinned));
                Ok(values)
            }
        }
    }
}

/// Bytes free on a CUDA device.
///
/// # Errors
///
/// A device of another kind; the driver.
#[cfg(feature = "cuda")]
pub fn free_memory(device: &candle_core::Device) -> candle_core::Result<usize> {
    use candle_core::cuda_backend::WrapErr;
    Ok(device.as_cuda_device()?.cuda_stream().context().mem_get_info().w()?.0)
}

/// Host memory that a CUDA device reads by itself, while the host goes on.
#[cfg(feature = "cuda")]
#[derive(Debug)]
pub struct Staging(candle_core::cuda_backend::cudarc::driver::PinnedHostSlice<u8>);

#[cfg(feature = "cuda")]
impl Staging {
    /// Room for `len` bytes, all 0.
    ///
    /// # Errors
    ///
    /// A device of another kind; no memory.
    pub fn new(device: &candle_core::Device, len: usize) -> candle_core::Result<Staging> {
        use candle_core::cuda_backend::WrapErr;
        let stream = device.as_cuda_device()?.cuda_stream();
        // SAFETY: it is filled before anybody reads it.
        let mut pinned = unsafe { stream.context().alloc_pinned_with_flags::<u8>(len, 0) }.w()?;
        pinned.as_mut_slice().w()?.fill(0);
        Ok(Staging(pinned))
    }

    /// The bytes, for writing, once the device has read what was there.
    ///
    /// # Errors
    ///
    /// The device.
    pub fn bytes(&mut self) -> candle_core::Result<&mut [u8]> {
        use candle_core::cuda_backend::WrapErr;
        self.0.as_mut_slice().w()
    }

    /// Starts copying the first bytes to a tensor of `shape` on the device.
    ///
    /// # Errors
    ///
    /// A shape of more bytes than there are; the device.
    pub fn upload(
        &self,
        shape: impl Into<candle_core::Shape>,
        device: &candle_core::Device,
    ) -> candle_core::Result<candle_core::Tensor> {
        crate::cuda::upload(&self.0, shape.into(), device.as_cuda_device()?)
    }
}
