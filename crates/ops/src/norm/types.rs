//! The statistics, parameters and gradients of a batch norm.

use candle_core::{DType, Device, Result, Tensor};

use crate::{kernel::moments::Moments, view::check_vectors};

/// The statistics of a batch, one value per channel, each `[C]`.
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
        let vector = |values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            Tensor::from_vec(values, moments.mean.len(), &Device::Cpu)
        };
        let inv_std = vector(&moments.inv_std(eps))?;
        Ok(Self { mean: vector(&moments.mean)?, var: vector(&moments.var)?, inv_std })
    }

    /// The statistics of a batch norm in evaluation, from its running ones, `mean` and `var` `[C]`.
    pub fn running(mean: &Tensor, var: &Tensor, eps: f64) -> Result<Self> {
        let inv_std = (var + eps)?.sqrt()?.recip()?;
        Ok(Self { mean: mean.clone(), var: var.clone(), inv_std })
    }

    /// Zeros for `channels` channels, to be written to later.
    pub fn zeros(channels: usize, device: &Device) -> Result<Self> {
        let [mean, var, inv_std] = [(); 3].map(|()| Tensor::zeros(channels, DType::F32, device));
        Ok(Self { mean: mean?, var: var?, inv_std: inv_std? })
    }

    /// The statistics of `len` channels from `start` on, in the same memory.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let part = |of: &Tensor| of.narrow(0, start, len);
        Ok(Self { mean: part(&self.mean)?, var: part(&self.var)?, inv_std: part(&self.inv_std)? })
    }

    /// Copies the statistics to `into`, if given, and returns that.
    pub(crate) fn put(self, op: &'static str, into: Option<&BatchStats>) -> Result<Self> {
        let Some(into) = into else { return Ok(self) };
        into.check(op, self.mean.elem_count())?;
        for (into, from) in [(&into.mean, &self.mean), (&into.var, &self.var), (&into.inv_std, &self.inv_std)] {
            into.slice_set(from, 0, 0)?;
        }
        Ok(into.clone())
    }

    /// Fails for another number of channels.
    pub(crate) fn check(&self, op: &'static str, channels: usize) -> Result<()> {
        check_vectors(op, channels, &[("mean", &self.mean), ("var", &self.var), ("inv_std", &self.inv_std)])
    }
}

/// A batch norm in training: its parameters, and the running statistics that a step updates. Vectors are `[C]`.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// The scale.
    pub gamma: &'a Tensor,
    /// The shift.
    pub beta: &'a Tensor,
    /// The running mean, updated in place.
    pub mean: &'a Tensor,
    /// The running variance, unbiased, updated in place.
    pub var: &'a Tensor,
    /// The weight of the batch's statistics in the running ones (PyTorch's `momentum`), 0 to 1.
    pub momentum: f64,
    /// Added to the variance before the square root.
    pub eps: f64,
}

/// The gradients of [`batch_norm_forward`](crate::batch_norm_forward).
#[derive(Clone, Debug)]
pub struct BatchNormGrads {
    /// With respect to `x`, same shape.
    pub dx: Tensor,
    /// With respect to `gamma`, `[C]`.
    pub dgamma: Tensor,
    /// With respect to `beta`, `[C]`.
    pub dbeta: Tensor,
    /// With respect to `residual`, if it was asked for.
    pub dresidual: Option<Tensor>,
}

/// The rest of a batch of which only a part is here: what the backward pass of a batch norm needs of other processes.
pub trait Whole {
    /// Replaces sums over the pixels here by those over the whole batch; for a CPU.
    fn sum(&self, sums: &mut [f64]);

    /// The sums over the pixels of each part, `[parts, sums]`, from those over the pixels here, `f64`; for CUDA. A part that
    /// [counts](Whole::counts) nothing has sums of 0.
    ///
    /// # Errors
    ///
    /// The device or the link to the other processes fails.
    fn gather(&self, sums: &Tensor) -> Result<Tensor>;

    /// Whether any pixel here counts.
    fn counts(&self) -> bool;

    /// The pixels of the whole batch, where so many of them are here.
    fn pixels(&self, here: usize) -> usize;
}
