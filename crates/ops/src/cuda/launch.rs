//! Launching the kernels of `cuda/kernels.cu`.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
};

use candle_core::{
    CudaDevice, DeviceLocation, Result, backend::BackendDevice, cuda_backend::cudarc::driver::CudaSlice,
};

use super::{constants::THREADS, element::OnCuda, operand::address};
use crate::grid;

pub(super) const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// The most columns of blocks of a launch that uses [`block_counters`].
const COLUMNS: usize = 1 << 16;

/// Launches a kernel: `launch!(device, name, grid, block; arguments)`.
///
/// # Safety
///
/// The arguments match the kernel of this name, and its memory is as large as its shapes say.
macro_rules! launch {
    ($device:expr, $name:expr, $grid:expr, $block:expr; $($argument:expr),* $(,)?) => {{
        use candle_core::cuda_backend::{WrapErr, cudarc::driver::{LaunchConfig, PushKernelArg}};
        let function = $device.get_or_load_custom_func($name, "agcnn", $crate::cuda::launch::PTX)?;
        let (grid, block): ((u32, u32), (u32, u32)) = ($grid, $block);
        let config =
            LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: (block.0, block.1, 1), shared_mem_bytes: 0 };
        let mut builder = function.builder();
        $(let argument = $argument; builder.arg(&argument);)*
        builder.launch(config).w()?;
    }};
}
pub(crate) use launch;

/// The name of a kernel for activations of `T`, and the elements of its vectors: 16 bytes if all `sizes` (channels and
/// pitches) are multiples of that, else one element.
pub(crate) fn kernel<T: OnCuda>(name: &str, sizes: &[usize]) -> (String, usize) {
    let vector = if sizes.iter().all(|size| size.is_multiple_of(T::VECTOR)) { T::VECTOR } else { 1 };
    (format!("{name}_{}_{vector}", T::NAME), vector)
}

/// Counters, 0 between launches, with which the last block of a column to finish recognises itself.
pub(crate) fn block_counters(device: &CudaDevice) -> Result<u64> {
    thread_local! {
        static COUNTERS: RefCell<HashMap<DeviceLocation, CudaSlice<u32>>> = RefCell::new(HashMap::new());
    }
    COUNTERS.with_borrow_mut(|counters| {
        let counters = match counters.entry(device.location()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(device.alloc_zeros::<u32>(COLUMNS)?),
        };
        Ok(address(counters, device))
    })
}

/// The grid of an element-wise pass over `count` vectors.
pub(crate) fn blocks(count: usize) -> (u32, u32) {
    grid::blocks(count, THREADS)
}

/// As [`blocks`], for `count` elements in vectors of `vector` whose kernel divides 32-bit indices.
///
/// # Errors
///
/// 2³² vectors or more.
pub(crate) fn blocks_32(op: &'static str, name: &'static str, count: usize, vector: usize) -> Result<(u32, u32)> {
    Ok(grid::blocks_32(op, name, count, (vector, THREADS))?)
}
