//! The backward pass of a batch norm.

use std::{marker::PhantomData, mem::MaybeUninit};

use candle_core::{CpuStorage, Device, InplaceOp3, Layout, Result, Tensor};
use rayon::prelude::*;

use super::{
    sums::{channel_sums, channels, narrow, scale_shift},
    types::{BatchNormGrads, BatchStats, Whole},
};
use crate::{
    buffer,
    error::Error,
    kernel::{
        Element, past_caches,
        rows::{Mask, Masked, TASK, rows_per_task},
    },
    trace,
    view::{Stored, View, check_shape, check_vectors, on_cuda, pixels, pixels_mut, slice, stored},
};

/// The gradients of [`batch_norm_forward`](crate::batch_norm_forward), given its input `x`, its result `y` and its statistics.
///
/// The ReLU passes the gradient where `y > 0`. Without a residual, `y` may be `None`: it is then computed again.
/// `has_residual` asks for the residual's gradient, which is the masked `dy`. With `whole`, `x` is a part of the batch that
/// the statistics are of; the gradients of gamma and beta are then those of the part.
///
/// # Errors
///
/// Shapes differ; there is a ReLU after a residual, but no `y`; what [`Whole`] says.
#[allow(clippy::too_many_arguments)] // the operands and results of the forward pass
pub fn batch_norm_backward(
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
    stored!(x, backward_of(dy, x, y, gamma, beta, stats, has_residual, relu, whole))
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
    whole: Option<&dyn Whole>,
) -> Result<BatchNormGrads> {
    let op = "batch_norm_backward";
    let c = channels(op, x)?;
    check_shape(op, "dy", dy, x.dims())?;
    if let Some(y) = y {
        check_shape(op, "y", y, x.dims())?;
    } else if relu && has_residual {
        let expected = "the result of the ReLU after the residual".into();
        return Err(Error::Parameter { op, name: "y", expected, got: "None".into() }.into());
    }
    let vectors = [("gamma", gamma), ("beta", beta), ("mean", &stats.mean), ("inv_std", &stats.inv_std)];
    check_vectors(op, c, &vectors)?;
    // Each operand is read twice: for the sums, and for the gradient.
    let _span = match (y, has_residual) {
        (Some(y), true) => trace::pass(op, &[x, x, dy, dy, y, y, x, x]),
        (Some(y), false) => trace::pass(op, &[x, x, dy, dy, y, y, x]),
        (None, _) => trace::pass(op, &[x, x, dy, dy, x]),
    };
    on_cuda!(x, crate::cuda::backward::<T>(op, dy, x, y, gamma, beta, stats, has_residual, relu, whole));
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
        None => Mask::Recomputed { scale: &scale, shift: &shift },
    };
    let masked = Masked { dy: &dy, mask, x: &x, pitch: c };
    let grads = backward(&masked, &gamma, &mean, &inv_std, has_residual, whole);

    let vector = |v: Vec<f32>| Tensor::from_vec(v, c, &Device::Cpu);
    let tensor = |v: Vec<T>| Tensor::from_vec(v, shape, &Device::Cpu);
    Ok(BatchNormGrads {
        dx: tensor(grads.dx)?,
        dgamma: vector(grads.dgamma)?,
        dbeta: vector(grads.dbeta)?,
        dresidual: grads.dresidual.map(tensor).transpose()?,
    })
}

/// As [`batch_norm_backward`] for a norm with a ReLU and no residual, but the gradient with respect to `x` is added, in
/// place, to `into`, which holds the gradient of the same tensor by other paths. Returns the gradients of gamma and beta.
///
/// # Shapes
///
/// `dy` `[..., C]`, contiguous; `x` and `into` the same, or a part of the channels of wider tensors.
///
/// # Errors
///
/// Shapes differ; `into` shares its storage with another operand.
pub fn batch_norm_backward_add(
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    into: &Tensor,
    whole: Option<&dyn Whole>,
) -> Result<(Tensor, Tensor)> {
    stored!(x, backward_add_of(dy, x, gamma, beta, stats, into, whole))
}

fn backward_add_of<T: Stored>(
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: &BatchStats,
    into: &Tensor,
    whole: Option<&dyn Whole>,
) -> Result<(Tensor, Tensor)> {
    let op = "batch_norm_backward_add";
    let c = channels(op, x)?;
    check_shape(op, "dy", dy, x.dims())?;
    check_shape(op, "into", into, x.dims())?;
    let vectors = [("gamma", gamma), ("beta", beta), ("mean", &stats.mean), ("inv_std", &stats.inv_std)];
    check_vectors(op, c, &vectors)?;
    let _span = trace::pass(op, &[x, x, dy, dy, into, into]);
    on_cuda!(x, crate::cuda::backward_add::<T>(op, dy, x, gamma, beta, stats, into, whole));
    let (gamma, beta) = (View::new(op, "gamma", gamma)?, View::new(op, "beta", beta)?);
    let (mean, inv_std) = (View::new(op, "mean", &stats.mean)?, View::new(op, "inv_std", &stats.inv_std)?);
    let (scale, shift) = scale_shift(&gamma, &beta, &mean, &inv_std);
    let ([sum, product], coefficients) = {
        let (dy, x) = (View::<T>::new(op, "dy", dy)?, View::pixels(op, "x", x)?);
        let mask = Mask::Recomputed { scale: &scale, shift: &shift };
        let masked = Masked { dy: &dy, mask, x: &x, pitch: x.pitch() };
        let sums = gradient_sums(&masked, &mean);
        let coefficients = coefficients(dy.len() / c, &gamma, &mean, &inv_std, &sums, whole);
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
        let mask = Mask::Recomputed { scale: &self.scale, shift: &self.shift };
        let masked = Masked { dy, mask, x, pitch: x_pitch };
        let (pixels, rows) = (dy.len() / c, (TASK / c).max(1));
        into.par_chunks_mut(rows * pitch).enumerate().for_each(|(task, into)| {
            let range = task * rows..((task + 1) * rows).min(pixels);
            masked.pixels(range, c).add_gradient([a, b, e], into, pitch);
        });
        Ok(())
    }
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

/// Per channel, `a`, `b`, `e` of `dx = gamma inv_std (d - mean(d) - xhat mean(d xhat)) = a d + b x + e`, where the means
/// are those of the whole batch.
fn coefficients(
    pixels: usize,
    gamma: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    sums: &[Vec<f64>; 2],
    whole: Option<&dyn Whole>,
) -> [Vec<f32>; 3] {
    let c = gamma.len();
    let mut sums = sums.concat();
    let n = match whole {
        Some(whole) => {
            whole.sum(&mut sums);
            whole.pixels(pixels) as f64
        }
        None => pixels as f64,
    };
    let (sum, product) = sums.split_at(c);
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
    whole: Option<&dyn Whole>,
) -> Backward<T> {
    let (c, len) = (gamma.len(), masked.dy.len());
    let sums = gradient_sums(masked, mean);
    let [a, b, e] = &coefficients(len / c, gamma, mean, inv_std, &sums, whole);
    let (task, past_caches) = (rows_per_task(c), past_caches::<T>(len));
    let part = |index: usize, len: usize| masked.pixels(index * task / c..(index * task + len) / c, c);
    let mut dresidual = None;
    let pass = |dx: &mut [MaybeUninit<T>]| {
        let parts = dx.par_chunks_mut(task).enumerate();
        if has_residual {
            let pass = |d: &mut [MaybeUninit<T>]| {
                parts.zip(d.par_chunks_mut(task)).for_each(|((index, dx), d)| {
                    part(index, dx.len()).gradient([a, b, e], dx, Some(d), past_caches);
                });
            };
            // SAFETY: the chunks tile the buffer in whole rows, and `gradient` writes every element of each.
            dresidual = Some(unsafe { buffer::filled(len, pass) });
        } else {
            parts.for_each(|(index, dx)| part(index, dx.len()).gradient([a, b, e], dx, None, past_caches));
        }
    };
    // SAFETY: as above.
    let dx = unsafe { buffer::filled(len, pass) };
    let [sum, product] = &sums;
    Backward { dx, dgamma: gamma_grad(product, inv_std), dbeta: narrow(sum), dresidual }
}
