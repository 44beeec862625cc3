//! The operators on CUDA: convolutions by cuDNN, everything between them by our own kernels (`cuda/kernels.cu`).
//!
//! Everything runs on the device's one stream, in the order of the calls; nothing here waits for the device.

mod conv;
mod loss;
mod norm;
mod optim;
mod pool;
mod views;

pub(crate) use conv::{allow_tf32, bias_act, forward, input_grad, weight_grad};
pub(crate) use loss::bce;
pub(crate) use norm::{Running, backward, backward_add, normalised, prepare, stats};
pub(crate) use optim::{adamw, sgd};
pub(crate) use pool::{Windows, avg_pool, avg_pool_grad, global_pool, global_pool_grad, max_pool, max_pool_grad};
pub(crate) use views::views;

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
};

use candle_core::{
    CudaDevice, CudaStorage, DType, DeviceLocation, Result, Shape, Storage, StorageRef, Tensor,
    backend::BackendDevice,
    cuda_backend::{
        CudaDType,
        cudarc::{
            cudnn::CudnnDataType,
            driver::{CudaSlice, DevicePtr, DeviceRepr, PinnedHostSlice},
        },
    },
    op::BackpropOp,
};
use half::bf16;

use crate::{Error, view::pixel_pitch};

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Threads of a block: channels across, pixels down (as in the kernels).
const ACROSS: u32 = 32;
const DOWN: u32 = 8;
const THREADS: u32 = ACROSS * DOWN;
/// Blocks of an element-wise pass, at most: enough to fill any device several times.
const BLOCKS: u32 = 4096;
/// Blocks across of a launch that counts turns, at most: channels are at most so many times [`ACROSS`].
const COLUMNS: usize = 1 << 16;

/// What activations are stored in.
pub(crate) trait OnCuda: CudaDType + DeviceRepr + CudnnDataType + candle_core::WithDType {
    /// As the kernels' names have it.
    const NAME: &'static str;
    /// Elements of 16 bytes.
    const VECTOR: usize;
    /// The convolutions of this type.
    fn plans(context: &mut conv::Context) -> &mut conv::Plans<Self>;
}

impl OnCuda for f32 {
    const NAME: &'static str = "f32";
    const VECTOR: usize = 4;

    fn plans(context: &mut conv::Context) -> &mut conv::Plans<f32> {
        &mut context.f32
    }
}

impl OnCuda for bf16 {
    const NAME: &'static str = "bf16";
    const VECTOR: usize = 8;

    fn plans(context: &mut conv::Context) -> &mut conv::Plans<bf16> {
        &mut context.bf16
    }
}

/// Launches a kernel: `launch!(device, name, grid, block; arguments)`.
///
/// # Safety
///
/// The arguments must be those of the kernel of this name, and its memory as large as its shapes say.
macro_rules! launch {
    ($device:expr, $name:expr, $grid:expr, $block:expr; $($argument:expr),* $(,)?) => {{
        use candle_core::cuda_backend::{WrapErr, cudarc::driver::{LaunchConfig, PushKernelArg}};
        let function = $device.get_or_load_custom_func($name, "agcnn", $crate::cuda::PTX)?;
        let (grid, block): ((u32, u32), (u32, u32)) = ($grid, $block);
        let config =
            LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: (block.0, block.1, 1), shared_mem_bytes: 0 };
        let mut builder = function.builder();
        $(let argument = $argument; builder.arg(&argument);)*
        builder.launch(config).w()?;
    }};
}
pub(crate) use launch;

/// A tensor on a CUDA device, locked for reading.
pub(crate) struct View<'a> {
    storage: StorageRef<'a>,
    /// Address of its first element.
    pub(crate) at: u64,
    /// Elements from one pixel, the last axis, to the next.
    pub(crate) pitch: usize,
}

impl<'a> View<'a> {
    /// Locks `tensor`, without gaps, which operator `op` calls `name`.
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

    /// As [`View::new`], of bytes.
    pub(crate) fn bytes(op: &'static str, name: &'static str, tensor: &'a Tensor) -> Result<Self> {
        if tensor.dtype() != DType::U8 {
            return Err(Error::Type { op, name, expected: DType::U8, got: tensor.dtype() }.into());
        }
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(cuda) = &*storage else {
            let got = format!("{:?}", tensor.device().location());
            return Err(Error::Device { op, name, got }.into());
        };
        let at = address(cuda.as_cuda_slice::<u8>()?, &cuda.device) + layout.start_offset() as u64;
        let pitch = layout.dims().last().copied().unwrap_or(1);
        Ok(View { storage, at, pitch })
    }

    /// Whether both lie in the same storage.
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

/// Address of nothing.
pub(crate) const NULL: u64 = 0;

pub(crate) fn address_of(view: &Option<View>) -> u64 {
    view.as_ref().map_or(NULL, |view| view.at)
}

/// Where a slice is in the device's memory. There is one stream, so what is launched later comes later.
pub(crate) fn address<T>(slice: &CudaSlice<T>, device: &CudaDevice) -> u64 {
    slice.device_ptr(&device.cuda_stream()).0
}

/// Room for `len` elements, and its address.
pub(crate) fn room<T: DeviceRepr>(device: &CudaDevice, len: usize) -> Result<(CudaSlice<T>, u64)> {
    // SAFETY: whoever asks for it has a kernel write all of it before anything reads it.
    let slice = unsafe { device.alloc::<T>(len)? };
    let at = address(&slice, device);
    Ok((slice, at))
}

/// A tensor of what a kernel has written.
pub(crate) fn tensor<T: CudaDType + DeviceRepr>(
    slice: CudaSlice<T>,
    device: &CudaDevice,
    shape: impl Into<Shape>,
) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Tensor::from_storage(storage, shape.into(), BackpropOp::none(), false)
}

/// The kernel for activations of `T` whose channels and pitches are these: the vectorised one where it can be.
pub(crate) fn kernel<T: OnCuda>(name: &str, sizes: &[usize]) -> (String, usize) {
    let vector = if sizes.iter().all(|size| size.is_multiple_of(T::VECTOR)) { T::VECTOR } else { 1 };
    (format!("{name}_{}_{vector}", T::NAME), vector)
}

/// Counters, 0 between launches, by which the last block of a column knows itself.
pub(crate) fn turns(device: &CudaDevice) -> Result<u64> {
    thread_local! {
        static TURNS: RefCell<HashMap<DeviceLocation, CudaSlice<u32>>> = RefCell::new(HashMap::new());
    }
    TURNS.with_borrow_mut(|turns| {
        let turns = match turns.entry(device.location()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(device.alloc_zeros::<u32>(COLUMNS)?),
        };
        Ok(address(turns, device))
    })
}

/// Blocks of an element-wise pass over `count` vectors.
pub(crate) fn blocks(count: usize) -> (u32, u32) {
    (u32::try_from(count.div_ceil(THREADS as usize)).unwrap_or(BLOCKS).clamp(1, BLOCKS), 1)
}

/// A tensor of what is being copied from `from`, whose first bytes are its.
pub(crate) fn upload(from: &PinnedHostSlice<u8>, shape: Shape, device: &CudaDevice) -> Result<Tensor> {
    use candle_core::cuda_backend::WrapErr;
    let len = shape.elem_count();
    if len > from.len() {
        let (expected, got) = (format!("at most {} bytes", from.len()), format!("{shape:?}"));
        return Err(Error::Parameter { op: "upload", name: "shape", expected, got }.into());
    }
    // The copy is of all of it: one length, one allocation.
    let (mut slice, _) = room::<u8>(device, from.len())?;
    device.cuda_stream().memcpy_htod(from, &mut slice).w()?;
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}
