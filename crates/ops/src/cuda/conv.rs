//! Convolutions by cuDNN, channels-last.
//!
//! Nothing is timed to choose an algorithm. Each pass takes one fixed algorithm, the one that uses tensor cores on
//! channels-last tensors and gives the same bits every time: `IMPLICIT_PRECOMP_GEMM` forward, `ALGO_1` for both gradients.
//! Only for a shape for which cuDNN does not have it, cuDNN's heuristic recommends another. The choice is kept per shape, type
//! and TF32 setting; the workspace only grows.

use std::{
    any::Any,
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    mem::ManuallyDrop,
    sync::Arc,
};

use candle_core::{
    CudaDevice, DType, DeviceLocation, Result, Tensor,
    backend::BackendDevice,
    cuda_backend::cudarc::{
        cudnn::{
            ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType, FilterDescriptor,
            TensorDescriptor, sys,
        },
        driver::CudaSlice,
    },
};

use super::{
    constants::THREADS,
    element::OnCuda,
    launch::{blocks_32, kernel, launch},
    norm::normalised,
    operand::{NULL, View, address_of, tensor, uninit},
};
use crate::{input::Input, kernel::conv::Geometry};

/// The pass and shape of a convolution.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pass: Pass,
    /// `[n, ci, h, w]`, `[co, ci, kh, kw]`, stride, padding.
    x: [i32; 4],
    w: [i32; 4],
    stride: i32,
    padding: i32,
    /// Whether `f32` factors may be rounded to TF32.
    tf32: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Pass {
    Forward,
    InputGrad,
    WeightGrad,
}

/// cuDNN's descriptors of a convolution, its algorithm, and the bytes of workspace that it needs.
struct Plan<T: CudnnDataType> {
    x: TensorDescriptor<T>,
    y: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    conv: ConvDescriptor<f32>,
    algorithm: Algorithm,
    workspace: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    InputGrad(sys::cudnnConvolutionBwdDataAlgo_t),
    WeightGrad(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// cuDNN's state on a device. Its handle belongs to one thread.
struct Context {
    cudnn: Arc<Cudnn>,
    /// A `Plan<T>` of the key's type for every convolution so far.
    plans: HashMap<(DType, Key), Box<dyn Any>>,
    workspace: Option<CudaSlice<u8>>,
}

thread_local! {
    static CONTEXTS: RefCell<HashMap<DeviceLocation, Context>> = RefCell::new(HashMap::new());
}

fn with_context<R>(device: &CudaDevice, f: impl FnOnce(&mut Context) -> Result<R>) -> Result<R> {
    CONTEXTS.with_borrow_mut(|contexts| match contexts.entry(device.location()) {
        Entry::Occupied(mut context) => f(context.get_mut()),
        Entry::Vacant(free) => {
            let cudnn = Cudnn::new(device.cuda_stream())?;
            f(free.insert(Context { cudnn, plans: HashMap::new(), workspace: None }))
        }
    })
}

/// The workspace, enlarged to at least `bytes` bytes.
fn grow<'a>(
    device: &CudaDevice,
    workspace: &'a mut Option<CudaSlice<u8>>,
    bytes: usize,
) -> Result<Option<&'a mut CudaSlice<u8>>> {
    if bytes == 0 {
        return Ok(None);
    }
    if workspace.as_ref().is_none_or(|workspace| workspace.len() < bytes) {
        *workspace = None; // frees the smaller one first
        // SAFETY: cuDNN reads only what it has written there.
        *workspace = Some(unsafe { device.alloc::<u8>(bytes)? });
    }
    Ok(workspace.as_mut())
}

impl Key {
    fn new(pass: Pass, g: &Geometry, tf32: bool) -> Result<Key> {
        let size = |size: usize| {
            i32::try_from(size).map_err(|_| candle_core::Error::Msg(format!("cuDNN takes no size of {size}")))
        };
        Ok(Key {
            pass,
            x: [size(g.n)?, size(g.ci)?, size(g.h)?, size(g.w)?],
            w: [size(g.co)?, size(g.ci)?, size(g.kh)?, size(g.kw)?],
            stride: size(g.stride)?,
            padding: size(g.padding)?,
            tf32,
        })
    }
}

impl<T: OnCuda> Plan<T> {
    /// With the fixed algorithm of the pass where cuDNN has it for this shape, else with the one that cuDNN recommends.
    fn new(cudnn: &Arc<Cudnn>, key: &Key, g: &Geometry) -> Result<Self> {
        let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let mut conv = cudnn.create_conv2d::<f32>([key.padding; 2], [key.stride; 2], [1, 1], mode)?;
        conv.set_math_type(if T::DTYPE == DType::BF16 {
            sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH
        } else if key.tf32 {
            sys::cudnnMathType_t::CUDNN_DEFAULT_MATH
        } else {
            sys::cudnnMathType_t::CUDNN_FMA_MATH
        })?;
        let x = cudnn.create_4d_tensor::<T>(format, key.x)?;
        let y = cudnn.create_4d_tensor::<T>(format, [key.x[0], key.w[0], g.oh as i32, g.ow as i32])?;
        let w = cudnn.create_4d_filter::<T>(format, key.w)?;
        let (algorithm, workspace) = match key.pass {
            Pass::Forward => {
                let op = ConvForward { conv: &conv, x: &x, w: &w, y: &y };
                let fixed = sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
                let (algorithm, bytes) = match op.get_workspace_size(fixed) {
                    Ok(bytes) => (fixed, bytes),
                    Err(_) => op.pick_algorithm().and_then(|other| Ok((other, op.get_workspace_size(other)?)))?,
                };
                (Algorithm::Forward(algorithm), bytes)
            }
            Pass::InputGrad => {
                let op = ConvBackwardData { conv: &conv, dx: &x, w: &w, dy: &y };
                let fixed = sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
                let (algorithm, bytes) = match op.get_workspace_size(fixed) {
                    Ok(bytes) => (fixed, bytes),
                    Err(_) => op.pick_algorithm().and_then(|other| Ok((other, op.get_workspace_size(other)?)))?,
                };
                (Algorithm::InputGrad(algorithm), bytes)
            }
            Pass::WeightGrad => {
                let op = ConvBackwardFilter { conv: &conv, x: &x, dw: &w, dy: &y };
                let fixed = sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
                let (algorithm, bytes) = match op.get_workspace_size(fixed) {
                    Ok(bytes) => (fixed, bytes),
                    Err(_) => op.pick_algorithm().and_then(|other| Ok((other, op.get_workspace_size(other)?)))?,
                };
                (Algorithm::WeightGrad(algorithm), bytes)
            }
        };
        Ok(Plan { x, y, w, conv, algorithm, workspace })
    }
}

/// `x` with its affine applied, contiguous.
fn loaded<T: OnCuda>(op: &'static str, x: Input) -> Result<Tensor> {
    View::pixels::<T>(op, "x", x.x)?;
    normalised::<T>(op, x, None, false)
}

/// A tensor, or a part of its channels, contiguous.
fn dense<T: OnCuda>(op: &'static str, name: &'static str, tensor: &Tensor) -> Result<Tensor> {
    View::pixels::<T>(op, name, tensor)?;
    normalised::<T>(op, tensor.into(), None, false)
}

/// Weights in the type of the activations, contiguous.
fn weights<T: OnCuda>(op: &'static str, w: &Tensor) -> Result<Tensor> {
    if w.dtype() == T::DTYPE {
        View::new::<T>(op, "w", w)?;
        return Ok(w.clone());
    }
    View::new::<f32>(op, "w", w)?;
    w.to_dtype(T::DTYPE)
}

/// `[n, oh, ow, co]` from `x` and `w`, which is rounded to the type of `x`.
pub(crate) fn forward<T: OnCuda>(op: &'static str, g: &Geometry, tf32: bool, x: Input, w: &Tensor) -> Result<Tensor> {
    let (x, w) = (loaded::<T>(op, x)?, weights::<T>(op, w)?);
    run::<T>(g, tf32, Pass::Forward, &x, &w, [g.n, g.oh, g.ow, g.co], None)
}

/// `[n, h, w, ci]` from `dy` and `w`. If `plus` is given, the result is added to it in place, and no one else may use it.
pub(crate) fn input_grad<T: OnCuda>(
    op: &'static str,
    g: &Geometry,
    tf32: bool,
    dy: &Tensor,
    w: &Tensor,
    plus: Option<Tensor>,
) -> Result<Tensor> {
    let (dy, w) = (dense::<T>(op, "dy", dy)?, weights::<T>(op, w)?);
    run::<T>(g, tf32, Pass::InputGrad, &w, &dy, [g.n, g.h, g.w, g.ci], plus)
}

/// `[co, kh, kw, ci]` from `x` and `dy`, in their type.
pub(crate) fn weight_grad<T: OnCuda>(
    op: &'static str,
    g: &Geometry,
    tf32: bool,
    x: Input,
    dy: &Tensor,
) -> Result<Tensor> {
    let (x, dy) = (loaded::<T>(op, x)?, dense::<T>(op, "dy", dy)?);
    run::<T>(g, tf32, Pass::WeightGrad, &x, &dy, [g.co, g.kh, g.kw, g.ci], None)
}

/// `relu(y + bias + residual)`, in place, for the result `y` of a convolution in evaluation.
pub(crate) fn bias_act<T: OnCuda>(
    op: &'static str,
    y: Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    if bias.is_none() && residual.is_none() && !relu {
        return Ok(y);
    }
    let (count, channels) = (y.elem_count(), *y.dims().last().unwrap_or(&1));
    let bias = bias.map(|bias| View::new::<f32>(op, "bias", bias)).transpose()?;
    let residual = residual.map(|residual| View::new::<T>(op, "residual", residual)).transpose()?;
    let view = View::new::<T>(op, "y", &y)?;
    let device = view.device()?.clone();
    let (name, vector) = kernel::<T>("normalise", &[channels]);
    // SAFETY: all have as many pixels and channels; every element is written by the thread that has read it.
    unsafe {
        launch!(device, &name, blocks_32(op, "y", count, vector)?, (THREADS, 1);
            view.at, (count / channels.max(1)) as i64, channels as i32, channels as i64, NULL, address_of(&bias), 0i32,
            address_of(&residual), NULL, NULL, 0i32, i32::from(relu), view.at);
    }
    drop(view);
    Ok(y)
}

/// One pass over contiguous operands, in cuDNN's order. If `plus` is given, the result is added to it in place.
fn run<T: OnCuda>(
    g: &Geometry,
    tf32: bool,
    pass: Pass,
    a: &Tensor,
    b: &Tensor,
    shape: [usize; 4],
    plus: Option<Tensor>,
) -> Result<Tensor> {
    let op = "convolution";
    let (a_storage, a_layout) = a.storage_and_layout();
    let (b_storage, b_layout) = b.storage_and_layout();
    let (candle_core::Storage::Cuda(a), candle_core::Storage::Cuda(b)) = (&*a_storage, &*b_storage) else {
        return Err(candle_core::Error::Msg("both operands of a convolution on CUDA must be there".into()));
    };
    let device = a.device.clone();
    let (a, b) = (a.as_cuda_slice::<T>()?, b.as_cuda_slice::<T>()?);
    let (a, b) = (a.slice(a_layout.start_offset()..), b.slice(b_layout.start_offset()..));
    let count = shape.iter().product();
    let key = Key::new(pass, g, tf32)?;
    let launch = |out: &mut CudaSlice<T>, beta: T| {
        with_context(&device, |Context { cudnn, plans, workspace }| {
            let plan = match plans.entry((T::DTYPE, key)) {
                Entry::Occupied(plan) => plan.into_mut(),
                Entry::Vacant(free) => free.insert(Box::new(Plan::<T>::new(cudnn, &key, g)?)),
            };
            let Some(Plan { x, y, w, conv, algorithm, workspace: bytes }) = plan.downcast_ref::<Plan<T>>() else {
                return Err(candle_core::Error::Msg("a convolution's plan has another type".into()));
            };
            let workspace = grow(&device, workspace, *bytes)?;
            let factors = (T::one(), beta);
            // SAFETY: the operands are as large as described, and the workspace is as large as the algorithm asked for.
            unsafe {
                match *algorithm {
                    Algorithm::Forward(algorithm) => {
                        ConvForward { conv, x, w, y }.launch(algorithm, workspace, factors, &a, &b, out)?
                    }
                    Algorithm::InputGrad(algorithm) => {
                        let op = ConvBackwardData { conv, dx: x, w, dy: y };
                        op.launch(algorithm, workspace, factors, out, &a, &b)?
                    }
                    Algorithm::WeightGrad(algorithm) => {
                        let op = ConvBackwardFilter { conv, x, dw: w, dy: y };
                        op.launch(algorithm, workspace, factors, &a, out, &b)?
                    }
                }
            }
            Ok(())
        })
    };
    match plus {
        Some(plus) => {
            let view = View::new::<T>(op, "plus", &plus)?;
            // SAFETY: `plus` has `count` elements at this address and outlives the slice, which must not free its memory.
            let mut out = ManuallyDrop::new(unsafe { device.cuda_stream().upgrade_device_ptr::<T>(view.at, count) });
            launch(&mut out, T::one())?;
            drop(view);
            Ok(plus)
        }
        None => {
            let (mut out, _) = uninit::<T>(&device, count)?;
            launch(&mut out, T::zero())?;
            Ok(tensor(out, &device, shape.as_slice()))
        }
    }
}
