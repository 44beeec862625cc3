//! Batch normalisation fused with the residual sum and the ReLU that follow it.
//!
//! Over all pixels of a batch, per channel: `y = act(gamma * (x - mean) * inv_std + beta + residual)`.
//! Sums over pixels are taken in `f32` within a strip of rows and in `f64` across strips; strips follow from the shape.

use std::{mem::MaybeUninit, ops::Range};

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::{
    Error, buffer,
    kernel::vectorised,
    view::{View, check_shape, slice},
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
    let shape = x.shape();
    let (x, gamma) = (View::new(op, "x", x)?, View::new(op, "gamma", gamma)?);
    let beta = View::new(op, "beta", beta)?;
    let residual = residual.map(|t| View::new(op, "residual", t)).transpose()?;

    let moments = moments(&x, c);
    let inv_std = moments.inv_std(eps);
    let affine = Affine::new(&gamma, &beta, &moments.mean, &inv_std);
    let y = affine.apply(&x, residual.as_deref(), relu);

    let vector = |v: Vec<f32>| Tensor::from_vec(v, c, &Device::Cpu);
    let stats = BatchStats {
        mean: vector(narrow(&moments.mean))?,
        var: vector(narrow(&moments.var))?,
        inv_std: vector(narrow(&inv_std))?,
    };
    Ok((Tensor::from_vec(y, shape, &Device::Cpu)?, stats))
}

/// The gradients of [`batch_norm_forward`], given its input `x`, its result `y` and its statistics.
///
/// The ReLU passed where `y > 0`. `has_residual` asks for the residual's gradient, which is `dy` behind that mask.
#[allow(clippy::too_many_arguments)] // the operands of the forward pass, and what it returned
pub fn batch_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    y: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    has_residual: bool,
    relu: bool,
) -> Result<BatchNormGrads> {
    let op = "batch_norm_backward";
    let c = channels(op, x)?;
    check_shape(op, "dy", dy, x.dims())?;
    check_shape(op, "y", y, x.dims())?;
    for (name, vector) in [("gamma", gamma), ("beta", beta), ("mean", &stats.mean), ("inv_std", &stats.inv_std)] {
        check_shape(op, name, vector, &[c])?;
    }
    let shape = x.shape();
    let (dy, x, y) = (View::new(op, "dy", dy)?, View::new(op, "x", x)?, View::new(op, "y", y)?);
    let gamma = View::new(op, "gamma", gamma)?;
    let mean = View::new(op, "mean", &stats.mean)?;
    let inv_std = View::new(op, "inv_std", &stats.inv_std)?;
    let grads =
        backward(&dy, &x, if relu { Mask::Result(&y) } else { Mask::All }, &gamma, &mean, &inv_std, has_residual);

    let vector = |v: Vec<f32>| Tensor::from_vec(v, c, &Device::Cpu);
    let tensor = |v: Vec<f32>| Tensor::from_vec(v, shape, &Device::Cpu);
    Ok(BatchNormGrads {
        dx: tensor(grads.dx)?,
        dgamma: vector(grads.dgamma)?,
        dbeta: vector(grads.dbeta)?,
        dresidual: grads.dresidual.map(tensor).transpose()?,
    })
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
    let affine = Affine::new(&gamma, &beta, &moments.mean, &moments.inv_std(eps));
    let y = affine.apply(&View::new(op, "x", x)?, None, relu);
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
        let affine = Affine::new(gamma, beta, &moments.mean, &moments.inv_std(self.eps));
        Ok((CpuStorage::F32(affine.apply(x, None, false)), lx.shape().clone()))
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
        let (xs, shape) = (View::new(op, "x", x)?, x.shape());
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

struct Moments {
    mean: Vec<f64>,
    var: Vec<f64>,
}

impl Moments {
    fn inv_std(&self, eps: f64) -> Vec<f64> {
        self.var.iter().map(|v| (v + eps).sqrt().recip()).collect()
    }
}

/// Mean and biased variance per channel. Values are taken relative to the first pixel, so that a mean far from zero does
/// not swallow the variance.
fn moments(x: &[f32], c: usize) -> Moments {
    let pixels = x.len() / c;
    let origin = &x[..c];
    let [sum, squares] = channel_sums(pixels, c, |range, sum, squares| {
        vectorised(|| {
            for row in x[range.start * c..range.end * c].chunks_exact(c) {
                let sums = sum.iter_mut().zip(squares.iter_mut());
                for ((x, origin), (sum, squares)) in row.iter().zip(origin).zip(sums) {
                    let d = x - origin;
                    *sum += d;
                    *squares += d * d;
                }
            }
        })
    });
    let n = pixels as f64;
    let shift = sum.iter().map(|s| s / n);
    Moments {
        mean: shift.clone().zip(origin).map(|(s, o)| s + f64::from(*o)).collect(),
        var: shift.zip(&squares).map(|(s, q)| (q / n - s * s).max(0.0)).collect(),
    }
}

/// `scale * x + shift`, per channel.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// About how many elements a parallel task of an element-wise pass gets: 256 KiB.
const TASK: usize = 64 << 10;

fn rows_per_task(c: usize) -> usize {
    (TASK / c).max(1) * c
}

impl Affine {
    fn new(gamma: &[f32], beta: &[f32], mean: &[f64], inv_std: &[f64]) -> Self {
        let scale: Vec<f64> = gamma.iter().zip(inv_std).map(|(g, s)| f64::from(*g) * s).collect();
        let shift = beta.iter().zip(mean).zip(&scale);
        Self { shift: shift.map(|((b, m), s)| (f64::from(*b) - m * s) as f32).collect(), scale: narrow(&scale) }
    }

    fn apply(&self, x: &[f32], residual: Option<&[f32]>, relu: bool) -> Vec<f32> {
        let c = self.scale.len();
        let task = rows_per_task(c);
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        let pass = |y: &mut [MaybeUninit<f32>]| {
            y.par_chunks_mut(task).enumerate().for_each(|(i, y)| {
                let x = &x[i * task..][..y.len()];
                let rows = y.chunks_exact_mut(c).zip(x.chunks_exact(c));
                let affine = self.scale.iter().zip(&self.shift);
                match residual {
                    None => vectorised(|| {
                        for (y, x) in rows {
                            for ((y, x), (scale, shift)) in y.iter_mut().zip(x).zip(affine.clone()) {
                                y.write(at_least(x * scale + shift, floor));
                            }
                        }
                    }),
                    Some(residual) => vectorised(|| {
                        let residual = residual[i * task..][..x.len()].chunks_exact(c);
                        for ((y, x), residual) in rows.zip(residual) {
                            let operands = x.iter().zip(residual).zip(affine.clone());
                            for (y, ((x, residual), (scale, shift))) in y.iter_mut().zip(operands) {
                                y.write(at_least(x * scale + shift + residual, floor));
                            }
                        }
                    }),
                }
            });
        };
        // SAFETY: the chunks tile `y`, whose length is a whole number of rows, and each branch writes every element.
        unsafe { buffer::filled(x.len(), pass) }
    }
}

/// The larger of the two; not a number stays so.
#[inline(always)]
fn at_least(v: f32, floor: f32) -> f32 {
    if v < floor { floor } else { v }
}

struct Backward {
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    dresidual: Option<Vec<f32>>,
}

/// Where the ReLU behind a batch norm let the gradient pass.
#[derive(Clone, Copy)]
enum Mask<'a> {
    /// There was none.
    All,
    /// Where its result is positive.
    Result(&'a [f32]),
}

/// `d`, where `MASKED` only if `y` is positive.
#[inline(always)]
fn passed<const MASKED: bool>(d: f32, y: f32) -> f32 {
    if MASKED && !(y > 0.0) { 0.0 } else { d }
}

fn backward(
    dy: &[f32],
    x: &[f32],
    mask: Mask,
    gamma: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    has_residual: bool,
) -> Backward {
    match mask {
        // `dy` serves as the mask's operand, and is not looked at.
        Mask::All => backward_masked::<false>(dy, x, dy, gamma, mean, inv_std, has_residual),
        Mask::Result(y) => backward_masked::<true>(dy, x, y, gamma, mean, inv_std, has_residual),
    }
}

fn backward_masked<const MASKED: bool>(
    dy: &[f32],
    x: &[f32],
    y: &[f32],
    gamma: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    has_residual: bool,
) -> Backward {
    let c = gamma.len();
    let pixels = x.len() / c;
    let [sum, product] = channel_sums(pixels, c, |range, sum, product| {
        vectorised(|| {
            let range = range.start * c..range.end * c;
            let rows = dy[range.clone()].chunks_exact(c).zip(x[range.clone()].chunks_exact(c));
            for ((dy, x), y) in rows.zip(y[range].chunks_exact(c)) {
                let sums = sum.iter_mut().zip(product.iter_mut());
                let operands = dy.iter().zip(y).zip(x.iter().zip(mean));
                for ((sum, product), ((dy, y), (x, mean))) in sums.zip(operands) {
                    let d = passed::<MASKED>(*dy, *y);
                    *sum += d;
                    *product += d * (x - mean);
                }
            }
        })
    });

    // dx = gamma inv_std (d - mean(d) - xhat mean(d xhat)) = a d + b x + e
    let n = pixels as f64;
    let mut coefficients = [vec![0f32; c], vec![0f32; c], vec![0f32; c]];
    for j in 0..c {
        let inv = f64::from(inv_std[j]);
        let a = f64::from(gamma[j]) * inv;
        let b = -a * inv * inv * product[j] / n;
        coefficients[0][j] = a as f32;
        coefficients[1][j] = b as f32;
        coefficients[2][j] = (-a * sum[j] / n - b * f64::from(mean[j])) as f32;
    }
    let task = rows_per_task(c);
    let mut dresidual = None;
    let pass = |dx: &mut [MaybeUninit<f32>]| {
        let parts = dy.par_chunks(task).zip(x.par_chunks(task)).zip(y.par_chunks(task));
        let parts = parts.zip(dx.par_chunks_mut(task));
        if has_residual {
            let pass = |dr: &mut [MaybeUninit<f32>]| {
                parts.zip(dr.par_chunks_mut(task)).for_each(|((((dy, x), y), dx), dr)| {
                    vectorised(|| {
                        dr.iter_mut().zip(dy.iter().zip(y)).for_each(|(dr, (dy, y))| {
                            dr.write(passed::<MASKED>(*dy, *y));
                        });
                        input_rows::<MASKED>(dy, x, y, &coefficients, dx);
                    });
                });
            };
            // SAFETY: the chunks tile the buffer, and every element of each is written.
            dresidual = Some(unsafe { buffer::filled(x.len(), pass) });
        } else {
            parts.for_each(|(((dy, x), y), dx)| {
                vectorised(|| input_rows::<MASKED>(dy, x, y, &coefficients, dx));
            });
        }
    };
    // SAFETY: the chunks tile the buffer in whole rows, and `input_rows` writes every element of its rows.
    let dx = unsafe { buffer::filled(x.len(), pass) };
    let dgamma = product.iter().zip(inv_std).map(|(p, s)| (p * f64::from(*s)) as f32).collect();
    Backward { dx, dgamma, dbeta: narrow(&sum), dresidual }
}

/// `dx = a d + b x + e` for whole rows of pixels.
#[inline(always)]
fn input_rows<const MASKED: bool>(
    dy: &[f32],
    x: &[f32],
    y: &[f32],
    [a, b, e]: &[Vec<f32>; 3],
    dx: &mut [MaybeUninit<f32>],
) {
    let c = a.len();
    let rows = dy.chunks_exact(c).zip(x.chunks_exact(c)).zip(y.chunks_exact(c));
    for (((dy, x), y), dx) in rows.zip(dx.chunks_exact_mut(c)) {
        let operands = dy.iter().zip(y).zip(x).zip(a.iter().zip(b).zip(e));
        for (dx, (((dy, y), x), ((a, b), e))) in dx.iter_mut().zip(operands) {
            dx.write(a * passed::<MASKED>(*dy, *y) + (b * x + e));
        }
    }
}
