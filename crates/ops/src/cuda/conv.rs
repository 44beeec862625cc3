//! Convolutions by cuDNN, channels-last. An algorithm is chosen once per shape, and the workspace only grows.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
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

use super::{NULL, OnCuda, THREADS, View, address_of, blocks, kernel, launch, room, tensor};
use crate::{Input, kernel::conv::Geometry};

/// Which pass, of which type and shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pass: Pass,
    dtype: DType,
    /// `[n, ci, h, w]`, `[co, ci, kh, kw]`, stride, padding.
    x: [i32; 4],
    w: [i32; 4],
    stride: i32,
    padding: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Pass {
    Forward,
    InputGrad,
    WeightGrad,
}

/// What cuDNN needs on a device; its handle belongs to one thread.
struct Context {
    cudnn: Arc<Cudnn>,
    /// Bytes of workspace of what was chosen.
    forward: HashMap<Key, (sys::cudnnConvolutionFwdAlgo_t, usize)>,
    input_grad: HashMap<Key, (sys::cudnnConvolutionBwdDataAlgo_t, usize)>,
    weight_grad: HashMap<Key, (sys::cudnnConvolutionBwdFilterAlgo_t, usize)>,
    workspace: Option<CudaSlice<u8>>,
}

thread_local! {
    static CONTEXTS: RefCell<HashMap<DeviceLocation, Context>> = RefCell::new(HashMap::new());
}

fn with_context<R>(device: &CudaDevice, f: impl FnOnce(&mut Context) -> Result<R>) -> Result<R> {
    CONTEXTS.with_borrow_mut(|contexts| {
        let place = device.location();
        match contexts.entry(place) {
            Entry::Occupied(mut context) => f(context.get_mut()),
            Entry::Vacant(free) => {
                let cudnn = Cudnn::new(device.cuda_stream())?;
                let (forward, input_grad, weight_grad) = (HashMap::new(), HashMap::new(), HashMap::new());
                f(free.insert(Context { cudnn, forward, input_grad, weight_grad, workspace: None }))
            }
        }
    })
}

/// A workspace of at least so many bytes.
fn grow<'a>(
    device: &CudaDevice,
    workspace: &'a mut Option<CudaSlice<u8>>,
    bytes: usize,
) -> Result<Option<&'a mut CudaSlice<u8>>> {
    if bytes == 0 {
        return Ok(None);
    }
    if workspace.as_ref().is_none_or(|workspace| workspace.len() < bytes) {
        *workspace = None; // first give back what was too small
        // SAFETY: cuDNN writes what it reads there.
        *workspace = Some(unsafe { device.alloc::<u8>(bytes)? });
    }
    Ok(workspace.as_mut())
}

/// cuDNN's descriptions of a convolution.
struct Described<T: CudnnDataType> {
    x: TensorDescriptor<T>,
    y: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    conv: ConvDescriptor<f32>,
    key: Key,
}

impl<T: OnCuda> Described<T> {
    fn new(cudnn: &Arc<Cudnn>, pass: Pass, g: &Geometry) -> Result<Self> {
        let size = |size: usize| {
            i32::try_from(size).map_err(|_| candle_core::Error::Msg(format!("cuDNN takes no size of {size}")))
        };
        let x = [size(g.n)?, size(g.ci)?, size(g.h)?, size(g.w)?];
        let w = [size(g.co)?, size(g.ci)?, size(g.kh)?, size(g.kw)?];
        let y = [size(g.n)?, size(g.co)?, size(g.oh)?, size(g.ow)?];
        let (stride, padding) = (size(g.stride)?, size(g.padding)?);
        let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let mut conv = cudnn.create_conv2d::<f32>([padding; 2], [stride; 2], [1, 1], mode)?;
        // bf16 by tensor cores; f32 as f32.
        conv.set_math_type(if T::DTYPE == DType::BF16 {
            sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH
        } else {
            sys::cudnnMathType_t::CUDNN_FMA_MATH
        })?;
        Ok(Described {
            x: cudnn.create_4d_tensor::<T>(format, x)?,
            y: cudnn.create_4d_tensor::<T>(format, y)?,
            w: cudnn.create_4d_filter::<T>(format, w)?,
            conv,
            key: Key { pass, dtype: T::DTYPE, x, w, stride, padding },
        })
    }
}

/// `x` as it is read: changed beforehand, where an affine is to be applied, and without gaps.
fn read<T: OnCuda>(op: &'static str, x: Input) -> Result<Tensor> {
    match x.affine {
        Some(_) => super::normalised::<T>(op, x, None, false),
        None => x.x.contiguous(),
    }
}

/// `[n, oh, ow, co]` from `x` and `w`, which is rounded to the type of `x`.
pub(crate) fn forward<T: OnCuda>(op: &'static str, g: &Geometry, x: Input, w: &Tensor) -> Result<Tensor> {
    let (x, w) = (read::<T>(op, x)?, w.to_dtype(T::DTYPE)?.contiguous()?);
    run::<T>(g, Pass::Forward, &x, &w, [g.n, g.oh, g.ow, g.co])
}

/// `[n, h, w, ci]` from `dy` and `w`; `plus` is added.
pub(crate) fn input_grad<T: OnCuda>(
    op: &'static str,
    g: &Geometry,
    dy: &Tensor,
    w: &Tensor,
    plus: Option<&Tensor>,
) -> Result<Tensor> {
    let (dy, w) = (dy.contiguous()?, w.to_dtype(T::DTYPE)?.contiguous()?);
    let dx = run::<T>(g, Pass::InputGrad, &w, &dy, [g.n, g.h, g.w, g.ci])?;
    match plus {
        Some(plus) => super::normalised::<T>(op, Input::from(&dx), Some(Input::from(plus)), false),
        None => Ok(dx),
    }
}

/// `[co, kh, kw, ci]` of `f32` from `x` and `dy`.
pub(crate) fn weight_grad<T: OnCuda>(op: &'static str, g: &Geometry, x: Input, dy: &Tensor) -> Result<Tensor> {
    let (x, dy) = (read::<T>(op, x)?, dy.contiguous()?);
    run::<T>(g, Pass::WeightGrad, &x, &dy, [g.co, g.kh, g.kw, g.ci])?.to_dtype(DType::F32)
}

/// `act(y + bias + residual)`, of what an evaluated convolution gave.
pub(crate) fn bias_act(
    op: &'static str,
    y: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    if bias.is_none() && residual.is_none() && !relu {
        return Ok(y.clone());
    }
    let shape = y.shape().clone();
    let channels = *shape.dims().last().unwrap_or(&1);
    let pixels = shape.elem_count() / channels.max(1);
    let ones = bias.map(|bias| bias.ones_like()).transpose()?;
    let scale = ones.as_ref().map(|ones| View::new::<f32>(op, "scale", ones)).transpose()?;
    let bias = bias.map(|bias| View::new::<f32>(op, "bias", bias)).transpose()?;
    let residual = residual.map(|residual| View::new::<f32>(op, "residual", residual)).transpose()?;
    let y = View::new::<f32>(op, "y", y)?;
    let device = y.device()?.clone();
    let (out, at) = room::<f32>(&device, shape.elem_count())?;
    let (name, vector) = kernel::<f32>("normalise", &[channels]);
    // SAFETY: all have so many pixels of so many channels.
    unsafe {
        launch!(device, &name, blocks(shape.elem_count() / vector), (THREADS, 1);
            y.at, pixels as i64, channels as i32, channels as i64, address_of(&scale), address_of(&bias), 0i32,
            address_of(&residual), NULL, NULL, 0i32, i32::from(relu), at);
    }
    Ok(tensor(out, &device, shape))
}

/// One pass over contiguous operands, in cuDNN's order.
fn run<T: OnCuda>(g: &Geometry, pass: Pass, a: &Tensor, b: &Tensor, shape: [usize; 4]) -> Result<Tensor> {
    let (a_storage, a_layout) = a.storage_and_layout();
    let (b_storage, b_layout) = b.storage_and_layout();
    let (candle_core::Storage::Cuda(a), candle_core::Storage::Cuda(b)) = (&*a_storage, &*b_storage) else {
        return Err(candle_core::Error::Msg("both operands of a convolution on CUDA must be there".into()));
    };
    let device = a.device.clone();
    let (a, b) = (a.as_cuda_slice::<T>()?, b.as_cuda_slice::<T>()?);
    let (a, b) = (a.slice(a_layout.start_offset()..), b.slice(b_layout.start_offset()..));
    let (mut out, _) = room::<T>(&device, shape.iter().product())?;
    with_context(&device, |context| {
        let described = Described::<T>::new(&context.cudnn, pass, g)?;
        let Described { x, y, w, conv, key } = &described;
        let factors = (T::one(), T::zero());
        match pass {
            Pass::Forward => {
                let op = ConvForward { conv, x, w, y };
                let (algorithm, bytes) = match context.forward.get(key) {
                    Some(chosen) => *chosen,
                    None => {
                        let algorithm = op.pick_algorithm()?;
                        let chosen = (algorithm, op.get_workspace_size(algorithm)?);
                        *context.forward.entry(*key).or_insert(chosen)
                    }
                };
                let workspace = grow(&device, &mut context.workspace, bytes)?;
                // SAFETY: the operands are as large as described, and the workspace as asked for.
                unsafe { op.launch(algorithm, workspace, factors, &a, &b, &mut out)? };
            }
            Pass::InputGrad => {
                let op = ConvBackwardData { conv, dx: x, w, dy: y };
                let (algorithm, bytes) = match context.input_grad.get(key) {
                    Some(chosen) => *chosen,
                    None => {
                        let algorithm = op.pick_algorithm()?;
                        let chosen = (algorithm, op.get_workspace_size(algorithm)?);
                        *context.input_grad.entry(*key).or_insert(chosen)
                    }
                };
                let workspace = grow(&device, &mut context.workspace, bytes)?;
                // SAFETY: as above.
                unsafe { op.launch(algorithm, workspace, factors, &mut out, &a, &b)? };
            }
            Pass::WeightGrad => {
                let op = ConvBackwardFilter { conv, x, dw: w, dy: y };
                let (algorithm, bytes) = match context.weight_grad.get(key) {
                    Some(chosen) => *chosen,
                    None => {
                        let algorithm = op.pick_algorithm()?;
                        let chosen = (algorithm, op.get_workspace_size(algorithm)?);
                        *context.weight_grad.entry(*key).or_insert(chosen)
                    }
                };
                let workspace = grow(&device, &mut context.workspace, bytes)?;
                // SAFETY: as above.
                unsafe { op.launch(algorithm, workspace, factors, &a, &mut out, &b)? };
            }
        }
        Ok(())
    })?;
    Ok(tensor(out, &device, shape.as_slice()))
}
