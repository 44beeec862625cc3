//! Batch normalisation fused with the residual sum and the ReLU that follow it.
//!
//! Over all pixels of a batch, per channel: `y = act(gamma * (x - mean) * inv_std + beta + residual)`.
//! Sums over pixels are taken in `f32` within a strip of rows and in `f64` across strips; strips follow from the shape.

use std::{marker::PhantomData, mem::MaybeUninit, ops::Range};

use candle_core::{CpuStorage, DType, Device, InplaceOp3, Layout, Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use crate::{
    Affine, Error, Input, buffer,
    input::InputView,
    kernel::{
        Element,
        conv::{Change, Source},
        moments::Moments,
        rows::{self, Mask, Masked},
        vectorised,
    },
    optim::Each2,
    trace,
    view::{Stored, View, check_shape, on_cuda, pixels, pixels_mut, slice, stored},
};

/// What a batch normalised by: one value per channel, each `[C]`.
#[derive(Clone, Debug)]
pub struct BatchStats {
    /// The mean over the batch's pixels.
    pub mean: Tensor,
    /// The biased variance (divided by the number of pixels).
    pub var: Tensor,
    /// `1 / sqrt(var + eps)`.
    pub inv_std: Tensor,
}

impl BatchStats {
    pub(crate) fn new(moments: &Moments, eps: f64) -> Result<Self> {
        let vector = |values: &[f64]| Tensor::from_vec(narrow(values), values.len(), &Device::Cpu);
        let inv_std = vector(&moments.inv_std(eps))?;
        Ok(Self { mean: vector(&moments.mean)?, var: vector(&moments.var)?, inv_std })
    }

    /// The statistics that a batch norm in evaluation takes: `mean`, `var` `[C]`.
    pub fn running(mean: &Tensor, var: &Tensor, eps: f64) -> Result<Self> {
        let inv_std = (var + eps)?.sqrt()?.recip()?;
        Ok(Self { mean: mean.clone(), var: var.clone(), inv_std })
    }

    /// Room for those of `channels`, which are not there yet.
    pub fn room(channels: usize, device: &Device) -> Result<Self> {
        let [mean, var, inv_std] = [(); 3].map(|()| Tensor::zeros(channels, DType::F32, device));
        Ok(Self { mean: mean?, var: var?, inv_std: inv_std? })
    }

    /// Those of `len` channels from `start`: the same memory.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let part = |of: &Tensor| of.narrow(0, start, len);
        Ok(Self { mean: part(&self.mean)?, var: part(&self.var)?, inv_std: part(&self.inv_std)? })
    }

    /// Puts them where `into` is, if it is anywhere.
    pub(crate) fn put(self, op: &'static str, into: Option<&BatchStats>) -> Result<Self> {
        let Some(into) = into else { return Ok(self) };
        into.check(op, self.mean.elem_count())?;
        for (into, from) in [(&into.mean, &self.mean), (&into.var, &self.var), (&into.inv_std, &self.inv_std)] {
            into.slice_set(from, 0, 0)?;
        }
        Ok(into.clone())
    }

    /// Refuses other channels.
    pub(crate) fn check(&self, op: &'static str, channels: usize) -> Result<()> {
        for (name, vector) in [("mean", &self.mean), ("var", &self.var), ("inv_std", &self.inv_std)] {
            check_shape(op, name, vector, &[channels])?;
        }
        Ok(())
    }

    /// The batch norm with these statistics, and the ReLU behind it if `relu`.
    ///
    /// # Shapes
    ///
    /// `gamma`, `beta` `[C]`.
    pub fn affine(&self, gamma: &Tensor, beta: &Tensor, relu: bool) -> Result<Affine> {
        self.affine_for("affine", gamma, beta, relu)
    }

    fn affine_for(&self, op: &'static str, gamma: &Tensor, beta: &Tensor, relu: bool) -> Result<Affine> {
        let c = self.mean.elem_count();
        for (name, vector) in [("gamma", gamma), ("beta", beta), ("mean", &self.mean), ("inv_std", &self.inv_std)] {
            check_shape(op, name, vector, &[c])?;
        }
        on_cuda!(gamma, crate::cuda::prepare(op, self, gamma, beta, relu, None));
        let (gamma, beta) = (View::new(op, "gamma", gamma)?, View::new(op, "beta", beta)?);
        let (mean, inv_std) = (View::new(op, "mean", &self.mean)?, View::new(op, "inv_std", &self.inv_std)?);
        let (scale, shift) = scale_shift(&gamma, &beta, &mean, &inv_std);
        let vector = |values: Vec<f32>| Tensor::from_vec(values, c, &Device::Cpu);
        Ok(Affine { scale: vector(scale)?, shift: vector(shift)?, relu })
    }
}

/// A batch norm in training: its parameters, and the running statistics that a step moves; vectors are `[C]`.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// The scale.
    pub gamma: &'a Tensor,
    /// The shift.
    pub beta: &'a Tensor,
    /// The running mean, moved in place.
    pub mean: &'a Tensor,
    /// The running variance, unbiased, moved in place.
    pub var: &'a Tensor,
    /// How far the running statistics move towards the batch's: 0 not at all, 1 all the way.
    pub momentum: f64,
    /// Added to the variance under the root.
    pub eps: f64,
}

impl BatchStats {
    /// As [`BatchStats::affine`], of statistics over `count` pixels; moves the norm's running ones, in place.
    pub fn train(&self, norm: &BatchNorm, count: usize, relu: bool) -> Result<Affine> {
        let op = "batch_norm";
        let c = self.mean.elem_count();
        for (name, vector) in [("running mean", norm.mean), ("running variance", norm.var)] {
            check_shape(op, name, vector, &[c])?;
        }
        on_cuda!(self.mean, {
            for (name, vector) in [("gamma", norm.gamma), ("beta", norm.beta)] {
                check_shape(op, name, vector, &[c])?;
            }
            crate::cuda::prepare(op, self, norm.gamma, norm.beta, relu, Some(running(norm, count)))
        });
        let momentum = norm.momentum as f32;
        let unbiased = (norm.momentum * unbiased(count)) as f32;
        let keep = (1.0 - norm.momentum) as f32;
        norm.mean.inplace_op2(&self.mean, &Each2 { name: op, f: move |old, new| old * keep + new * momentum })?;
        norm.var.inplace_op2(&self.var, &Each2 { name: op, f: move |old, new| old * keep + new * unbiased })?;
        self.affine_for(op, norm.gamma, norm.beta, relu)
    }
}

/// What makes a variance over `count` pixels unbiased.
fn unbiased(count: usize) -> f64 {
    count as f64 / (count as f64 - 1.0).max(1.0)
}

#[cfg(feature = "cuda")]
fn running<'a>(norm: &BatchNorm<'a>, count: usize) -> crate::cuda::Running<'a> {
    let (momentum, unbiased) = (norm.momentum as f32, unbiased(count) as f32);
    crate::cuda::Running { mean: norm.mean, var: norm.var, momentum, unbiased }
}

/// The statistics of `x [..., C]` and the norm by them.
#[cfg(feature = "cuda")]
pub(crate) fn stats_on_cuda<T: Stored>(
    op: &'static str,
    x: &Tensor,
    norm: &BatchNorm,
    relu: bool,
) -> Result<(BatchStats, Affine)> {
    let c = channels(op, x)?;
    for (name, vector) in
        [("gamma", norm.gamma), ("beta", norm.beta), ("running mean", norm.mean), ("running variance", norm.var)]
    {
        check_shape(op, name, vector, &[c])?;
    }
    let _span = trace::pass("batch_stats", &[x]);
    let of = (norm.gamma, norm.beta, Some(running(norm, x.elem_count() / c)), relu);
    match crate::cuda::stats::<T>(op, x, c, norm.eps, None, Some(of))? {
        (stats, Some(affine)) => Ok((stats, affine)),
        (stats, None) => stats.affine(norm.gamma, norm.beta, relu).map(|affine| (stats, affine)),
    }
}

/// The gradients of [`batch_norm_forward`].
#[derive(Clone, Debug)]
pub struct BatchNormGrads {
    /// With respect to `x`, same shape.
    pub dx: Tensor,
    /// With respect to `gamma`, `[C]`.
    pub dgamma: Tensor,
    /// With respect to `beta`, `[C]`.
    pub dbeta: Tensor,
    /// With respect to `residual`, if there was one.
    pub dresidual: Option<Tensor>,
}

/// Normalises `x` by its own statistics, scales, shifts, adds `residual`, applies ReLU if `relu`; all in two passes.
///
/// # Shapes
///
/// `x`, `residual` and the result `[..., C]` with at least one pixel; `gamma`, `beta` `[C]`.
pub fn batch_norm_forward(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    eps: f64,
) -> Result<(Tensor, BatchStats)> {
    let op = "batch_norm_forward";
    let c = channels(op, x)?;
    check_shape(op, "gamma", gamma, &[c])?;
    check_shape(op, "beta", beta, &[c])?;
    if let Some(residual) = residual {
        check_shape(op, "residual", residual, x.dims())?;
    }
    let stats = batch_stats(x, eps, None)?;
    let affine = stats.affine_for(op, gamma, beta, false)?;
    let (input, residual) = (Input { x, affine: Some(&affine) }, residual.map(Input::from));
    Ok((stored!(x, sum_of(op, input, residual, relu))?, stats))
}

/// The statistics of `x [..., C]`, which has at least one pixel; `eps` is that of the norm they are for. They are written
/// to `into`, if given, and are then a part of it.
pub fn batch_stats(x: &Tensor, eps: f64, into: Option<&BatchStats>) -> Result<BatchStats> {
    let op = "batch_stats";
    let c = channels(op, x)?;
    let _span = trace::pass(op, &[x]);
    on_cuda!(x, stored!(x, bare_stats_on_cuda(op, x, c, eps, into)));
    let moments = match x.dtype() {
        DType::BF16 => moments::<bf16>(&View::new(op, "x", x)?, c),
        _ => moments::<f32>(&View::new(op, "x", x)?, c),
    };
    BatchStats::new(&moments, eps)?.put(op, into)
}

#[cfg(feature = "cuda")]
fn bare_stats_on_cuda<T: Stored>(
    op: &'static str,
    x: &Tensor,
    channels: usize,
    eps: f64,
    into: Option<&BatchStats>,
) -> Result<BatchStats> {
    Ok(crate::cuda::stats::<T>(op, x, channels, eps, into, None)?.0)
}

/// `x + residual`, each normalised on the way in, with ReLU if `relu`: where a block's two paths meet.
///
/// # Shapes
///
/// `x`, `residual` and the result `[..., C]`, without gaps.
pub fn normalised_sum<'a>(x: impl Into<Input<'a>>, residual: Option<Input>, relu: bool) -> Result<Tensor> {
    let x = x.into();
    stored!(x.x, sum_of("normalised_sum", x, residual, relu))
}

fn sum_of<T: Stored>(op: &'static str, x: Input, residual: Option<Input>, relu: bool) -> Result<Tensor> {
    let shape = x.x.shape();
    if let Some(residual) = residual {
        check_shape(op, "residual", residual.x, x.x.dims())?;
    }
    let channels = channels(op, x.x)?;
    let _span = match residual {
        Some(residual) => trace::pass(op, &[x.x, x.x, residual.x]),
        None => trace::pass(op, &[x.x, x.x]),
    };
    on_cuda!(x.x, crate::cuda::normalised::<T>(op, x, residual, relu));
    let x = InputView::<T>::without_gaps(op, "x", x)?;
    let residual = residual.map(|residual| InputView::without_gaps(op, "residual", residual)).transpose()?;
    let y = sum(channels, x.source(), residual.as_ref().map(InputView::source), relu);
    Tensor::from_vec(y, shape, &Device::Cpu)
}

/// The gradients of [`batch_norm_forward`], given its input `x`, its result `y` and its statistics.
///
/// The ReLU passed where `y > 0`; without a residual, `y` may be `None`: it is then computed again. `has_residual` asks
/// for the residual's gradient, which is `dy` behind that mask.
///
/// # Errors
///
/// If shapes differ; a ReLU behind a residual, and no `y`.
#[allow(clippy::too_many_arguments)] // the operands of the forward pass, and what it returned
pub fn batch_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    y: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    has_residual: bool,
    relu: bool,
) -> Result<BatchNormGrads> {
    stored!(x, backward_of(dy, x, y, gamma, beta, stats, has_residual, relu))
}

#[allow(clippy::too_many_arguments)] // as above
fn backward_of<T: Stored>(
    dy: &Tensor,
    x: &Tensor,
    y: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    has_residual: bool,
    relu: bool,
) -> Result<BatchNormGrads> {
    let op = "batch_norm_backward";
    let c = channels(op, x)?;
    check_shape(op, "dy", dy, x.dims())?;
    if let Some(y) = y {
        check_shape(op, "y", y, x.dims())?;
    } else if relu && has_residual {
        let expected = "what the ReLU behind the residual gave".into();
        return Err(Error::Parameter { op, name: "y", expected, got: "None".into() }.into());
    }
    for (name, vector) in [("gamma", gamma), ("beta", beta), ("mean", &stats.mean), ("inv_std", &stats.inv_std)] {
        check_shape(op, name, vector, &[c])?;
    }
    // Twice each operand: for the sums, and for the gradient.
    let _span = match (y, has_residual) {
        (Some(y), true) => trace::pass(op, &[x, x, dy, dy, y, y, x, x]),
        (Some(y), false) => trace::pass(op, &[x, x, dy, dy, y, y, x]),
        (None, _) => trace::pass(op, &[x, x, dy, dy, x]),
    };
    on_cuda!(x, crate::cuda::backward::<T>(op, dy, x, y, gamma, beta, stats, has_residual, relu));
    let shape = x.shape();
    let (dy, x) = (View::<T>::new(op, "dy", dy)?, View::new(op, "x", x)?);
    let y = y.map(|y| View::new(op, "y", y)).transpose()?;
    let (gamma, beta) = (View::new(op, "gamma", gamma)?, View::new(op, "beta", beta)?);
    let mean = View::new(op, "mean", &stats.mean)?;
    let inv_std = View::new(op, "inv_std", &stats.inv_std)?;
    let (scale, shift) = scale_shift(&gamma, &beta, &mean, &inv_std);
    let mask = match &y {
        _ if !relu => Mask::All,
        Some(y) => Mask::Result(y),
        None => Mask::Again { scale: &scale, shift: &shift },
    };
    let masked = Masked { dy: &dy, mask, x: &x, pitch: c };
    let grads = backward(&masked, &gamma, &mean, &inv_std, has_residual);

    let vector = |v: Vec<f32>| Tensor::from_vec(v, c, &Device::Cpu);
    let tensor = |v: Vec<T>| Tensor::from_vec(v, shape, &Device::Cpu);
    Ok(BatchNormGrads {
        dx: tensor(grads.dx)?,
        dgamma: vector(grads.dgamma)?,
        dbeta: vector(grads.dbeta)?,
        dresidual: grads.dresidual.map(tensor).transpose()?,
    })
}

/// As [`batch_norm_backward`] of a norm with a ReLU and no residual, but the gradient with respect to `x` is added, in
/// place, to what `into` holds: the gradient of the same tensor by other paths. Returns those of gamma and beta.
///
/// # Shapes
///
/// `dy` `[..., C]` without gaps; `x` and `into` too, or a part of the channels of wider tensors.
///
/// # Errors
///
/// If shapes differ, or if `into` shares its storage with another operand.
pub fn batch_norm_backward_add(
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    into: &Tensor,
) -> Result<(Tensor, Tensor)> {
    stored!(x, backward_add_of(dy, x, gamma, beta, stats, into))
}

fn backward_add_of<T: Stored>(
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    into: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let op = "batch_norm_backward_add";
    let c = channels(op, x)?;
    check_shape(op, "dy", dy, x.dims())?;
    check_shape(op, "into", into, x.dims())?;
    for (name, vector) in [("gamma", gamma), ("beta", beta), ("mean", &stats.mean), ("inv_std", &stats.inv_std)] {
        check_shape(op, name, vector, &[c])?;
    }
    let _span = trace::pass(op, &[x, x, dy, dy, into, into]);
    on_cuda!(x, crate::cuda::backward_add::<T>(op, dy, x, gamma, beta, stats, into));
    let (gamma, beta) = (View::new(op, "gamma", gamma)?, View::new(op, "beta", beta)?);
    let (mean, inv_std) = (View::new(op, "mean", &stats.mean)?, View::new(op, "inv_std", &stats.inv_std)?);
    let (scale, shift) = scale_shift(&gamma, &beta, &mean, &inv_std);
    let ([sum, product], coefficients) = {
        let (dy, x) = (View::<T>::new(op, "dy", dy)?, View::pixels(op, "x", x)?);
        let mask = Mask::Again { scale: &scale, shift: &shift };
        let masked = Masked { dy: &dy, mask, x: &x, pitch: x.pitch() };
        let sums = gradient_sums(&masked, &mean);
        let coefficients = coefficients(dy.len() / c, &gamma, &mean, &inv_std, &sums);
        (sums, coefficients)
    };
    into.inplace_op3(dy, x, &AddInputGrad::<T> { scale, shift, coefficients, kind: PhantomData })?;
    let vector = |v: Vec<f32>| Tensor::from_vec(v, c, &Device::Cpu);
    Ok((vector(gamma_grad(&product, &inv_std))?, vector(narrow(&sum))?))
}

struct AddInputGrad<T> {
    scale: Vec<f32>,
    shift: Vec<f32>,
    coefficients: [Vec<f32>; 3],
    kind: PhantomData<T>,
}

impl<T: Stored> InplaceOp3 for AddInputGrad<T> {
    fn name(&self) -> &'static str {
        "batch_norm_backward_add"
    }

    fn cpu_fwd(
        &self,
        into: &mut CpuStorage,
        layout: &Layout,
        dy: &CpuStorage,
        ldy: &Layout,
        x: &CpuStorage,
        lx: &Layout,
    ) -> Result<()> {
        let op = self.name();
        let (into, pitch) = pixels_mut::<T>(op, "into", into, layout)?;
        let dy: &[T] = slice(op, "dy", dy, ldy)?;
        let (x, x_pitch) = pixels::<T>(op, "x", x, lx)?;
        let (c, [a, b, e]) = (self.scale.len(), &self.coefficients);
        let mask = Mask::Again { scale: &self.scale, shift: &self.shift };
        let masked = Masked { dy, mask, x, pitch: x_pitch };
        let (pixels, rows) = (dy.len() / c, (TASK / c).max(1));
        into.par_chunks_mut(rows * pitch).enumerate().for_each(|(task, into)| {
            let range = task * rows..((task + 1) * rows).min(pixels);
            masked.pixels(range, c).add_gradient([a, b, e], into, pitch);
        });
        Ok(())
    }
}

fn channels(op: &'static str, x: &Tensor) -> Result<usize> {
    match x.dims().last() {
        Some(&c) if x.elem_count() > 0 => Ok(c),
        _ => Err(Error::Shape {
            op,
            name: "x",
            expected: "[..., C], at least one pixel and one channel".into(),
            got: x.dims().to_vec(),
        }
        .into()),
    }
}

fn narrow(wide: &[f64]) -> Vec<f32> {
    wide.iter().map(|v| *v as f32).collect()
}

/// Pixels summed in `f32` before the sum is carried to `f64`.
const STRIP: usize = 64;
/// Into how many independent parts a sum over pixels is split, at most.
const PARTS: usize = 64;

/// Two sums per channel over `pixels`; `strip` adds those of a range of pixels to the two slices.
fn channel_sums(pixels: usize, c: usize, strip: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync) -> [Vec<f64>; 2] {
    let part = pixels.div_ceil(PARTS).next_multiple_of(STRIP);
    let parts: Vec<[Vec<f64>; 2]> = (0..pixels.div_ceil(part))
        .into_par_iter()
        .map(|i| {
            let (mut a, mut b) = (vec![0f64; c], vec![0f64; c]);
            let (mut sa, mut sb) = (vec![0f32; c], vec![0f32; c]);
            let end = ((i + 1) * part).min(pixels);
            for first in (i * part..end).step_by(STRIP) {
                sa.fill(0.0);
                sb.fill(0.0);
                strip(first..(first + STRIP).min(end), &mut sa, &mut sb);
                add_wide(&mut a, &sa);
                add_wide(&mut b, &sb);
            }
            [a, b]
        })
        .collect();
    let mut total = [vec![0f64; c], vec![0f64; c]];
    for part in &parts {
        for (total, part) in total.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        }
    }
    total
}

fn add_wide(wide: &mut [f64], narrow: &[f32]) {
    wide.iter_mut().zip(narrow).for_each(|(w, n)| *w += f64::from(*n));
}

impl Moments {
    pub(crate) fn inv_std(&self, eps: f64) -> Vec<f64> {
        self.var.iter().map(|v| (v + eps).sqrt().recip()).collect()
    }
}

/// Mean and biased variance per channel. Values are taken relative to the first pixel, so that a mean far from zero does
/// not swallow the variance.
fn moments<T: Element>(x: &[T], c: usize) -> Moments {
    let pixels = x.len() / c;
    let origin = &x[..c];
    let [sum, squares] = channel_sums(pixels, c, |range, sum, squares| {
        vectorised(|| {
            for row in x[range.start * c..range.end * c].chunks_exact(c) {
                let sums = sum.iter_mut().zip(squares.iter_mut());
                for ((x, origin), (sum, squares)) in row.iter().zip(origin).zip(sums) {
                    let d = x.wide() - origin.wide();
                    *sum += d;
                    *squares += d * d;
                }
            }
        })
    });
    let n = pixels as f64;
    let shift = sum.iter().map(|s| s / n);
    Moments {
        mean: shift.clone().zip(origin).map(|(s, o)| s + f64::from(o.wide())).collect(),
        var: shift.zip(&squares).map(|(s, q)| (q / n - s * s).max(0.0)).collect(),
    }
}

/// `scale * x + shift` is `gamma (x - mean) inv_std + beta`, per channel.
fn scale_shift(gamma: &[f32], beta: &[f32], mean: &[f32], inv_std: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let scale: Vec<f64> = gamma.iter().zip(inv_std).map(|(g, s)| f64::from(*g) * f64::from(*s)).collect();
    let shift = beta.iter().zip(mean).zip(&scale).map(|((b, m), s)| (f64::from(*b) - f64::from(*m) * s) as f32);
    (narrow(&scale), shift.collect())
}

/// About how many elements a parallel task of an element-wise pass gets: 256 KiB.
const TASK: usize = 64 << 10;

fn rows_per_task(c: usize) -> usize {
    (TASK / c).max(1) * c
}

/// The sum of two sources without gaps, with ReLU if `relu`.
fn sum<T: Element>(c: usize, x: Source<T>, residual: Option<Source<T>>, relu: bool) -> Vec<T> {
    let task = rows_per_task(c);
    let (ones, zeros) = (vec![1.0; c], vec![0.0; c]);
    let none = Change { scale: &ones, shift: &zeros, relu: false };
    let pass = |y: &mut [MaybeUninit<T>]| {
        y.par_chunks_mut(task).enumerate().for_each(|(index, y)| {
            let within = index * task..index * task + y.len();
            let residual = residual.map(|other| (&other.data[within.clone()], other.change.unwrap_or(none)));
            rows::sum(&x.data[within], x.change.unwrap_or(none), residual, relu, y);
        });
    };
    // SAFETY: the chunks tile `y`, whose length is a whole number of rows, and `sum` writes every element.
    unsafe { buffer::filled(x.data.len(), pass) }
}

struct Backward<T> {
    dx: Vec<T>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    dresidual: Option<Vec<T>>,
}

/// Per channel, the sums of `d` and of `d (x - mean)`.
fn gradient_sums<T: Element>(masked: &Masked<T>, mean: &[f32]) -> [Vec<f64>; 2] {
    let c = mean.len();
    channel_sums(masked.dy.len() / c, c, |range, sum, product| masked.pixels(range, c).sums(mean, sum, product))
}

/// Per channel, `a`, `b`, `e` of `dx = gamma inv_std (d - mean(d) - xhat mean(d xhat)) = a d + b x + e`.
fn coefficients(
    pixels: usize,
    gamma: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    [sum, product]: &[Vec<f64>; 2],
) -> [Vec<f32>; 3] {
    let (c, n) = (gamma.len(), pixels as f64);
    let mut coefficients = [vec![0f32; c], vec![0f32; c], vec![0f32; c]];
    for j in 0..c {
        let inv = f64::from(inv_std[j]);
        let a = f64::from(gamma[j]) * inv;
        let b = -a * inv * inv * product[j] / n;
        coefficients[0][j] = a as f32;
        coefficients[1][j] = b as f32;
        coefficients[2][j] = (-a * sum[j] / n - b * f64::from(mean[j])) as f32;
    }
    coefficients
}

fn gamma_grad(product: &[f64], inv_std: &[f32]) -> Vec<f32> {
    product.iter().zip(inv_std).map(|(p, s)| (p * f64::from(*s)) as f32).collect()
}

fn backward<T: Element>(
    masked: &Masked<T>,
    gamma: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    has_residual: bool,
) -> Backward<T> {
    let (c, len) = (gamma.len(), masked.dy.len());
    let sums = gradient_sums(masked, mean);
    let [a, b, e] = &coefficients(len / c, gamma, mean, inv_std, &sums);
    let task = rows_per_task(c);
    let part = |index: usize, len: usize| masked.pixels(index * task / c..(index * task + len) / c, c);
    let mut dresidual = None;
    let pass = |dx: &mut [MaybeUninit<T>]| {
        let parts = dx.par_chunks_mut(task).enumerate();
        if has_residual {
            let pass = |d: &mut [MaybeUninit<T>]| {
                parts.zip(d.par_chunks_mut(task)).for_each(|((index, dx), d)| {
                    part(index, dx.len()).gradient([a, b, e], dx, Some(d));
                });
            };
            // SAFETY: the chunks tile the buffer in whole rows, and `gradient` writes every element of each.
            dresidual = Some(unsafe { buffer::filled(len, pass) });
        } else {
            parts.for_each(|(index, dx)| part(index, dx.len()).gradient([a, b, e], dx, None));
        }
    };
    // SAFETY: as above.
    let dx = unsafe { buffer::filled(len, pass) };
    let [sum, product] = &sums;
    Backward { dx, dgamma: gamma_grad(product, inv_std), dbeta: narrow(sum), dresidual }
}
