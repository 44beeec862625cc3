//! Batch normalisation, in passes over the pixels.

use candle_core::{CudaDevice, Result, Tensor};

use super::{ACROSS, DOWN, NULL, OnCuda, THREADS, View, address_of, blocks, kernel, launch, room, tensor};
use crate::{Affine, BatchNormGrads, BatchStats, Input};

/// Into how many parts a sum over pixels is split, at most.
const PARTS: usize = 256;

/// How the sums of `channels` over `pixels` are divided: blocks across, and parts.
fn grid(pixels: usize, channels: usize, vector: usize) -> (u32, u32) {
    let across = channels.div_ceil(vector * ACROSS as usize);
    let parts = pixels.div_ceil(4 * DOWN as usize).clamp(1, PARTS.div_ceil(across).max(1));
    (across as u32, parts as u32)
}

/// One thread for each of the channels.
fn line(channels: usize) -> ((u32, u32), (u32, u32)) {
    ((channels.div_ceil(THREADS as usize) as u32, 1), (THREADS, 1))
}

fn vectors<const N: usize>(
    device: &CudaDevice,
    channels: usize,
) -> Result<[(candle_core::cuda_backend::cudarc::driver::CudaSlice<f32>, u64); N]> {
    let made = (0..N).map(|_| room::<f32>(device, channels)).collect::<Result<Vec<_>>>()?;
    made.try_into().map_err(|_| candle_core::Error::Msg("as many as asked for".into()))
}

/// The statistics of `x [..., C]`.
pub(crate) fn stats<T: OnCuda>(op: &'static str, x: &Tensor, channels: usize, eps: f64) -> Result<BatchStats> {
    let pixels = x.elem_count() / channels;
    let x = View::pixels::<T>(op, "x", x)?;
    let device = x.device()?.clone();
    let (name, vector) = kernel::<T>("stats", &[channels, x.pitch]);
    let (across, parts) = grid(pixels, channels, vector);
    let (_partial, partial) = room::<f32>(&device, 2 * parts as usize * channels)?;
    let (_origin, origin) = room::<f32>(&device, channels)?;
    let [(mean, mean_at), (var, var_at), (inv_std, inv_std_at)] = vectors(&device, channels)?;
    // SAFETY: `x` has so many pixels and channels; the other memory has been made for them.
    unsafe {
        launch!(device, &name, (across, parts), (ACROSS, DOWN);
            x.at, pixels as i64, channels as i32, x.pitch as i64, partial, origin);
        let (grid, block) = line(channels);
        launch!(device, "stats_finish", grid, block;
            partial, parts as i32, pixels as i64, channels as i32, eps, origin, mean_at, var_at, inv_std_at);
    }
    let vector = |slice| tensor(slice, &device, channels);
    Ok(BatchStats { mean: vector(mean), var: vector(var), inv_std: vector(inv_std) })
}

/// The norm by `stats` as a change of each channel; moves the running statistics, if given, by `momentum` towards the
/// batch's, of which the variance is multiplied by `unbiased`.
pub(crate) fn prepare(
    op: &'static str,
    stats: &BatchStats,
    gamma: &Tensor,
    beta: &Tensor,
    relu: bool,
    running: Option<(&Tensor, &Tensor, f32, f32)>,
) -> Result<Affine> {
    let channels = stats.mean.elem_count();
    let view = |name, tensor| View::new::<f32>(op, name, tensor);
    let (gamma, beta) = (view("gamma", gamma)?, view("beta", beta)?);
    let (mean, var) = (view("mean", &stats.mean)?, view("var", &stats.var)?);
    let inv_std = view("inv_std", &stats.inv_std)?;
    let (momentum, unbiased) = running.map_or((0.0, 1.0), |(_, _, momentum, unbiased)| (momentum, unbiased));
    let running_mean = running.map(|(mean, ..)| view("running mean", mean)).transpose()?;
    let running_var = running.map(|(_, var, ..)| view("running variance", var)).transpose()?;
    let device = gamma.device()?.clone();
    let [(scale, scale_at), (shift, shift_at)] = vectors(&device, channels)?;
    let (grid, block) = line(channels);
    // SAFETY: all are vectors of so many channels; the running ones are written by this stream alone.
    unsafe {
        launch!(device, "norm_prepare", grid, block;
            channels as i32, gamma.at, beta.at, mean.at, var.at, inv_std.at, momentum, unbiased,
            address_of(&running_mean), address_of(&running_var), scale_at, shift_at);
    }
    Ok(Affine { scale: tensor(scale, &device, channels), shift: tensor(shift, &device, channels), relu })
}

/// Scale, shift and whether a ReLU follows, of what may change an input.
struct Change<'a> {
    scale: Option<View<'a>>,
    shift: Option<View<'a>>,
    relu: bool,
}

impl<'a> Change<'a> {
    fn new(op: &'static str, affine: Option<&'a Affine>) -> Result<Self> {
        let view =
            |name, of: fn(&Affine) -> &Tensor| affine.map(|affine| View::new::<f32>(op, name, of(affine))).transpose();
        let (scale, shift) = (view("scale", |a| &a.scale)?, view("shift", |a| &a.shift)?);
        Ok(Change { scale, shift, relu: affine.is_some_and(|affine| affine.relu) })
    }
}

/// `x + residual`, each changed on the way in, with ReLU if `relu`.
pub(crate) fn normalised<T: OnCuda>(op: &'static str, x: Input, residual: Option<Input>, relu: bool) -> Result<Tensor> {
    let shape = x.x.shape().clone();
    let channels = *shape.dims().last().unwrap_or(&1);
    let pixels = shape.elem_count() / channels.max(1);
    let (change, other) = (Change::new(op, x.affine)?, Change::new(op, residual.and_then(|r| r.affine))?);
    let residual = residual.map(|residual| View::new::<T>(op, "residual", residual.x)).transpose()?;
    let x = View::pixels::<T>(op, "x", x.x)?;
    let device = x.device()?.clone();
    let (y, at) = room::<T>(&device, shape.elem_count())?;
    let (name, vector) = kernel::<T>("normalise", &[channels, x.pitch]);
    // SAFETY: all have so many pixels of so many channels, `x` `pitch` apart.
    unsafe {
        launch!(device, &name, blocks(shape.elem_count() / vector), (THREADS, 1);
            x.at, pixels as i64, channels as i32, x.pitch as i64,
            address_of(&change.scale), address_of(&change.shift), i32::from(change.relu),
            address_of(&residual), address_of(&other.scale), address_of(&other.shift), i32::from(other.relu),
            i32::from(relu), at);
    }
    Ok(tensor(y, &device, shape))
}

/// What a gradient is masked by, as the kernels number it.
enum Mask {
    None = 0,
    Result = 1,
    Again = 2,
}

/// The gradient of a batch norm; added to `into`, in place, or returned.
#[allow(clippy::too_many_arguments)] // the operands of the forward pass, and what it returned
fn gradient<T: OnCuda>(
    op: &'static str,
    dy: &Tensor,
    x: &Tensor,
    y: Option<&Tensor>,
    gamma: &Tensor,
    affine: &Affine,
    stats: &BatchStats,
    mask: Mask,
    has_residual: bool,
    into: Option<&Tensor>,
) -> Result<BatchNormGrads> {
    let shape = x.shape().clone();
    let channels = stats.mean.elem_count();
    let (count, pixels) = (shape.elem_count(), shape.elem_count() / channels);
    let view = |name, tensor| View::new::<f32>(op, name, tensor);
    let (dy, x) = (View::new::<T>(op, "dy", dy)?, View::pixels::<T>(op, "x", x)?);
    let y = y.map(|y| View::new::<T>(op, "y", y)).transpose()?;
    let (gamma, mean, inv_std) = (view("gamma", gamma)?, view("mean", &stats.mean)?, view("inv_std", &stats.inv_std)?);
    let (scale, shift) = (view("scale", &affine.scale)?, view("shift", &affine.shift)?);
    let target = into.map(|into| View::pixels::<T>(op, "into", into)).transpose()?;
    let device = x.device()?.clone();
    let mask = mask as i32;

    let dx_pitch = target.as_ref().map_or(channels, |into| into.pitch);
    let (name, vector) = kernel::<T>("grad_sums", &[channels, x.pitch, dx_pitch]);
    let (across, parts) = grid(pixels, channels, vector);
    let (_partial, partial) = room::<f32>(&device, 2 * parts as usize * channels)?;
    let (_coefficients, coefficients) = room::<f32>(&device, 3 * channels)?;
    let [(dgamma, dgamma_at), (dbeta, dbeta_at)] = vectors(&device, channels)?;
    let made = target.is_none().then(|| room::<T>(&device, count)).transpose()?;
    let dx = target.as_ref().map_or_else(|| made.as_ref().map_or(NULL, |made| made.1), |into| into.at);
    let left = has_residual.then(|| room::<T>(&device, count)).transpose()?;
    // SAFETY: all have so many pixels of so many channels, `x` and `dx` their pitches apart.
    unsafe {
        launch!(device, &name, (across, parts), (ACROSS, DOWN);
            dy.at, x.at, pixels as i64, channels as i32, x.pitch as i64, address_of(&y), scale.at, shift.at, mask,
            mean.at, partial);
        let (grid, block) = line(channels);
        launch!(device, "grad_finish", grid, block;
            partial, parts as i32, pixels as i64, channels as i32, gamma.at, mean.at, inv_std.at, coefficients,
            dgamma_at, dbeta_at);
        let name = kernel::<T>("grad", &[channels, x.pitch, dx_pitch]).0;
        launch!(device, &name, blocks(count / vector), (THREADS, 1);
            dy.at, x.at, pixels as i64, channels as i32, x.pitch as i64, address_of(&y), scale.at, shift.at, mask,
            coefficients, dx, dx_pitch as i64, i32::from(target.is_some()), left.as_ref().map_or(NULL, |left| left.1));
    }
    let dx = match (made, into) {
        (Some((dx, _)), _) => tensor(dx, &device, shape.clone()),
        (None, Some(into)) => into.clone(),
        (None, None) => return Err(candle_core::Error::Msg("a gradient goes somewhere".into())),
    };
    Ok(BatchNormGrads {
        dx,
        dgamma: tensor(dgamma, &device, channels),
        dbeta: tensor(dbeta, &device, channels),
        dresidual: left.map(|(left, _)| tensor(left, &device, shape)),
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
) -> Result<BatchNormGrads> {
    let mask = match y {
        _ if !relu => Mask::None,
        Some(_) => Mask::Result,
        None => Mask::Again,
    };
    let affine = prepare(op, stats, gamma, beta, relu, None)?;
    gradient::<T>(op, dy, x, y, gamma, &affine, stats, mask, has_residual, None)
}

/// As [`crate::batch_norm_backward_add`], after its checks.
pub(crate) fn backward_add<T: OnCuda>(
    op: &'static str,
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    into: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let affine = prepare(op, stats, gamma, beta, true, None)?;
    let grads = gradient::<T>(op, dy, x, None, gamma, &affine, stats, Mask::Again, false, Some(into))?;
    Ok((grads.dgamma, grads.dbeta))
}
