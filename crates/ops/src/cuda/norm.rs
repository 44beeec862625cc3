//! Batch normalisation, in passes over the pixels.

use candle_core::{
    CudaDevice, Result, Tensor,
    cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr},
};

use super::{
    constants::{ACROSS, DOWN, MASK_NONE, MASK_RECOMPUTED, MASK_RESULT, THREADS},
    element::OnCuda,
    launch::{block_counters, blocks_32, kernel, launch},
    operand::{NULL, View, address_of, tensor, uninit},
};
use crate::{
    error::Error,
    input::{Affine, Input},
    norm::types::{BatchNormGrads, BatchStats, Whole},
    view::check_shape,
};

/// The most parts into which a sum over pixels is split.
const PARTS: usize = 256;

/// The grid of a sum over pixels: blocks across the channels, parts of the pixels.
fn grid(pixels: usize, channels: usize, vector: usize) -> (u32, u32) {
    let across = channels.div_ceil(vector * ACROSS as usize);
    let parts = pixels.div_ceil(4 * DOWN as usize).clamp(1, PARTS.div_ceil(across).max(1));
    (across as u32, parts as u32)
}

fn vectors<const N: usize>(device: &CudaDevice, channels: usize) -> Result<[(CudaSlice<f32>, u64); N]> {
    let made = (0..N).map(|_| uninit::<f32>(device, channels)).collect::<Result<Vec<_>>>()?;
    made.try_into().map_err(|_| candle_core::Error::Msg("as many vectors as asked for".into()))
}

/// The struct of this name in `cuda/kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Norm {
    eps: f64,
    mean: u64,
    var: u64,
    inv_std: u64,
    gamma: u64,
    beta: u64,
    running_mean: u64,
    running_var: u64,
    scale: u64,
    shift: u64,
    momentum: f32,
    unbiased: f32,
}

// SAFETY: numbers and addresses, laid out as in C.
unsafe impl DeviceRepr for Norm {}

/// Running statistics, updated in place: the batch's get the weight `momentum`, and its variance is multiplied by `unbiased`
/// first.
#[derive(Clone, Copy)]
pub(crate) struct RunningStats<'a> {
    pub(crate) mean: &'a Tensor,
    pub(crate) var: &'a Tensor,
    pub(crate) momentum: f32,
    pub(crate) unbiased: f32,
}

/// The parameters and running statistics of a norm, locked.
struct Parameters<'a> {
    gamma: View<'a>,
    beta: View<'a>,
    running: Option<(View<'a>, View<'a>, f32, f32)>,
}

impl<'a> Parameters<'a> {
    fn new(op: &'static str, gamma: &'a Tensor, beta: &'a Tensor, running: Option<RunningStats<'a>>) -> Result<Self> {
        let view = |name, tensor| View::new::<f32>(op, name, tensor);
        let running = running.map(|running| -> Result<_> {
            let (mean, var) = (view("running mean", running.mean)?, view("running variance", running.var)?);
            Ok((mean, var, running.momentum, running.unbiased))
        });
        Ok(Parameters { gamma: view("gamma", gamma)?, beta: view("beta", beta)?, running: running.transpose()? })
    }

    fn norm(&self, [mean, var, inv_std, scale, shift]: [u64; 5], eps: f64) -> Norm {
        let (running_mean, running_var, momentum, unbiased) =
            self.running.as_ref().map_or((NULL, NULL, 0.0, 1.0), |(mean, var, m, u)| (mean.at, var.at, *m, *u));
        let (gamma, beta) = (self.gamma.at, self.beta.at);
        Norm { eps, mean, var, inv_std, gamma, beta, running_mean, running_var, scale, shift, momentum, unbiased }
    }
}

/// The statistics of `x [..., C]`, written to `into` if given, and, with `gamma` and `beta`, the norm with them.
pub(crate) fn stats<T: OnCuda>(
    op: &'static str,
    x: &Tensor,
    channels: usize,
    eps: f64,
    into: Option<&BatchStats>,
    norm: Option<(&Tensor, &Tensor, Option<RunningStats>, bool)>,
) -> Result<(BatchStats, Option<Affine>)> {
    let pixels = x.elem_count() / channels;
    let x = View::pixels::<T>(op, "x", x)?;
    let device = x.device()?.clone();
    let (name, vector) = kernel::<T>("stats", &[channels, x.pitch]);
    let (across, parts) = grid(pixels, channels, vector);
    let (_partial, partial) = uninit::<f32>(&device, 2 * parts as usize * channels)?;
    let made = match into {
        Some(into) => into.clone(),
        None => {
            let [mean, var, inv_std] = vectors(&device, channels)?.map(|(made, _)| tensor(made, &device, channels));
            BatchStats { mean, var, inv_std }
        }
    };
    made.check(op, channels)?;
    let view = |name, vector| View::new::<f32>(op, name, vector);
    let (mean, var) = (view("mean", &made.mean)?, view("var", &made.var)?);
    let inv_std = view("inv_std", &made.inv_std)?;
    let at = [mean.at, var.at, inv_std.at];
    let parameters = norm
        .map(|(gamma, beta, running, _)| Parameters::new(op, gamma, beta, running))
        .transpose()?
        .map(|parameters| Ok::<_, candle_core::Error>((parameters, vectors::<2>(&device, channels)?)))
        .transpose()?;
    let of = match &parameters {
        Some((parameters, [(_, scale), (_, shift)])) => parameters.norm([at[0], at[1], at[2], *scale, *shift], eps),
        None => Norm { eps, mean: at[0], var: at[1], inv_std: at[2], ..EMPTY },
    };
    // SAFETY: `x` has this many pixels and channels; the other memory is made for them, or is a vector of as many channels.
    // Only this stream writes running statistics.
    unsafe {
        launch!(device, &name, (across, parts), (ACROSS, DOWN);
            x.at, pixels as i64, channels as i32, x.pitch as i64, partial, block_counters(&device)?, of);
    }
    let vector = |slice| tensor(slice, &device, channels);
    let affine = parameters.map(|(_, [(scale, _), (shift, _)])| Affine {
        scale: vector(scale),
        shift: vector(shift),
        relu: norm.is_some_and(|(.., relu)| relu),
    });
    drop((mean, var, inv_std));
    Ok((made, affine))
}

/// A norm without parameters and running statistics.
const EMPTY: Norm = Norm {
    eps: 0.0,
    mean: NULL,
    var: NULL,
    inv_std: NULL,
    gamma: NULL,
    beta: NULL,
    running_mean: NULL,
    running_var: NULL,
    scale: NULL,
    shift: NULL,
    momentum: 0.0,
    unbiased: 1.0,
};

/// The norm with `stats`, as scale and shift.
pub(crate) fn prepare(
    op: &'static str,
    stats: &BatchStats,
    gamma: &Tensor,
    beta: &Tensor,
    relu: bool,
    running: Option<RunningStats>,
) -> Result<Affine> {
    let channels = stats.mean.elem_count();
    let view = |name, tensor| View::new::<f32>(op, name, tensor);
    let parameters = Parameters::new(op, gamma, beta, running)?;
    let (mean, var) = (view("mean", &stats.mean)?, view("var", &stats.var)?);
    let inv_std = view("inv_std", &stats.inv_std)?;
    let device = mean.device()?.clone();
    let [(scale, scale_at), (shift, shift_at)] = vectors(&device, channels)?;
    let norm = parameters.norm([mean.at, var.at, inv_std.at, scale_at, shift_at], 0.0);
    // SAFETY: as above.
    unsafe {
        launch!(device, "norm_prepare", (channels.div_ceil(THREADS as usize) as u32, 1), (THREADS, 1);
            channels as i32, norm);
    }
    Ok(Affine { scale: tensor(scale, &device, channels), shift: tensor(shift, &device, channels), relu })
}

/// Makes `into` the statistics of a whole batch of `rows` images, from the means and variances of its parts,
/// `[parts, C]`: the images are in the order of the parts, whose sizes differ by one at most.
#[cfg(feature = "nccl")]
pub(super) fn whole_stats(
    op: &'static str,
    into: &BatchStats,
    [means, vars]: [&Tensor; 2],
    rows: usize,
    eps: f64,
) -> Result<()> {
    let channels = into.mean.elem_count();
    into.check(op, channels)?;
    let ranks = means.elem_count() / channels;
    check_shape(op, "means", means, &[ranks, channels])?;
    check_shape(op, "vars", vars, &[ranks, channels])?;
    let view = |name, tensor| View::new::<f32>(op, name, tensor);
    let (means, vars) = (view("means", means)?, view("vars", vars)?);
    let (mean, var, inv_std) = (view("mean", &into.mean)?, view("var", &into.var)?, view("inv_std", &into.inv_std)?);
    let device = mean.device()?.clone();
    // SAFETY: means and variances have as many channels per rank as the statistics.
    unsafe {
        launch!(device, "whole_stats", (channels.div_ceil(THREADS as usize) as u32, 1), (THREADS, 1);
            means.at, vars.at, ranks as i32, rows as i64, channels as i32, eps, mean.at, var.at, inv_std.at);
    }
    Ok(())
}

/// The affine that is applied to an input while it is loaded, if any.
pub(super) struct Prologue<'a> {
    pub(super) scale: Option<View<'a>>,
    pub(super) shift: Option<View<'a>>,
    pub(super) relu: bool,
}

impl<'a> Prologue<'a> {
    pub(super) fn new(op: &'static str, x: Input<'a>) -> Result<Self> {
        let (affine, channels) = (x.affine, x.x.dims().last().copied().unwrap_or(0));
        affine.map_or(Ok(()), |affine| check_shape(op, "scale", &affine.scale, &[channels]))?;
        let view =
            |name, of: fn(&Affine) -> &Tensor| affine.map(|affine| View::new::<f32>(op, name, of(affine))).transpose();
        let (scale, shift) = (view("scale", |a| &a.scale)?, view("shift", |a| &a.shift)?);
        Ok(Prologue { scale, shift, relu: affine.is_some_and(|affine| affine.relu) })
    }
}

/// `x + residual`, each with its affine, followed by a ReLU if `relu`.
pub(crate) fn normalised<T: OnCuda>(op: &'static str, x: Input, residual: Option<Input>, relu: bool) -> Result<Tensor> {
    if x.affine.is_none() && residual.is_none() && !relu && x.x.is_contiguous() {
        return Ok(x.x.clone());
    }
    let shape = x.x.shape().clone();
    let channels = *shape.dims().last().unwrap_or(&1);
    let pixels = shape.elem_count() / channels.max(1);
    let (prologue, other) = (Prologue::new(op, x)?, residual.map(|residual| Prologue::new(op, residual)).transpose()?);
    let other = other.unwrap_or(Prologue { scale: None, shift: None, relu: false });
    let residual = residual.map(|residual| View::new::<T>(op, "residual", residual.x)).transpose()?;
    let x = View::pixels::<T>(op, "x", x.x)?;
    let device = x.device()?.clone();
    let (y, at) = uninit::<T>(&device, shape.elem_count())?;
    let (name, vector) = kernel::<T>("normalise", &[channels, x.pitch]);
    // SAFETY: all have as many pixels and channels, those of `x` `pitch` apart.
    unsafe {
        launch!(device, &name, blocks_32(op, "x", shape.elem_count(), vector)?, (THREADS, 1);
            x.at, pixels as i64, channels as i32, x.pitch as i64,
            address_of(&prologue.scale), address_of(&prologue.shift), i32::from(prologue.relu),
            address_of(&residual), address_of(&other.scale), address_of(&other.shift), i32::from(other.relu),
            i32::from(relu), at);
    }
    Ok(tensor(y, &device, shape))
}

/// Where the ReLU passes the gradient, by the kernels' numbers.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Mask {
    /// Everywhere.
    None = MASK_NONE,
    /// Where its stored result is positive.
    Result = MASK_RESULT,
    /// Where its recomputed result is positive.
    Recomputed = MASK_RECOMPUTED,
}

/// The gradient of a batch norm, added to `into` in place, or returned.
#[allow(clippy::too_many_arguments)] // the operands and results of the forward pass
fn gradient<T: OnCuda>(
    op: &'static str,
    dy: &Tensor,
    x: &Tensor,
    y: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    mask: Mask,
    has_residual: bool,
    into: Option<&Tensor>,
    whole: Option<&dyn Whole>,
) -> Result<BatchNormGrads> {
    let shape = x.shape().clone();
    let channels = stats.mean.elem_count();
    let (count, pixels) = (shape.elem_count(), shape.elem_count() / channels);
    let view = |name, tensor| View::new::<f32>(op, name, tensor);
    let (dy, x) = (View::new::<T>(op, "dy", dy)?, View::pixels::<T>(op, "x", x)?);
    let y = y.map(|y| View::new::<T>(op, "y", y)).transpose()?;
    let (gamma, beta) = (view("gamma", gamma)?, view("beta", beta)?);
    let (mean, inv_std) = (view("mean", &stats.mean)?, view("inv_std", &stats.inv_std)?);
    let target = into.map(|into| View::pixels::<T>(op, "into", into)).transpose()?;
    if target.as_ref().is_some_and(|into| into.shares(&dy) || into.shares(&x)) {
        let got = "one that shares storage with another operand".to_owned();
        return Err(Error::Parameter { op, name: "into", expected: "a tensor of its own".to_owned(), got }.into());
    }
    let device = x.device()?.clone();
    let mask = mask as u32;

    let dx_pitch = target.as_ref().map_or(channels, |into| into.pitch);
    let (name, vector) = kernel::<T>("grad_sums", &[channels, x.pitch, dx_pitch]);
    let (across, parts) = grid(pixels, channels, vector);
    let (_partial, partial) = uninit::<f32>(&device, 2 * parts as usize * channels)?;
    let (_coefficients, coefficients) = uninit::<f32>(&device, 5 * channels)?;
    let [(dgamma, dgamma_at), (dbeta, dbeta_at)] = vectors(&device, channels)?;
    let made = target.is_none().then(|| uninit::<T>(&device, count)).transpose()?;
    let dx = target.as_ref().map_or_else(|| made.as_ref().map_or(NULL, |made| made.1), |into| into.at);
    let masked = has_residual.then(|| uninit::<T>(&device, count)).transpose()?;
    let sums = whole.map(|_| uninit::<f64>(&device, 2 * channels)).transpose()?;
    // SAFETY: all have as many pixels and channels, those of `x` and `dx` their pitches apart.
    unsafe {
        launch!(device, &name, (across, parts), (ACROSS, DOWN);
            dy.at, x.at, pixels as i64, channels as i32, x.pitch as i64, address_of(&y), mask,
            gamma.at, beta.at, mean.at, inv_std.at, partial, block_counters(&device)?, coefficients, dgamma_at, dbeta_at,
            sums.as_ref().map_or(NULL, |sums| sums.1));
    }
    if let (Some(whole), Some((sums, _))) = (whole, sums) {
        let all = whole.gather(&tensor(sums, &device, 2 * channels))?;
        let ranks = (all.elem_count() / (2 * channels)).max(1);
        check_shape(op, "sums", &all, &[ranks, 2 * channels])?;
        let (all, whole_pixels) = (View::wide(op, "sums", &all)?, whole.pixels(pixels) as f64);
        // SAFETY: as above; `all` has two sums per channel of each rank, and nothing else uses them.
        unsafe {
            launch!(device, "whole_coefficients", (channels.div_ceil(THREADS as usize) as u32, 1), (THREADS, 1);
                all.at, ranks as i32, channels as i32, whole_pixels, i32::from(whole.counts()),
                gamma.at, mean.at, inv_std.at, coefficients);
        }
    }
    // SAFETY: as above.
    unsafe {
        let name = kernel::<T>("grad", &[channels, x.pitch, dx_pitch]).0;
        launch!(device, &name, blocks_32(op, "x", count, vector)?, (THREADS, 1);
            dy.at, x.at, pixels as i64, channels as i32, x.pitch as i64, address_of(&y), mask, coefficients, dx,
            dx_pitch as i64, i32::from(target.is_some()), masked.as_ref().map_or(NULL, |masked| masked.1));
    }
    let dx = match (made, into) {
        (Some((dx, _)), _) => tensor(dx, &device, shape.clone()),
        (None, Some(into)) => into.clone(),
        (None, None) => return Err(candle_core::Error::Msg("a gradient has no destination".into())),
    };
    Ok(BatchNormGrads {
        dx,
        dgamma: tensor(dgamma, &device, channels),
        dbeta: tensor(dbeta, &device, channels),
        dresidual: masked.map(|(masked, _)| tensor(masked, &device, shape)),
    })
}

/// As [`crate::batch_norm_backward`], after its checks.
#[allow(clippy::too_many_arguments)] // as above
pub(crate) fn backward<T: OnCuda>(
    op: &'static str,
    dy: &Tensor,
    x: &Tensor,
    y: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    has_residual: bool,
    relu: bool,
    whole: Option<&dyn Whole>,
) -> Result<BatchNormGrads> {
    let mask = match y {
        _ if !relu => Mask::None,
        Some(_) => Mask::Result,
        None => Mask::Recomputed,
    };
    gradient::<T>(op, dy, x, y, gamma, beta, stats, mask, has_residual, None, whole)
}

/// As [`crate::batch_norm_backward_add`], after its checks.
#[allow(clippy::too_many_arguments)] // as above
pub(crate) fn backward_add<T: OnCuda>(
    op: &'static str,
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    into: &Tensor,
    whole: Option<&dyn Whole>,
) -> Result<(Tensor, Tensor)> {
    let grads = gradient::<T>(op, dy, x, None, gamma, beta, stats, Mask::Recomputed, false, Some(into), whole)?;
    Ok((grads.dgamma, grads.dbeta))
}
