//! Convolution and batch norm with hand-written gradients: the pieces of every trunk.
//!
//! There is no graph. A forward pass returns what its backward pass needs ([`Saved`]), the backward pass consumes it, so
//! an activation lives exactly until its last use.

use candle_core::Tensor;
use ops::BatchStats;

use crate::Result;
use crate::params::{Id, Params};

/// Added to the variance under the root (PyTorch's `BatchNorm2d`).
const EPS: f64 = 1e-5;

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

/// A square convolution without bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub(crate) weight: Id,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Conv {
    /// `x [N, H, W, C]` to `[N, H', W', C']`.
    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        let weight = params.get(self.weight);
        Ok(ops::conv2d_forward(x, weight, self.stride, self.padding)?)
    }

    /// Puts the weight's gradient; `x` is the forward pass's input.
    pub(crate) fn backward_weight(&self, x: &Tensor, dy: &Tensor, grads: &mut Collect) -> Result<()> {
        let kernel = (self.kernel, self.kernel);
        let grad = ops::conv2d_weight_grad(x, dy, self.stride, self.padding, kernel)?;
        grads.put(self.weight, grad);
        Ok(())
    }

    /// The gradient with respect to the input, which was `[N, height, width, C]`.
    pub(crate) fn backward_input(
        &self,
        params: &Params,
        dy: &Tensor,
        (_, height, width, _): (usize, usize, usize, usize),
    ) -> Result<Tensor> {
        let weight = params.get(self.weight);
        let side = (height, width);
        Ok(ops::conv2d_input_grad(dy, weight, self.stride, self.padding, side)?)
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
    y: Tensor,
    stats: BatchStats,
    residual: bool,
    relu: bool,
}

impl Norm {
    /// Normalises by the batch, adds the residual, applies ReLU; moves the running statistics.
    pub(crate) fn forward(
        &self,
        params: &mut Params,
        x: Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<(Tensor, NormSaved)> {
        let (gamma, beta) = (params.get(self.gamma), params.get(self.beta));
        let (y, stats) = ops::batch_norm_forward(&x, gamma, beta, residual, relu, EPS)?;
        let count = (x.elem_count() / stats.mean.elem_count()) as f64;
        let unbiased = count / (count - 1.0).max(1.0);
        self.run(params, self.mean, &stats.mean, 1.0)?;
        self.run(params, self.var, &stats.var, unbiased)?;
        let saved = NormSaved { x, y: y.clone(), stats, residual: residual.is_some(), relu };
        Ok((y, saved))
    }

    /// Moves one running statistic towards `factor` times the batch's.
    fn run(&self, params: &mut Params, id: Id, batch: &Tensor, factor: f64) -> Result<()> {
        let old = params.get(id).affine(1.0 - RUNNING, 0.0)?;
        let new = (old + batch.affine(RUNNING * factor, 0.0)?)?;
        params.set(id, new);
        Ok(())
    }

    /// The gradients with respect to the input and the residual; puts those of gamma and beta.
    pub(crate) fn backward(
        &self,
        params: &Params,
        saved: NormSaved,
        dy: &Tensor,
        grads: &mut Collect,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let got = ops::batch_norm_backward(
            dy,
            &saved.x,
            &saved.y,
            params.get(self.gamma),
            params.get(self.beta),
            &saved.stats,
            saved.residual,
            saved.relu,
        )?;
        grads.put(self.gamma, got.dgamma);
        grads.put(self.beta, got.dbeta);
        Ok((got.dx, got.dresidual))
    }

    /// Normalises by the running statistics, then ReLU.
    pub(crate) fn eval_relu(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        let [gamma, beta, mean, var] = [self.gamma, self.beta, self.mean, self.var].map(|id| params.get(id));
        Ok(ops::batch_norm_eval(x, gamma, beta, mean, var, true, EPS)?)
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
    input: Tensor,
    norm: NormSaved,
}

impl ConvNorm {
    /// `relu(norm(conv(x)) + residual)`.
    pub(crate) fn forward(
        &self,
        params: &mut Params,
        x: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<(Tensor, Saved)> {
        let z = self.conv.forward(params, x)?;
        let (y, norm) = self.norm.forward(params, z, residual, self.relu)?;
        let saved = Saved { input: x.clone(), norm };
        Ok((y, saved))
    }

    /// The gradients with respect to the input and the residual.
    pub(crate) fn backward(
        &self,
        params: &Params,
        saved: Saved,
        dy: &Tensor,
        grads: &mut Collect,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (dz, dresidual) = self.norm.backward(params, saved.norm, dy, grads)?;
        self.conv.backward_weight(&saved.input, &dz, grads)?;
        let shape = saved.input.dims4()?;
        drop(saved.input);
        let dx = self.conv.backward_input(params, &dz, shape)?;
        Ok((dx, dresidual))
    }

    /// As [`ConvNorm::backward`] for the first unit, whose input is the picture.
    pub(crate) fn backward_first(&self, params: &Params, saved: Saved, dy: &Tensor, grads: &mut Collect) -> Result<()> {
        let (dz, _) = self.norm.backward(params, saved.norm, dy, grads)?;
        self.conv.backward_weight(&saved.input, &dz, grads)
    }

    /// The convolution that does the same with the running statistics.
    pub(crate) fn fold(&self, params: &Params) -> Result<Folded> {
        let weight = params.get(self.conv.weight);
        let [gamma, beta, mean, var] =
            [self.norm.gamma, self.norm.beta, self.norm.mean, self.norm.var].map(|id| params.get(id));
        let scale = (gamma / (var + EPS)?.sqrt()?)?;
        let bias = (beta - (mean * &scale)?)?;
        let weight = weight.broadcast_mul(&scale.reshape(((), 1, 1, 1))?)?;
        Ok(Folded { weight, bias, stride: self.conv.stride, padding: self.conv.padding, relu: self.relu })
    }
}

/// A [`ConvNorm`] for evaluation.
#[derive(Debug)]
pub(crate) struct Folded {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
    relu: bool,
}

impl Folded {
    pub(crate) fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        Ok(ops::conv2d_bias_act(x, &self.weight, &self.bias, residual, self.relu, self.stride, self.padding)?)
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

    pub(crate) fn forward(x: &Tensor) -> Result<(Tensor, Saved)> {
        let (_, height, width, _) = x.dims4()?;
        let (y, index) = ops::max_pool_forward(x, KERNEL, STRIDE, PADDING)?;
        let side = (height, width);
        Ok((y, Saved { index, side }))
    }

    pub(crate) fn backward(saved: &Saved, dy: &Tensor) -> Result<Tensor> {
        let Saved { index, side } = saved;
        Ok(ops::max_pool_backward(dy, index, KERNEL, STRIDE, PADDING, *side)?)
    }
}
