//! Two-dimensional convolution, channels last.

use std::marker::PhantomData;

use candle_core::{CpuStorage, DType, Device, InplaceOp3, Layout, Result, Tensor};
use half::bf16;

use crate::{
    error::Error,
    input::{Affine, Input, InputView},
    kernel::{
        Element, Source,
        conv::{self, Epilogue, Geometry, Precision},
    },
    norm::{BatchNorm, BatchStats},
    trace,
    view::{Stored, View, check_count, check_shape, dims4, on_cuda, pixels, slice, slice_mut, stored},
};

/// The parameters of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Pixels from one position of the kernel to the next, along both axes.
    pub stride: usize,
    /// Zeros around the input, in pixels on each side.
    pub padding: usize,
    /// Whether `f32` factors may be rounded to TF32 (three decimal digits) on CUDA, for speed; no effect on a CPU and on bf16.
    pub tf32: bool,
}

impl Conv {
    /// A convolution without TF32.
    pub const fn new(stride: usize, padding: usize) -> Self {
        Self { stride, padding, tf32: false }
    }

    /// The same convolution, with or without TF32.
    pub const fn with_tf32(self, tf32: bool) -> Self {
        Self { tf32, ..self }
    }
}

const X: &str = "[N, H, W, Ci]";
const W: &str = "[Co, kh, kw, Ci]";
const DY: &str = "[N, Ho, Wo, Co]";

/// The checked geometry of a convolution of activations of type `T`; `x` is `[n, h, w, ci]`, `w` is `[co, kh, kw, ci]`.
fn geometry<T: Element>(
    op: &'static str,
    [n, h, w, ci]: [usize; 4],
    [co, kh, kw, wci]: [usize; 4],
    Conv { stride, padding, .. }: Conv,
) -> Result<Geometry> {
    if wci != ci || co == 0 || kh == 0 || kw == 0 || ci == 0 {
        return Err(Error::Shape {
            op,
            name: "w",
            expected: format!("[Co, kh, kw, {ci}] without zeros"),
            got: vec![co, kh, kw, wci],
        }
        .into());
    }
    if stride == 0 {
        return Err(Error::Parameter { op, name: "stride", expected: "at least 1".into(), got: "0".into() }.into());
    }
    let padded = |size: usize| padding.saturating_mul(2).saturating_add(size);
    for (name, sizes) in [
        ("padded x", [n, padded(h), padded(w), ci]),
        ("padded y", [n, padded(h), padded(w), co]),
        ("w", [co, kh, kw, ci]),
    ] {
        check_count(op, name, sizes)?;
    }
    let out = |name, size: usize, k: usize| {
        let padded = padded(size);
        if size == 0 || padded < k {
            let expected = format!("at least {} (kernel {k}, padding {padding})", k.saturating_sub(2 * padding).max(1));
            let got = size.to_string();
            return Err(Error::Parameter { op, name, expected, got });
        }
        Ok((padded - k) / stride + 1)
    };
    Ok(Geometry {
        n,
        h,
        w,
        ci,
        co,
        kh,
        kw,
        stride,
        padding,
        oh: out("height", h, kh)?,
        ow: out("width", w, kw)?,
        precision: Precision::of::<T>(),
    })
}

fn output(g: &Geometry) -> [usize; 4] {
    [g.n, g.oh, g.ow, g.co]
}

/// Cross-correlates `x` with `w`, as PyTorch's `conv2d` without bias.
///
/// # Shapes
///
/// `x [N, H, W, Ci]`, `w [Co, kh, kw, Ci]` to `[N, Ho, Wo, Co]`, `Ho = (H + 2 padding - kh) / stride + 1` rounded down.
pub fn conv2d_forward<'a>(x: impl Into<Input<'a>>, w: &Tensor, conv: Conv) -> Result<Tensor> {
    fn run<T: Stored>(x: Input, w: &Tensor, conv: Conv) -> Result<Tensor> {
        let op = "conv2d_forward";
        let g = geometry::<T>(op, dims4(op, "x", x.x, X)?, dims4(op, "w", w, W)?, conv)?;
        let _span = trace::conv(op, &g, None);
        on_cuda!(x.x, crate::cuda::forward::<T>(op, &g, conv.tf32, x, w));
        let (x, w) = (InputView::<T>::new(op, "x", x)?, View::new(op, "w", w)?);
        let y = conv::forward(&g, x.source(), &conv::Weights::once(&g, &w), Epilogue::default());
        Tensor::from_vec(y, &output(&g), &Device::Cpu)
    }
    // Not generic, so that the kernels are compiled here and not by every user.
    fn stored(x: Input, w: &Tensor, conv: Conv) -> Result<Tensor> {
        stored!(x.x, run(x, w, conv))
    }
    stored(x.into(), w, conv)
}

/// [`conv2d_forward`], with the statistics of its result for the batch norm after it; `eps` belongs to that norm.
///
/// On a CPU the statistics are computed part by part while the result is still in the cache, before it is rounded. They are
/// written to `into`, if given.
///
/// # Errors
///
/// As [`conv2d_forward`]; the batch is empty, so that there are no statistics.
pub fn conv2d_stats<'a>(
    x: impl Into<Input<'a>>,
    w: &Tensor,
    conv: Conv,
    eps: f64,
    into: Option<&BatchStats>,
) -> Result<(Tensor, BatchStats)> {
    fn run<T: Stored>(
        x: Input,
        w: &Tensor,
        conv: Conv,
        eps: f64,
        into: Option<&BatchStats>,
    ) -> Result<(Tensor, BatchStats)> {
        let op = "conv2d_stats";
        let (xs, ws) = (dims4(op, "x", x.x, X)?, dims4(op, "w", w, W)?);
        let g = geometry::<T>(op, xs, ws, conv)?;
        if g.n == 0 {
            let expected = "at least one image, to have statistics".into();
            return Err(Error::Shape { op, name: "x", expected, got: xs.to_vec() }.into());
        }
        on_cuda!(x.x, {
            let y = conv2d_forward(x, w, conv)?;
            let stats = crate::norm::batch_stats(&y, eps, into)?;
            Ok((y, stats))
        });
        let _span = trace::conv(op, &g, None);
        let (x, w) = (InputView::<T>::new(op, "x", x)?, View::new(op, "w", w)?);
        let (y, moments) = conv::forward_moments(&g, x.source(), &conv::Weights::once(&g, &w));
        Ok((Tensor::from_vec(y, &output(&g), &Device::Cpu)?, BatchStats::new(&moments, eps)?.put(op, into)?))
    }
    // As in `conv2d_forward`.
    fn stored(x: Input, w: &Tensor, conv: Conv, eps: f64, into: Option<&BatchStats>) -> Result<(Tensor, BatchStats)> {
        stored!(x.x, run(x, w, conv, eps, into))
    }
    stored(x.into(), w, conv, eps, into)
}

/// [`conv2d_forward`] and the batch norm after it in training: the result of the convolution, its statistics, and the norm
/// with these (followed by a ReLU if `relu`), to be applied by the operators that read the result. Updates the norm's running
/// statistics in place.
///
/// # Errors
///
/// As [`conv2d_stats`].
pub fn conv2d_norm<'a>(
    x: impl Into<Input<'a>>,
    w: &Tensor,
    conv: Conv,
    norm: &BatchNorm,
    relu: bool,
) -> Result<(Tensor, BatchStats, Affine)> {
    #[cfg(feature = "cuda")]
    fn on_cuda<T: Stored>(
        x: Input,
        w: &Tensor,
        conv: Conv,
        norm: &BatchNorm,
        relu: bool,
    ) -> Result<(Tensor, BatchStats, Affine)> {
        let y = conv2d_forward(x, w, conv)?;
        let (stats, affine) = crate::norm::stats_on_cuda::<T>("conv2d_norm", &y, norm, relu)?;
        Ok((y, stats, affine))
    }
    fn stored(x: Input, w: &Tensor, conv: Conv, norm: &BatchNorm, relu: bool) -> Result<(Tensor, BatchStats, Affine)> {
        on_cuda!(x.x, stored!(x.x, on_cuda(x, w, conv, norm, relu)));
        let (y, stats) = conv2d_stats(x, w, conv, norm.eps, None)?;
        let affine = stats.train(norm, y.elem_count() / stats.mean.elem_count(), relu)?;
        Ok((y, stats, affine))
    }
    stored(x.into(), w, conv, norm, relu)
}

/// The weights of a convolution in the order in which its kernels read them, made once for a layer that is evaluated many
/// times.
pub struct Weights {
    shape: [usize; 4],
    conv: Conv,
    /// The type of the activations that they are multiplied with.
    activations: DType,
    kernel: Prepared,
}

enum Prepared {
    Cpu(conv::Weights<'static>),
    /// Unchanged, but for their type.
    #[cfg(feature = "cuda")]
    Cuda(Tensor),
}

impl Weights {
    /// From `w [Co, kh, kw, Ci]`, `f32`, for activations of a type, `f32` or bf16, to which factors are rounded.
    ///
    /// # Errors
    ///
    /// Another shape or type; on CUDA, the device.
    pub fn new(w: &Tensor, conv: Conv, activations: DType) -> Result<Self> {
        let op = "Weights::new";
        let shape @ [_, kh, kw, ci] = dims4(op, "w", w, W)?;
        let of = match activations {
            DType::F32 => geometry::<f32>,
            DType::BF16 => geometry::<bf16>,
            got => return Err(Error::Type { op, name: "activations", expected: DType::F32, got }.into()),
        };
        let g = of(op, [0, kh, kw, ci], shape, conv)?;
        on_cuda!(w, Ok(Self { shape, conv, activations, kernel: Prepared::Cuda(w.to_dtype(activations)?) }));
        let kernel = Prepared::Cpu(conv::Weights::new(&g, &View::new(op, "w", w)?));
        Ok(Self { shape, conv, activations, kernel })
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Weights").field("shape", &self.shape).field("conv", &self.conv).finish_non_exhaustive()
    }
}

/// A whole layer in evaluation, in one pass: `relu(conv(x, w) + bias + residual)`.
///
/// # Shapes
///
/// As [`conv2d_forward`]; `bias [Co]`, `f32`, `residual` like the result. Without `relu` there is no activation.
///
/// # Errors
///
/// As [`conv2d_forward`]; `x` is not of the type that the weights were made for.
pub fn conv2d_bias_act<'a>(
    x: impl Into<Input<'a>>,
    w: &Weights,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    fn run<T: Stored>(
        x: Input,
        w: &Weights,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let op = "conv2d_bias_act";
        let g = geometry::<T>(op, dims4(op, "x", x.x, X)?, w.shape, w.conv)?;
        if let Some(bias) = bias {
            check_shape(op, "bias", bias, &[g.co])?;
        }
        if let Some(residual) = residual {
            check_shape(op, "residual", residual, &output(&g))?;
        }
        if x.x.dtype() != w.activations {
            return Err(Error::Type { op, name: "x", expected: w.activations, got: x.x.dtype() }.into());
        }
        let _span = trace::conv(op, &g, residual);
        #[cfg_attr(not(feature = "cuda"), allow(clippy::infallible_destructuring_match))] // CUDA is the other variant
        let weights = match &w.kernel {
            Prepared::Cpu(weights) => weights,
            #[cfg(feature = "cuda")]
            Prepared::Cuda(kernel) => {
                let y = crate::cuda::forward::<T>(op, &g, w.conv.tf32, x, kernel)?;
                return crate::cuda::bias_act::<T>(op, y, bias, residual, relu);
            }
        };
        let x = InputView::<T>::new(op, "x", x)?;
        let bias = bias.map(|t| View::new(op, "bias", t)).transpose()?;
        let residual = residual.map(|t| View::new(op, "residual", t)).transpose()?;
        let epilogue = Epilogue { bias: bias.as_deref(), residual: residual.as_deref(), relu };
        Tensor::from_vec(conv::forward(&g, x.source(), weights, epilogue), &output(&g), &Device::Cpu)
    }
    // As in `conv2d_forward`.
    fn stored(x: Input, w: &Weights, bias: Option<&Tensor>, residual: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        stored!(x.x, run(x, w, bias, residual, relu))
    }
    stored(x.into(), w, bias, residual, relu)
}

/// The gradient of [`conv2d_forward`] with respect to `x`, whose height and width were `(h, w)`.
///
/// # Shapes
///
/// `dy [N, Ho, Wo, Co]`, `w [Co, kh, kw, Ci]` to `[N, H, W, Ci]`. `plus`, of the result's shape, is added: the gradient by
/// another path. It is changed in place and returned.
///
/// # Errors
///
/// Shapes or types differ; `plus` shares its storage with another operand.
pub fn conv2d_input_grad(
    dy: &Tensor,
    w: &Tensor,
    conv: Conv,
    (height, width): (usize, usize),
    plus: Option<Tensor>,
) -> Result<Tensor> {
    fn run<T: Stored>(
        dy: &Tensor,
        w: &Tensor,
        conv: Conv,
        (height, width): (usize, usize),
        plus: Option<Tensor>,
    ) -> Result<Tensor> {
        let op = "conv2d_input_grad";
        let ws @ [_, _, _, ci] = dims4(op, "w", w, W)?;
        let [n, ..] = dims4(op, "dy", dy, DY)?;
        let g = geometry::<T>(op, [n, height, width, ci], ws, conv)?;
        check_shape(op, "dy", dy, &output(&g))?;
        if let Some(plus) = &plus {
            check_shape(op, "plus", plus, &[n, height, width, ci])?;
        }
        let _span = trace::conv(op, &g, plus.as_ref());
        on_cuda!(dy, crate::cuda::input_grad::<T>(op, &g, conv.tf32, dy, w, plus));
        if let Some(plus) = plus {
            plus.inplace_op3(dy, w, &AddInputGrad::<T> { g, kind: PhantomData })?;
            return Ok(plus);
        }
        let (dy, w) = (View::<T>::pixels(op, "dy", dy)?, View::new(op, "w", w)?);
        Tensor::from_vec(conv::input_grad(&g, plain(&dy), &w), (n, height, width, ci), &Device::Cpu)
    }
    stored!(dy, run(dy, w, conv, (height, width), plus))
}

/// Adds the input gradient to a tensor.
struct AddInputGrad<T> {
    g: Geometry,
    kind: PhantomData<T>,
}

impl<T: Stored> InplaceOp3 for AddInputGrad<T> {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }

    fn cpu_fwd(
        &self,
        plus: &mut CpuStorage,
        layout: &Layout,
        dy: &CpuStorage,
        ldy: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<()> {
        let op = self.name();
        let (data, pitch) = pixels::<T>(op, "dy", dy, ldy)?;
        let (into, w) = (slice_mut(op, "plus", plus, layout)?, slice(op, "w", w, lw)?);
        conv::input_grad_add(&self.g, Source { data, pitch, prologue: None }, w, into);
        Ok(())
    }
}

/// The gradient of [`conv2d_forward`] with respect to `w`, whose kernel was `(kh, kw)`.
///
/// # Shapes
///
/// `x [N, H, W, Ci]`, `dy [N, Ho, Wo, Co]` of one type to `[Co, kh, kw, Ci]`: `f32` on a CPU, their type on CUDA.
pub fn conv2d_weight_grad<'a>(
    x: impl Into<Input<'a>>,
    dy: &Tensor,
    conv: Conv,
    (kh, kw): (usize, usize),
) -> Result<Tensor> {
    fn run<T: Stored>(x: Input, dy: &Tensor, conv: Conv, (kh, kw): (usize, usize)) -> Result<Tensor> {
        let op = "conv2d_weight_grad";
        let xs @ [_, _, _, ci] = dims4(op, "x", x.x, X)?;
        let [_, _, _, co] = dims4(op, "dy", dy, DY)?;
        let g = geometry::<T>(op, xs, [co, kh, kw, ci], conv)?;
        check_shape(op, "dy", dy, &output(&g))?;
        let _span = trace::conv(op, &g, None);
        on_cuda!(x.x, crate::cuda::weight_grad::<T>(op, &g, conv.tf32, x, dy));
        let (x, dy) = (InputView::<T>::new(op, "x", x)?, View::pixels(op, "dy", dy)?);
        let dw = conv::weight_grad(&g, x.source(), plain(&dy));
        Tensor::from_vec(dw, (co, kh, kw, ci), &Device::Cpu)
    }
    // As in `conv2d_forward`.
    fn stored(x: Input, dy: &Tensor, conv: Conv, kernel: (usize, usize)) -> Result<Tensor> {
        stored!(x.x, run(x, dy, conv, kernel))
    }
    stored(x.into(), dy, conv, (kh, kw))
}

/// A source without a prologue.
fn plain<'a, T: Stored>(view: &'a View<T>) -> Source<'a, T> {
    Source { data: view, pitch: view.pitch(), prologue: None }
}
