//! Set-up and memory of a CUDA device.

use candle_core::{
    Device, Result,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            result,
            sys::{CUmemPool_attribute as Attribute, CUmemoryPool},
        },
    },
};

/// Prepares a CUDA device whose work all runs on its one stream: no events per allocation, and freed memory stays with the
/// process.
///
/// # Errors
///
/// The device is of another kind; the driver fails.
pub fn use_one_stream(device: &Device) -> Result<()> {
    // SAFETY: all work runs on the device's one stream, in order, so no event is needed between two uses of a block.
    unsafe { device.as_cuda_device()?.disable_event_tracking() };
    let (pool, mut threshold) = (memory_pool(device)?, u64::MAX);
    // SAFETY: the attribute is a 64-bit number, and the driver reads it before the call returns.
    unsafe {
        result::mem_pool::set_attribute(pool, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut threshold).cast())
    }
    .w()
}

/// The most memory of a CUDA device, in bytes, that this process's tensors and workspaces have used so far, and the most
/// that it has reserved for them.
///
/// # Errors
///
/// The device is of another kind; the driver fails.
pub fn peak_memory(device: &Device) -> Result<[u64; 2]> {
    let pool = memory_pool(device)?;
    let read = |attribute| -> Result<u64> {
        let mut bytes = 0u64;
        // SAFETY: the attribute is a 64-bit number, written before the call returns.
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }.w()?;
        Ok(bytes)
    };
    Ok([read(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?, read(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?])
}

/// Free memory of a CUDA device, in bytes.
///
/// # Errors
///
/// The device is of another kind; the driver fails.
pub fn free_memory(device: &Device) -> Result<usize> {
    Ok(device.as_cuda_device()?.cuda_stream().context().mem_get_info().w()?.0)
}

fn memory_pool(device: &Device) -> Result<CUmemoryPool> {
    let device = device.as_cuda_device()?.cuda_stream().context().cu_device();
    // SAFETY: the handle is of a device that is open.
    unsafe { result::device::get_default_mem_pool(device) }.w()
}
