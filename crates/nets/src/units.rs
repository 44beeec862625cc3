//! Convolution and batch norm with hand-written gradients: the pieces of every trunk.
//!
//! There is no graph. A forward pass returns what its backward pass needs ([`Saved`]), the backward pass consumes it, so
//! an activation lives exactly until its last use. What a batch norm gives is never stored: it is an [`Act`], computed
//! again by everything that reads it.

use candle_core::{DType, Tensor};
use ops::{Affine, BatchStats, Input, Weights};

use crate::Result;
use crate::params::{Id, Params};

/// Added to the variance under the root (PyTorch's `BatchNorm2d`).
pub(crate) const EPS: f64 = 1e-5;

/// Weight of the newest batch in a running statistic (PyTorch's `BatchNorm2d`).
const RUNNING: f64 = 0.1;

/// Gradients under construction, by parameter.
#[derive(Debug)]
pub(crate) struct Collect(Vec<(Id, Tensor)>);

impl Collect {
    pub(crate) fn new() -> Self {
        Collect(Vec::new())
    }

    pub(crate) fn put(&mut self, id: Id, grad: Tensor) {
        self.0.push((id, grad));
    }

    /// The gradients in the order of [`Params::trained`]; every parameter must have got one.
    pub(crate) fn finish(mut self, params: &Params) -> Vec<Tensor> {
        params
            .trained()
            .map(|(id, name, _)| {
                let at = self.0.iter().position(|(other, _)| *other == id);
                let at = at.unwrap_or_else(|| panic!("{name} has no gradient")); // a trunk that forgot a unit
                self.0.swap_remove(at).1
            })
            .collect()
    }
}

/// What flows from unit to unit: a tensor, and the batch norm that whoever reads it applies on the way in.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    pub(crate) x: Tensor,
    pub(crate) norm: Option<Affine>,
}

impl Act {
    /// A tensor that is read as it is.
    pub(crate) fn plain(x: Tensor) -> Act {
        Act { x, norm: None }
    }

    /// As a convolution in training reads it: cuDNN cannot normalise on the way in, so on CUDA what is read is stored.
    pub(crate) fn read(self) -> Result<Act> {
        Ok(if self.x.device().is_cuda() { Act::plain(ops::normalised_sum(self.input(), None, false)?) } else { self })
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input { x: &self.x, affine: self.norm.as_ref() }
    }
}

/// A part of the channels as a convolution in the backward pass reads it: cuDNN wants it without gaps.
pub(crate) fn dense(x: Tensor) -> Result<Tensor> {
    Ok(Act::plain(x).read()?.x)
}

/// A square convolution without bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub(crate) weight: Id,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Conv {
    fn over(&self, params: &Params) -> ops::Conv {
        ops::Conv::new(self.stride, self.padding).with_tf32(params.tf32())
    }

    /// `x [N, H, W, C]` to `[N, H', W', C']`.
    pub(crate) fn forward(&self, params: &Params, x: &Act) -> Result<Tensor> {
        let weight = params.weights(self.weight);
        Ok(ops::conv2d_forward(x.input(), weight, self.over(params))?)
    }

    /// Its weights for evaluation in `dtype`.
    pub(crate) fn fold(&self, params: &Params, dtype: DType) -> Result<Weights> {
        Ok(Weights::new(&params.get(self.weight).to_dtype(dtype)?, self.over(params))?)
    }

    /// As [`Conv::forward`]; the result's statistics go to `into`.
    pub(crate) fn forward_stats(&self, params: &Params, x: &Act, into: &BatchStats) -> Result<Tensor> {
        let weight = params.weights(self.weight);
        Ok(ops::conv2d_stats(x.input(), weight, self.over(params), EPS, Some(into))?.0)
    }

    /// Puts the weight's gradient; `x` is the forward pass's input.
    pub(crate) fn backward_weight(&self, params: &Params, x: &Act, dy: &Tensor, grads: &mut Collect) -> Result<()> {
        let kernel = (self.kernel, self.kernel);
        let grad = ops::conv2d_weight_grad(x.input(), dy, self.over(params), kernel)?;
        grads.put(self.weight, grad);
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

/// A batch norm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    pub(crate) gamma: Id,
    pub(crate) beta: Id,
    pub(crate) mean: Id,
    pub(crate) var: Id,
}

/// What a batch norm's backward pass needs.
#[derive(Debug)]
pub(crate) struct NormSaved {
    x: Tensor,
    stats: BatchStats,
}

/// What stands behind a batch norm.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behind<'a> {
    Nothing,
    Relu,
    /// The sum with a block's shortcut, then a ReLU; its result.
    Join(&'a Tensor),
}

impl Norm {
    /// With its running statistics, to be moved.
    fn training<'a>(&self, params: &'a Params) -> ops::BatchNorm<'a> {
        let [gamma, beta, mean, var] = [self.gamma, self.beta, self.mean, self.var].map(|id| params.get(id));
        ops::BatchNorm { gamma, beta, mean, var, momentum: RUNNING, eps: EPS }
    }

    /// The norm of `x` by the batch's `stats`, to be applied by whoever reads `x`; moves the running statistics.
    pub(crate) fn forward(
        &self,
        params: &Params,
        x: Tensor,
        stats: BatchStats,
        relu: bool,
    ) -> Result<(Act, NormSaved)> {
        let count = x.elem_count() / stats.mean.elem_count();
        let norm = stats.train(&self.training(params), count, relu)?;
        Ok((Act { x: x.clone(), norm: Some(norm) }, NormSaved { x, stats }))
    }

    /// The gradients with respect to the input and, at a join, the shortcut; puts those of gamma and beta.
    pub(crate) fn backward(
        &self,
        params: &Params,
        saved: NormSaved,
        behind: Behind,
        dy: &Tensor,
        grads: &mut Collect,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (relu, y) = match behind {
            Behind::Nothing => (false, None),
            Behind::Relu => (true, None),
            Behind::Join(y) => (true, Some(y)),
        };
        let (gamma, beta) = (params.get(self.gamma), params.get(self.beta));
        let got = ops::batch_norm_backward(dy, &saved.x, y, gamma, beta, &saved.stats, y.is_some(), relu)?;
        grads.put(self.gamma, got.dgamma);
        grads.put(self.beta, got.dbeta);
        Ok((got.dx, got.dresidual))
    }

    /// As [`Norm::backward`] with a ReLU behind it; the gradient with respect to the input is added to `into`.
    pub(crate) fn backward_add(
        &self,
        params: &Params,
        saved: &NormSaved,
        dy: &Tensor,
        into: &Tensor,
        grads: &mut Collect,
    ) -> Result<()> {
        let (gamma, beta) = (params.get(self.gamma), params.get(self.beta));
        let (dgamma, dbeta) = ops::batch_norm_backward_add(dy, &saved.x, gamma, beta, &saved.stats, into)?;
        grads.put(self.gamma, dgamma);
        grads.put(self.beta, dbeta);
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
    input: Act,
    norm: NormSaved,
}

impl ConvNorm {
    /// `norm(conv(x))`, with ReLU if `relu`; a ReLU behind a join is for the join.
    pub(crate) fn forward(&self, params: &Params, x: Act, relu: bool) -> Result<(Act, Saved)> {
        let (x, norm) = (x.read()?, self.norm.training(params));
        let weight = params.weights(self.conv.weight);
        let (z, stats, affine) = ops::conv2d_norm(x.input(), weight, self.conv.over(params), &norm, relu)?;
        let y = Act { x: z.clone(), norm: Some(affine) };
        Ok((y, Saved { input: x, norm: NormSaved { x: z, stats } }))
    }

    /// The gradients with respect to the norm's input and, at a join, the shortcut.
    pub(crate) fn backward_norm(
        &self,
        params: &Params,
        saved: Saved,
        behind: Behind,
        dy: &Tensor,
        grads: &mut Collect,
    ) -> Result<(Unnormed, Option<Tensor>)> {
        let (dz, dshortcut) = self.norm.backward(params, saved.norm, behind, dy, grads)?;
        Ok((Unnormed { input: saved.input, dz }, dshortcut))
    }

    /// The gradient with respect to the input, plus that by another path.
    pub(crate) fn backward_conv(
        &self,
        params: &Params,
        unnormed: Unnormed,
        plus: Option<Tensor>,
        grads: &mut Collect,
    ) -> Result<Tensor> {
        let Unnormed { input, dz } = unnormed;
        self.conv.backward_weight(params, &input, &dz, grads)?;
        let shape = input.x.dims4()?;
        drop(input);
        self.conv.backward_input(params, &dz, shape, plus)
    }

    /// Both, where nothing but a ReLU may follow.
    pub(crate) fn backward(
        &self,
        params: &Params,
        saved: Saved,
        dy: &Tensor,
        plus: Option<Tensor>,
        grads: &mut Collect,
    ) -> Result<Tensor> {
        let behind = if self.relu { Behind::Relu } else { Behind::Nothing };
        let (unnormed, _) = self.backward_norm(params, saved, behind, dy, grads)?;
        self.backward_conv(params, unnormed, plus, grads)
    }

    /// As [`ConvNorm::backward`] for the first unit, whose input is the picture.
    pub(crate) fn backward_first(&self, params: &Params, saved: Saved, dy: &Tensor, grads: &mut Collect) -> Result<()> {
        let (unnormed, _) = self.backward_norm(params, saved, Behind::Relu, dy, grads)?;
        self.conv.backward_weight(params, &unnormed.input, &unnormed.dz, grads)
    }

    /// The convolution that does the same with the running statistics.
    pub(crate) fn fold(&self, params: &Params, dtype: DType) -> Result<Folded> {
        let weight = params.get(self.conv.weight);
        let [gamma, beta, mean, var] =
            [self.norm.gamma, self.norm.beta, self.norm.mean, self.norm.var].map(|id| params.get(id));
        let scale = (gamma / (var + EPS)?.sqrt()?)?;
        let bias = (beta - (mean * &scale)?)?;
        let weight = weight.broadcast_mul(&scale.reshape(((), 1, 1, 1))?)?.to_dtype(dtype)?;
        Ok(Folded { weights: Weights::new(&weight, self.conv.over(params))?, bias, relu: self.relu })
    }
}

/// Half-way through a [`ConvNorm`]'s backward pass.
#[derive(Debug)]
pub(crate) struct Unnormed {
    input: Act,
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

/// The 3x3 max-pool at stride 2 behind the first convolution of every backbone.
pub(crate) mod stem_pool {
    use super::*;

    const KERNEL: usize = 3;
    const STRIDE: usize = 2;
    const PADDING: usize = 1;

    /// What the backward pass needs.
    #[derive(Debug)]
    pub(crate) struct Saved {
        index: Tensor,
        side: (usize, usize),
    }

    pub(crate) fn forward(x: &Act) -> Result<(Tensor, Saved)> {
        let (_, height, width, _) = x.x.dims4()?;
        let (y, index) = ops::max_pool_forward(x.input(), KERNEL, STRIDE, PADDING)?;
        let side = (height, width);
        Ok((y, Saved { index, side }))
    }

    pub(crate) fn backward(saved: &Saved, dy: &Tensor) -> Result<Tensor> {
        let Saved { index, side } = saved;
        Ok(ops::max_pool_backward(dy, index, KERNEL, STRIDE, PADDING, *side)?)
    }
}
