//! Batch normalisation, in passes over the pixels.

use candle_core::{
    CudaDevice, Result, Tensor,
    cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr},
};

use super::{ACROSS, DOWN, NULL, OnCuda, THREADS, View, address_of, blocks, kernel, launch, room, tensor, turns};
use crate::{Affine, BatchNormGrads, BatchStats, Error, Input, view::check_shape};

/// Into how many parts a sum over pixels is split, at most.
const PARTS: usize = 256;

/// How the sums of `channels` over `pixels` are divided: blocks across, and parts.
fn grid(pixels: usize, channels: usize, vector: usize) -> (u32, u32) {
    let across = channels.div_ceil(vector * ACROSS as usize);
    let parts = pixels.div_ceil(4 * DOWN as usize).clamp(1, PARTS.div_ceil(across).max(1));
    (across as u32, parts as u32)
}

fn vectors<const N: usize>(device: &CudaDevice, channels: usize) -> Result<[(CudaSlice<f32>, u64); N]> {
    let made = (0..N).map(|_| room::<f32>(device, channels)).collect::<Result<Vec<_>>>()?;
    made.try_into().map_err(|_| candle_core::Error::Msg("as many as asked for".into()))
}

/// As the kernels have it.
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

/// Running statistics to be moved, in place: by `momentum` towards the batch's, of which the variance is multiplied by
/// `unbiased`.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) mean: &'a Tensor,
    pub(crate) var: &'a Tensor,
    pub(crate) momentum: f32,
    pub(crate) unbiased: f32,
}

/// What a norm reads and moves, locked; results are not there yet.
struct Parameters<'a> {
    gamma: View<'a>,
    beta: View<'a>,
    running: Option<(View<'a>, View<'a>, f32, f32)>,
}

impl<'a> Parameters<'a> {
    fn new(op: &'static str, gamma: &'a Tensor, beta: &'a Tensor, running: Option<Running<'a>>) -> Result<Self> {
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

/// The statistics of `x [..., C]`, in `into` if given, and, with `gamma` and `beta`, the norm by them.
pub(crate) fn stats<T: OnCuda>(
    op: &'static str,
    x: &Tensor,
    channels: usize,
    eps: f64,
    into: Option<&BatchStats>,
    norm: Option<(&Tensor, &Tensor, Option<Running>, bool)>,
) -> Result<(BatchStats, Option<Affine>)> {
    let pixels = x.elem_count() / channels;
    let x = View::pixels::<T>(op, "x", x)?;
    let device = x.device()?.clone();
    let (name, vector) = kernel::<T>("stats", &[channels, x.pitch]);
    let (across, parts) = grid(pixels, channels, vector);
    let (_partial, partial) = room::<f32>(&device, 2 * parts as usize * channels)?;
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
        None => Norm { eps, mean: at[0], var: at[1], inv_std: at[2], ..NOTHING },
    };
    // SAFETY: `x` has so many pixels and channels; the other memory has been made for them, or is a vector of so many
    // channels. Running statistics are written by this stream alone.
    unsafe {
        launch!(device, &name, (across, parts), (ACROSS, DOWN);
            x.at, pixels as i64, channels as i32, x.pitch as i64, partial, turns(&device)?, of);
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

const NOTHING: Norm = Norm {
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

/// The norm by `stats` as a change of each channel.
pub(crate) fn prepare(
    op: &'static str,
    stats: &BatchStats,
    gamma: &Tensor,
    beta: &Tensor,
    relu: bool,
    running: Option<Running>,
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

/// Scale, shift and whether a ReLU follows, of what may change an input.
pub(super) struct Change<'a> {
    pub(super) scale: Option<View<'a>>,
    pub(super) shift: Option<View<'a>>,
    pub(super) relu: bool,
}

impl<'a> Change<'a> {
    pub(super) fn new(op: &'static str, x: Input<'a>) -> Result<Self> {
        let (affine, channels) = (x.affine, x.x.dims().last().copied().unwrap_or(0));
        affine.map_or(Ok(()), |affine| check_shape(op, "scale", &affine.scale, &[channels]))?;
        let view =
            |name, of: fn(&Affine) -> &Tensor| affine.map(|affine| View::new::<f32>(op, name, of(affine))).transpose();
        let (scale, shift) = (view("scale", |a| &a.scale)?, view("shift", |a| &a.shift)?);
        Ok(Change { scale, shift, relu: affine.is_some_and(|affine| affine.relu) })
    }
}

/// `x + residual`, each changed on the way in, with ReLU if `relu`.
pub(crate) fn normalised<T: OnCuda>(op: &'static str, x: Input, residual: Option<Input>, relu: bool) -> Result<Tensor> {
    if x.affine.is_none() && residual.is_none() && !relu && x.x.is_contiguous() {
        return Ok(x.x.clone());
    }
    let shape = x.x.shape().clone();
    let channels = *shape.dims().last().unwrap_or(&1);
    let pixels = shape.elem_count() / channels.max(1);
    let (change, other) = (Change::new(op, x)?, residual.map(|residual| Change::new(op, residual)).transpose()?);
    let other = other.unwrap_or(Change { scale: None, shift: None, relu: false });
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
    beta: &Tensor,
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
    let (gamma, beta) = (view("gamma", gamma)?, view("beta", beta)?);
    let (mean, inv_std) = (view("mean", &stats.mean)?, view("inv_std", &stats.inv_std)?);
    let target = into.map(|into| View::pixels::<T>(op, "into", into)).transpose()?;
    if target.as_ref().is_some_and(|into| into.shares(&dy) || into.shares(&x)) {
        let got = "one that shares storage with another operand".to_owned();
        return Err(Error::Parameter { op, name: "into", expected: "a tensor of its own".to_owned(), got }.into());
    }
    let device = x.device()?.clone();
    let mask = mask as i32;

    let dx_pitch = target.as_ref().map_or(channels, |into| into.pitch);
    let (name, vector) = kernel::<T>("grad_sums", &[channels, x.pitch, dx_pitch]);
    let (across, parts) = grid(pixels, channels, vector);
    let (_partial, partial) = room::<f32>(&device, 2 * parts as usize * channels)?;
    let (_coefficients, coefficients) = room::<f32>(&device, 5 * channels)?;
    let [(dgamma, dgamma_at), (dbeta, dbeta_at)] = vectors(&device, channels)?;
    let made = target.is_none().then(|| room::<T>(&device, count)).transpose()?;
    let dx = target.as_ref().map_or_else(|| made.as_ref().map_or(NULL, |made| made.1), |into| into.at);
    let left = has_residual.then(|| room::<T>(&device, count)).transpose()?;
    // SAFETY: all have so many pixels of so many channels, `x` and `dx` their pitches apart.
    unsafe {
        launch!(device, &name, (across, parts), (ACROSS, DOWN);
            dy.at, x.at, pixels as i64, channels as i32, x.pitch as i64, address_of(&y), mask,
            gamma.at, beta.at, mean.at, inv_std.at, partial, turns(&device)?, coefficients, dgamma_at, dbeta_at);
        let name = kernel::<T>("grad", &[channels, x.pitch, dx_pitch]).0;
        launch!(device, &name, blocks(count / vector), (THREADS, 1);
            dy.at, x.at, pixels as i64, channels as i32, x.pitch as i64, address_of(&y), mask, coefficients, dx, dx_pitch as i64, i32::from(target.is_some()), left.as_ref().map_or(NULL, |left| left.1));
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
    gradient::<T>(op, dy, x, y, gamma, beta, stats, mask, has_residual, None)
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
    let grads = gradient::<T>(op, dy, x, None, gamma, beta, stats, Mask::Again, false, Some(into))?;
    Ok((grads.dgamma, grads.dbeta))
}
