//! Batch normalisation fused with the residual sum and the ReLU that follow it.
//!
//! Over all pixels of a batch, per channel: `y = act(gamma * (x - mean) * inv_std + beta + residual)`.
//! Sums over pixels are taken in `f32` within a strip of rows and in `f64` across strips; strips follow from the shape.

use std::{marker::PhantomData, mem::MaybeUninit, ops::Range};

use candle_core::{CpuStorage, CustomOp3, DType, Device, InplaceOp3, Layout, Result, Shape, Tensor};
use half::bf16;
use rayon::prelude::*;

use crate::{
    Affine, Error, Input, buffer,
    input::InputView,
    kernel::{
        Element,
        conv::{Change, Source, at_least},
        moments::Moments,
        vectorised,
    },
    trace,
    view::{Stored, View, check_shape, pixels, pixels_mut, slice, stored},
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

    /// Those of the channels of all `parts`, one after the other.
    pub fn join(parts: &[&BatchStats]) -> Result<Self> {
        let cat =
            |of: fn(&BatchStats) -> &Tensor| Tensor::cat(&parts.iter().map(|stats| of(stats)).collect::<Vec<_>>(), 0);
        Ok(Self { mean: cat(|s| &s.mean)?, var: cat(|s| &s.var)?, inv_std: cat(|s| &s.inv_std)? })
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
        let (gamma, beta) = (View::new(op, "gamma", gamma)?, View::new(op, "beta", beta)?);
        let (mean, inv_std) = (View::new(op, "mean", &self.mean)?, View::new(op, "inv_std", &self.inv_std)?);
        let (scale, shift) = scale_shift(&gamma, &beta, &mean, &inv_std);
        let vector = |values: Vec<f32>| Tensor::from_vec(values, c, &Device::Cpu);
        Ok(Affine { scale: vector(scale)?, shift: vector(shift)?, relu })
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
    let stats = batch_stats(x, eps)?;
    let affine = stats.affine_for(op, gamma, beta, false)?;
    let (input, residual) = (Input { x, affine: Some(&affine) }, residual.map(Input::from));
    Ok((stored!(x, sum_of(op, input, residual, relu))?, stats))
}

/// The statistics of `x [..., C]`, which has at least one pixel; `eps` is that of the norm they are for.
pub fn batch_stats(x: &Tensor, eps: f64) -> Result<BatchStats> {
    let op = "batch_stats";
    let c = channels(op, x)?;
    let _span = trace::pass(op, &[x]);
    let moments = match x.dtype() {
        DType::BF16 => moments::<bf16>(&View::new(op, "x", x)?, c),
        _ => moments::<f32>(&View::new(op, "x", x)?, c),
    };
    BatchStats::new(&moments, eps)
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
    let grads = backward(&dy, &x, mask, &gamma, &mean, &inv_std, has_residual);

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
    let (gamma, beta) = (View::new(op, "gamma", gamma)?, View::new(op, "beta", beta)?);
    let (mean, inv_std) = (View::new(op, "mean", &stats.mean)?, View::new(op, "inv_std", &stats.inv_std)?);
    let _span = trace::pass(op, &[x, x, dy, dy, into, into]);
    let (scale, shift) = scale_shift(&gamma, &beta, &mean, &inv_std);
    let ([sum, product], coefficients) = {
        let (dy, x) = (View::<T>::new(op, "dy", dy)?, View::pixels(op, "x", x)?);
        let operands = Operands {
            dy: &dy,
            x: &x,
            pitch: x.pitch(),
            y: &dy,
            gamma: &gamma,
            mean: &mean,
            inv_std: &inv_std,
            scale: &scale,
            shift: &shift,
            has_residual: false,
        };
        let sums = gradient_sums::<T, AGAIN>(&operands);
        let coefficients = coefficients(&operands, &sums[0], &sums[1]);
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
        let rows = (TASK / c).max(1);
        let parts = dy.par_chunks(rows * c).zip(x.par_chunks(rows * x_pitch)).zip(into.par_chunks_mut(rows * pitch));
        parts.for_each(|((dy, x), into)| {
            vectorised(|| {
                for ((dy, x), into) in dy.chunks_exact(c).zip(x.chunks(x_pitch)).zip(into.chunks_mut(pitch)) {
                    let affine = self.scale.iter().zip(&self.shift);
                    let operands = dy.iter().zip(x).zip(affine).zip(a.iter().zip(b).zip(e));
                    for (into, (((dy, x), (scale, shift)), ((a, b), e))) in into.iter_mut().zip(operands) {
                        let x = x.wide();
                        let d = passed::<AGAIN>(dy.wide(), 0.0, x, *scale, *shift);
                        *into = T::narrow(into.wide() + (a * d + (b * x + e)));
                    }
                }
            });
        });
        Ok(())
    }
}

/// Normalises `x` by running statistics, as in evaluation, with ReLU if `relu`.
///
/// # Shapes
///
/// `x` and the result `[..., C]`; the others `[C]`.
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    relu: bool,
    eps: f64,
) -> Result<Tensor> {
    let op = "batch_norm_eval";
    let c = channels(op, x)?;
    let vector = |name, tensor| -> Result<Vec<f64>> {
        check_shape(op, name, tensor, &[c])?;
        Ok(View::<f32>::new(op, name, tensor)?.iter().map(|v| f64::from(*v)).collect())
    };
    let moments = Moments { mean: vector("running_mean", running_mean)?, var: vector("running_var", running_var)? };
    check_shape(op, "gamma", gamma, &[c])?;
    check_shape(op, "beta", beta, &[c])?;
    let (gamma, beta) = (View::new(op, "gamma", gamma)?, View::new(op, "beta", beta)?);
    let (scale, shift) = scale_shift(&gamma, &beta, &narrow(&moments.mean), &narrow(&moments.inv_std(eps)));
    let change = Some(Change { scale: &scale, shift: &shift, relu: false });
    let y = sum::<f32>(c, Source { data: &View::new(op, "x", x)?, pitch: c, change }, None, relu);
    Tensor::from_vec(y, x.shape(), &Device::Cpu)
}

/// Batch normalisation by the batch's own statistics, differentiable in `x`, `gamma` and `beta`.
///
/// # Shapes
///
/// `x` and the result `[..., C]`; `gamma`, `beta` `[C]`.
pub fn batch_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op3(gamma, beta, BatchNorm { eps })
}

struct BatchNorm {
    eps: f64,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let op = self.name();
        let c = lx.dims().last().copied().unwrap_or(0);
        for (name, dims) in [("gamma", lg.dims()), ("beta", lb.dims())] {
            if dims != [c] || c == 0 || lx.shape().elem_count() == 0 {
                let (expected, got) = (format!("[{c}], all sizes above 0"), dims.to_vec());
                return Err(Error::Shape { op, name, expected, got }.into());
            }
        }
        let x: &[f32] = slice(op, "x", x, lx)?;
        let moments = moments(x, c);
        let (gamma, beta) = (slice(op, "gamma", gamma, lg)?, slice(op, "beta", beta, lb)?);
        let (scale, shift) = scale_shift(gamma, beta, &narrow(&moments.mean), &narrow(&moments.inv_std(self.eps)));
        let change = Some(Change { scale: &scale, shift: &shift, relu: false });
        Ok((CpuStorage::F32(sum(c, Source { data: x, pitch: c, change }, None, false)), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let op = self.name();
        let c = channels(op, x)?;
        let dy = dy.contiguous()?;
        let (xs, shape) = (View::<f32>::new(op, "x", x)?, x.shape());
        let moments = moments(&xs, c);
        let grads = backward(
            &View::new(op, "dy", &dy)?,
            &xs,
            Mask::All,
            &View::new(op, "gamma", gamma)?,
            &narrow(&moments.mean),
            &narrow(&moments.inv_std(self.eps)),
            false,
        );
        Ok((
            Some(Tensor::from_vec(grads.dx, shape, &Device::Cpu)?),
            Some(Tensor::from_vec(grads.dgamma, c, &Device::Cpu)?),
            Some(Tensor::from_vec(grads.dbeta, c, &Device::Cpu)?),
        ))
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
    let change = x.change.unwrap_or(none);
    let (least, floor) = (change.floor(), if relu { 0.0 } else { f32::NEG_INFINITY });
    let pass = |y: &mut [MaybeUninit<T>]| {
        let parts = y.par_chunks_mut(task).zip(x.data.par_chunks(task));
        let affine = change.scale.iter().zip(change.shift);
        let Some(residual) = residual else {
            let floor = least.max(floor);
            parts.for_each(|(y, x)| {
                vectorised(|| {
                    for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                        for (y, (x, (scale, shift))) in y.iter_mut().zip(x.iter().zip(affine.clone())) {
                            y.write(T::narrow(at_least(x.wide() * scale + shift, floor)));
                        }
                    }
                });
            });
            return;
        };
        let other = residual.change.unwrap_or(none);
        let (other_least, other) = (other.floor(), other.scale.iter().zip(other.shift));
        parts.zip(residual.data.par_chunks(task)).for_each(|((y, x), r)| {
            vectorised(|| {
                for ((y, x), r) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(r.chunks_exact(c)) {
                    let operands = x.iter().zip(affine.clone()).zip(r.iter().zip(other.clone()));
                    for (y, ((x, (scale, shift)), (r, (rscale, rshift)))) in y.iter_mut().zip(operands) {
                        let x = at_least(x.wide() * scale + shift, least);
                        let r = at_least(r.wide() * rscale + rshift, other_least);
                        y.write(T::narrow(at_least(x + r, floor)));
                    }
                }
            });
        });
    };
    // SAFETY: the chunks tile `y`, whose length is a whole number of rows, and each branch writes every element.
    unsafe { buffer::filled(x.data.len(), pass) }
}

struct Backward<T> {
    dx: Vec<T>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    dresidual: Option<Vec<T>>,
}

/// Where the ReLU behind a batch norm let the gradient pass.
#[derive(Clone, Copy)]
enum Mask<'a, T> {
    /// There was none.
    All,
    /// Where its result is positive.
    Result(&'a [T]),
    /// Where `scale x + shift` is positive.
    Again { scale: &'a [f32], shift: &'a [f32] },
}

const ALL: u8 = 0;
const RESULT: u8 = 1;
const AGAIN: u8 = 2;

/// `d` where the ReLU let it pass, otherwise 0; operands that `MASK` does not need are not looked at.
#[inline(always)]
fn passed<const MASK: u8>(d: f32, y: f32, x: f32, scale: f32, shift: f32) -> f32 {
    let passes = match MASK {
        RESULT => y > 0.0,
        AGAIN => x * scale + shift > 0.0,
        _ => true,
    };
    if passes { d } else { 0.0 }
}

/// The operands of the backward pass; all but the last six `[..., C]`.
struct Operands<'a, T> {
    dy: &'a [T],
    x: &'a [T],
    /// Elements from pixel to pixel of `x`.
    pitch: usize,
    /// Something of that shape, where there is no mask by the result.
    y: &'a [T],
    gamma: &'a [f32],
    mean: &'a [f32],
    inv_std: &'a [f32],
    /// Something of that shape, where there is no mask by computing again.
    scale: &'a [f32],
    shift: &'a [f32],
    has_residual: bool,
}

fn backward<T: Element>(
    dy: &[T],
    x: &[T],
    mask: Mask<T>,
    gamma: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    has_residual: bool,
) -> Backward<T> {
    let plain =
        Operands { dy, x, pitch: gamma.len(), y: dy, gamma, mean, inv_std, scale: gamma, shift: gamma, has_residual };
    match mask {
        Mask::All => backward_masked::<T, ALL>(&plain),
        Mask::Result(y) => backward_masked::<T, RESULT>(&Operands { y, ..plain }),
        Mask::Again { scale, shift } => backward_masked::<T, AGAIN>(&Operands { scale, shift, ..plain }),
    }
}

/// Per channel, the sums of `d` and of `d (x - mean)`.
fn gradient_sums<T: Element, const MASK: u8>(operands: &Operands<T>) -> [Vec<f64>; 2] {
    let Operands { dy, x, pitch, y, mean, scale, shift, .. } = *operands;
    let c = mean.len();
    channel_sums(dy.len() / c, c, |range, sum, product| {
        vectorised(|| {
            let rows = dy[range.start * c..range.end * c].chunks_exact(c).zip(x[range.start * pitch..].chunks(pitch));
            for ((dy, x), y) in rows.zip(y[range.start * c..].chunks_exact(c)) {
                let sums = sum.iter_mut().zip(product.iter_mut());
                let operands = dy.iter().zip(y).zip(x.iter().zip(mean)).zip(scale.iter().zip(shift));
                for ((sum, product), (((dy, y), (x, mean)), (scale, shift))) in sums.zip(operands) {
                    let x = x.wide();
                    let d = passed::<MASK>(dy.wide(), y.wide(), x, *scale, *shift);
                    *sum += d;
                    *product += d * (x - mean);
                }
            }
        })
    })
}

/// Per channel, `a`, `b`, `e` of `dx = gamma inv_std (d - mean(d) - xhat mean(d xhat)) = a d + b x + e`.
fn coefficients<T>(operands: &Operands<T>, sum: &[f64], product: &[f64]) -> [Vec<f32>; 3] {
    let Operands { dy, gamma, mean, inv_std, .. } = *operands;
    let c = gamma.len();
    let n = (dy.len() / c) as f64;
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

fn backward_masked<T: Element, const MASK: u8>(operands: &Operands<T>) -> Backward<T> {
    let Operands { dy, x, y, gamma, inv_std, scale, shift, has_residual, .. } = *operands;
    let c = gamma.len();
    let [sum, product] = gradient_sums::<T, MASK>(operands);
    let [a, b, e] = &coefficients(operands, &sum, &product);
    let task = rows_per_task(c);
    let mut dresidual = None;
    let pass = |dx: &mut [MaybeUninit<T>]| {
        let parts = dy.par_chunks(task).zip(x.par_chunks(task)).zip(y.par_chunks(task));
        let parts = parts.zip(dx.par_chunks_mut(task));
        let affine = scale.iter().zip(shift);
        // dx = a d + b x + e
        let input = |dy: &[T], x: &[T], y: &[T], dx: &mut [MaybeUninit<T>]| {
            vectorised(|| {
                let rows = dy.chunks_exact(c).zip(x.chunks_exact(c)).zip(y.chunks_exact(c));
                for (((dy, x), y), dx) in rows.zip(dx.chunks_exact_mut(c)) {
                    let operands = dy.iter().zip(y).zip(x).zip(affine.clone()).zip(a.iter().zip(b).zip(e));
                    for (dx, ((((dy, y), x), (scale, shift)), ((a, b), e))) in dx.iter_mut().zip(operands) {
                        let x = x.wide();
                        let d = passed::<MASK>(dy.wide(), y.wide(), x, *scale, *shift);
                        dx.write(T::narrow(a * d + (b * x + e)));
                    }
                }
            });
        };
        if has_residual {
            let pass = |dr: &mut [MaybeUninit<T>]| {
                parts.zip(dr.par_chunks_mut(task)).for_each(|((((dy, x), y), dx), dr)| {
                    input(dy, x, y, dx);
                    vectorised(|| {
                        let rows = dy.chunks_exact(c).zip(x.chunks_exact(c)).zip(y.chunks_exact(c));
                        for (((dy, x), y), dr) in rows.zip(dr.chunks_exact_mut(c)) {
                            let operands = dy.iter().zip(y).zip(x).zip(affine.clone());
                            for (dr, (((dy, y), x), (scale, shift))) in dr.iter_mut().zip(operands) {
                                dr.write(T::narrow(passed::<MASK>(dy.wide(), y.wide(), x.wide(), *scale, *shift)));
                            }
                        }
                    });
                });
            };
            // SAFETY: the chunks tile the buffer in whole rows, and every element of each is written.
            dresidual = Some(unsafe { buffer::filled(x.len(), pass) });
        } else {
            parts.for_each(|(((dy, x), y), dx)| input(dy, x, y, dx));
        }
    };
    // SAFETY: as above.
    let dx = unsafe { buffer::filled(x.len(), pass) };
    let dgamma = gamma_grad(&product, inv_std);
    Backward { dx, dgamma, dbeta: narrow(&sum), dresidual }
}
