//! Convolution and batch norm with hand-written gradients: the layers of every trunk.
//!
//! There is no graph. A forward pass returns what its backward pass needs ([`Saved`]), the backward pass consumes it, so
//! an activation lives exactly until its last use. The output of a batch norm is never stored: it is an [`Activation`],
//! which every reader normalises again.

use candle_core::{DType, Tensor};
use ops::{Affine, BatchStats, Input, Weights, Whole};

use crate::error::Result;
use crate::layers::activation::Activation;
use crate::layers::gradients::Gradients;
use crate::layers::params::{ParamId, Params};

/// Added to the variance under the root (PyTorch's `BatchNorm2d`).
pub(crate) const EPS: f64 = 1e-5;

/// Weight of the newest batch in a running statistic (PyTorch's `BatchNorm2d`).
const BN_MOMENTUM: f64 = 0.1;

/// A square convolution without bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub(crate) weight: ParamId,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Conv {
    fn over(&self, params: &Params) -> ops::Conv {
        ops::Conv::new(self.stride, self.padding).with_tf32(params.tf32())
    }

    /// `x [N, H, W, C]` to `[N, H', W', C']`.
    pub(crate) fn forward(&self, params: &Params, x: &Activation) -> Result<Tensor> {
        let weight = params.weights(self.weight);
        Ok(ops::conv2d_forward(x.input(), weight, self.over(params))?)
    }

    /// Its weights for evaluation in `dtype`.
    pub(crate) fn fold(&self, params: &Params, dtype: DType) -> Result<Weights> {
        Ok(Weights::new(params.get(self.weight), self.over(params), dtype)?)
    }

    /// As [`Conv::forward`]; the result's statistics go to `into`.
    pub(crate) fn forward_stats(&self, params: &Params, x: &Activation, into: &BatchStats) -> Result<Tensor> {
        let weight = params.weights(self.weight);
        let (y, _) = ops::conv2d_stats(x.input(), weight, self.over(params), EPS, Some(into))?;
        complete(params, into)?;
        Ok(y)
    }

    /// Puts the weight's gradient; `x` is the forward pass's input.
    pub(crate) fn backward_weight(
        &self,
        params: &Params,
        x: &Activation,
        dy: &Tensor,
        grads: &mut Gradients,
    ) -> Result<()> {
        let kernel = (self.kernel, self.kernel);
        let grad = ops::conv2d_weight_grad(x.input(), dy, self.over(params), kernel)?;
        grads.put(self.weight, grad)?;
        Ok(())
    }

    /// The gradient with respect to the input, which was `[N, height, width, C]`, plus that by another path.
    pub(crate) fn backward_input(
        &self,
        params: &Params,
        dy: &Tensor,
        (_, height, width, _): (usize, usize, usize, usize),
        plus: Option<Tensor>,
    ) -> Result<Tensor> {
        let weight = params.weights(self.weight);
        let side = (height, width);
        Ok(ops::conv2d_input_grad(dy, weight, self.over(params), side, plus)?)
    }
}

/// Makes the statistics of what is here of a batch those of the whole batch, where ranks share it.
pub(crate) fn complete(params: &Params, stats: &BatchStats) -> Result<()> {
    params.norm_share().map_or(Ok(()), |share| share.complete(stats, EPS))
}

/// The rest of the batch, for a batch norm's backward pass.
fn whole(params: &Params) -> Option<&dyn Whole> {
    params.norm_share().map(|share| share as &dyn Whole)
}

/// A batch norm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    pub(crate) gamma: ParamId,
    pub(crate) beta: ParamId,
    pub(crate) mean: ParamId,
    pub(crate) var: ParamId,
}

/// What a batch norm's backward pass needs.
#[derive(Debug)]
pub(crate) struct NormSaved {
    x: Tensor,
    stats: BatchStats,
}

/// What follows a batch norm.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AfterNorm<'a> {
    Nothing,
    Relu,
    /// The sum with a block's shortcut, then a ReLU; its result.
    Join(&'a Tensor),
}

impl Norm {
    /// With its running statistics, to be moved.
    fn training<'a>(&self, params: &'a Params) -> ops::BatchNorm<'a> {
        let [gamma, beta, mean, var] = [self.gamma, self.beta, self.mean, self.var].map(|id| params.get(id));
        ops::BatchNorm { gamma, beta, mean, var, momentum: BN_MOMENTUM, eps: EPS }
    }

    /// `x` with the norm by the batch's `stats`, which its readers apply; moves the running statistics.
    pub(crate) fn forward(
        &self,
        params: &Params,
        x: Tensor,
        stats: BatchStats,
        relu: bool,
    ) -> Result<(Activation, NormSaved)> {
        let here = x.elem_count() / stats.mean.elem_count();
        let count = whole(params).map_or(here, |whole| whole.pixels(here));
        let norm = stats.train(&self.training(params), count, relu)?;
        Ok((Activation { x: x.clone(), norm: Some(norm) }, NormSaved { x, stats }))
    }

    /// The gradients with respect to the input and, at a join, the shortcut; puts those of gamma and beta.
    pub(crate) fn backward(
        &self,
        params: &Params,
        saved: NormSaved,
        after: AfterNorm,
        dy: &Tensor,
        grads: &mut Gradients,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (relu, y) = match after {
            AfterNorm::Nothing => (false, None),
            AfterNorm::Relu => (true, None),
            AfterNorm::Join(y) => (true, Some(y)),
        };
        let (gamma, beta) = (params.get(self.gamma), params.get(self.beta));
        let (stats, has_residual) = (&saved.stats, y.is_some());
        let got = ops::batch_norm_backward(dy, &saved.x, y, gamma, beta, stats, has_residual, relu, whole(params))?;
        grads.put(self.gamma, got.dgamma)?;
        grads.put(self.beta, got.dbeta)?;
        Ok((got.dx, got.dresidual))
    }

    /// As [`Norm::backward`] with a ReLU after it; the gradient with respect to the input is added to `into`.
    pub(crate) fn backward_add(
        &self,
        params: &Params,
        saved: &NormSaved,
        dy: &Tensor,
        into: &Tensor,
        grads: &mut Gradients,
    ) -> Result<()> {
        let (gamma, beta) = (params.get(self.gamma), params.get(self.beta));
        let stats = &saved.stats;
        let (dgamma, dbeta) = ops::batch_norm_backward_add(dy, &saved.x, gamma, beta, stats, into, whole(params))?;
        grads.put(self.gamma, dgamma)?;
        grads.put(self.beta, dbeta)?;
        Ok(())
    }

    /// The norm by the running statistics, and a ReLU.
    pub(crate) fn running(&self, params: &Params) -> Result<Affine> {
        let [gamma, beta, mean, var] = [self.gamma, self.beta, self.mean, self.var].map(|id| params.get(id));
        Ok(BatchStats::running(mean, var, EPS)?.affine(gamma, beta, true)?)
    }
}

/// A convolution, its batch norm, an optional residual, an optional ReLU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvNorm {
    pub(crate) conv: Conv,
    pub(crate) norm: Norm,
    pub(crate) relu: bool,
}

/// What a [`ConvNorm`]'s backward pass needs.
#[derive(Debug)]
pub(crate) struct Saved {
    input: Activation,
    norm: NormSaved,
}

impl ConvNorm {
    /// `norm(conv(x))`, with ReLU if `relu`; a ReLU after a join belongs to the join.
    pub(crate) fn forward(&self, params: &Params, x: Activation, relu: bool) -> Result<(Activation, Saved)> {
        let (x, norm) = (x.read()?, self.norm.training(params));
        let weight = params.weights(self.conv.weight);
        let over = self.conv.over(params);
        if params.norm_share().is_some() {
            let (z, stats) = ops::conv2d_stats(x.input(), weight, over, EPS, None)?;
            complete(params, &stats)?;
            let (y, norm) = self.norm.forward(params, z, stats, relu)?;
            return Ok((y, Saved { input: x, norm }));
        }
        let (z, stats, affine) = ops::conv2d_norm(x.input(), weight, over, &norm, relu)?;
        let y = Activation { x: z.clone(), norm: Some(affine) };
        Ok((y, Saved { input: x, norm: NormSaved { x: z, stats } }))
    }

    /// The gradients with respect to the norm's input and, at a join, the shortcut.
    pub(crate) fn backward_norm(
        &self,
        params: &Params,
        saved: Saved,
        after: AfterNorm,
        dy: &Tensor,
        grads: &mut Gradients,
    ) -> Result<(Unnormed, Option<Tensor>)> {
        let (dz, dshortcut) = self.norm.backward(params, saved.norm, after, dy, grads)?;
        Ok((Unnormed { input: saved.input, dz }, dshortcut))
    }

    /// The gradient with respect to the input, plus that by another path.
    pub(crate) fn backward_conv(
        &self,
        params: &Params,
        unnormed: Unnormed,
        plus: Option<Tensor>,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let Unnormed { input, dz } = unnormed;
        self.conv.backward_weight(params, &input, &dz, grads)?;
        let shape = input.x.dims4()?;
        drop(input);
        self.conv.backward_input(params, &dz, shape, plus)
    }

    /// [`ConvNorm::backward_norm`], then [`ConvNorm::backward_conv`], where nothing but a ReLU may follow.
    pub(crate) fn backward(
        &self,
        params: &Params,
        saved: Saved,
        dy: &Tensor,
        plus: Option<Tensor>,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let after = if self.relu { AfterNorm::Relu } else { AfterNorm::Nothing };
        let (unnormed, _) = self.backward_norm(params, saved, after, dy, grads)?;
        self.backward_conv(params, unnormed, plus, grads)
    }

    /// As [`ConvNorm::backward`] for the first layer, whose input is the image.
    pub(crate) fn backward_first(
        &self,
        params: &Params,
        saved: Saved,
        dy: &Tensor,
        grads: &mut Gradients,
    ) -> Result<()> {
        let (unnormed, _) = self.backward_norm(params, saved, AfterNorm::Relu, dy, grads)?;
        self.conv.backward_weight(params, &unnormed.input, &unnormed.dz, grads)
    }

    /// The convolution that does the same with the running statistics, for evaluation in `dtype`.
    pub(crate) fn fold(&self, params: &Params, dtype: DType) -> Result<Folded> {
        let weight = params.get(self.conv.weight);
        let [gamma, beta, mean, var] =
            [self.norm.gamma, self.norm.beta, self.norm.mean, self.norm.var].map(|id| params.get(id));
        let scale = (gamma / (var + EPS)?.sqrt()?)?;
        let bias = (beta - (mean * &scale)?)?;
        let weight = weight.broadcast_mul(&scale.reshape(((), 1, 1, 1))?)?;
        Ok(Folded { weights: Weights::new(&weight, self.conv.over(params), dtype)?, bias, relu: self.relu })
    }
}

/// A [`ConvNorm`]'s backward pass between its norm and its convolution.
#[derive(Debug)]
pub(crate) struct Unnormed {
    input: Activation,
    /// The gradient with respect to what the convolution gave.
    dz: Tensor,
}

/// A [`ConvNorm`] for evaluation.
#[derive(Debug)]
pub(crate) struct Folded {
    weights: Weights,
    bias: Tensor,
    relu: bool,
}

impl Folded {
    pub(crate) fn forward<'a>(&self, x: impl Into<Input<'a>>, residual: Option<&Tensor>) -> Result<Tensor> {
        Ok(ops::conv2d_bias_act(x, &self.weights, Some(&self.bias), residual, self.relu)?)
    }
}
