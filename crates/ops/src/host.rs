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
