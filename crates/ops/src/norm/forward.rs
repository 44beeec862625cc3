//! The forward pass of a batch norm, and its statistics.

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;

use super::{
    sums::{channels, moments, scale_shift},
    types::{BatchNorm, BatchStats},
};
use crate::{
    inplace::Each2,
    input::{Affine, Input, InputView},
    kernel::rows,
    trace,
    view::{Stored, View, check_shape, check_vectors, on_cuda, stored},
};

impl BatchStats {
    /// The batch norm with these statistics, followed by a ReLU if `relu`.
    ///
    /// # Shapes
    ///
    /// `gamma`, `beta` `[C]`.
    pub fn affine(&self, gamma: &Tensor, beta: &Tensor, relu: bool) -> Result<Affine> {
        self.affine_for("affine", gamma, beta, relu)
    }

    fn affine_for(&self, op: &'static str, gamma: &Tensor, beta: &Tensor, relu: bool) -> Result<Affine> {
        let c = self.mean.elem_count();
        let vectors = [("gamma", gamma), ("beta", beta), ("mean", &self.mean), ("inv_std", &self.inv_std)];
        check_vectors(op, c, &vectors)?;
        on_cuda!(gamma, crate::cuda::prepare(op, self, gamma, beta, relu, None));
        let (gamma, beta) = (View::new(op, "gamma", gamma)?, View::new(op, "beta", beta)?);
        let (mean, inv_std) = (View::new(op, "mean", &self.mean)?, View::new(op, "inv_std", &self.inv_std)?);
        let (scale, shift) = scale_shift(&gamma, &beta, &mean, &inv_std);
        let vector = |values: Vec<f32>| Tensor::from_vec(values, c, &Device::Cpu);
        Ok(Affine { scale: vector(scale)?, shift: vector(shift)?, relu })
    }

    /// As [`BatchStats::affine`], for statistics over `count` pixels; updates the norm's running statistics in place.
    pub fn train(&self, norm: &BatchNorm, count: usize, relu: bool) -> Result<Affine> {
        let op = "batch_norm";
        let c = self.mean.elem_count();
        check_vectors(op, c, &[("running mean", norm.mean), ("running variance", norm.var)])?;
        on_cuda!(self.mean, {
            check_vectors(op, c, &[("gamma", norm.gamma), ("beta", norm.beta)])?;
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

/// The factor that makes a variance over `count` pixels unbiased.
fn unbiased(count: usize) -> f64 {
    count as f64 / (count as f64 - 1.0).max(1.0)
}

#[cfg(feature = "cuda")]
fn running<'a>(norm: &BatchNorm<'a>, count: usize) -> crate::cuda::RunningStats<'a> {
    let (momentum, unbiased) = (norm.momentum as f32, unbiased(count) as f32);
    crate::cuda::RunningStats { mean: norm.mean, var: norm.var, momentum, unbiased }
}

/// The statistics of `x [..., C]`, and the norm with them.
#[cfg(feature = "cuda")]
pub(crate) fn stats_on_cuda<T: Stored>(
    op: &'static str,
    x: &Tensor,
    norm: &BatchNorm,
    relu: bool,
) -> Result<(BatchStats, Affine)> {
    let c = channels(op, x)?;
    let running_stats = [("running mean", norm.mean), ("running variance", norm.var)];
    check_vectors(op, c, &[("gamma", norm.gamma), ("beta", norm.beta)])?;
    check_vectors(op, c, &running_stats)?;
    let _span = trace::pass("batch_stats", &[x]);
    let of = (norm.gamma, norm.beta, Some(running(norm, x.elem_count() / c)), relu);
    match crate::cuda::stats::<T>(op, x, c, norm.eps, None, Some(of))? {
        (stats, Some(affine)) => Ok((stats, affine)),
        (stats, None) => stats.affine(norm.gamma, norm.beta, relu).map(|affine| (stats, affine)),
    }
}

/// Normalises `x` by its own statistics, scales, shifts, adds `residual` and applies a ReLU if `relu`, in two passes.
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
    check_vectors(op, c, &[("gamma", gamma), ("beta", beta)])?;
    if let Some(residual) = residual {
        check_shape(op, "residual", residual, x.dims())?;
    }
    let stats = batch_stats(x, eps, None)?;
    let affine = stats.affine_for(op, gamma, beta, false)?;
    let (input, residual) = (Input { x, affine: Some(&affine) }, residual.map(Input::from));
    Ok((stored!(x, sum_of(op, input, residual, relu))?, stats))
}

/// The statistics of `x [..., C]`, for a norm with this `eps`; `x` must have at least one pixel. They are written to `into`,
/// if given.
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

/// `x + residual`, each normalised while it is loaded, followed by a ReLU if `relu`: the end of a residual block.
///
/// # Shapes
///
/// `x`, `residual` and the result `[..., C]`, contiguous.
pub fn normalised_sum<'a>(x: impl Into<Input<'a>>, residual: Option<Input>, relu: bool) -> Result<Tensor> {
    // Not generic, so that the kernels are compiled here and not by every user.
    fn stored(x: Input, residual: Option<Input>, relu: bool) -> Result<Tensor> {
        stored!(x.x, sum_of("normalised_sum", x, residual, relu))
    }
    stored(x.into(), residual, relu)
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
    let y = rows::sum(channels, x.source(), residual.as_ref().map(InputView::source), relu);
    Tensor::from_vec(y, shape, &Device::Cpu)
}
