//! The initial tensors of a network.

use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::layers::conv_norm::{Conv, Norm};
use crate::layers::params::{ParamId, Params};
use crate::random::unit;

/// The spread of a convolution's initial weights, normal around 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    /// `sqrt(2 / (k k out))`, torchvision's ResNet: the backward pass keeps the variance (He et al., ICCV 2015).
    FanOut,
    /// `sqrt(2 / (k k in))`, torchvision's DenseNet: the forward pass keeps it.
    FanIn,
}

/// Makes a network's tensors one after the other.
pub(crate) struct Builder<'a> {
    params: Params,
    init: Init,
    /// `None` for weights that will be replaced: all 0.
    rng: Option<ChaCha8Rng>,
    device: &'a Device,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(init: Init, rng: Option<ChaCha8Rng>, device: &'a Device) -> Self {
        Builder { params: Params::default(), init, rng, device }
    }

    pub(crate) fn finish(self) -> Params {
        self.params
    }

    fn push(&mut self, name: String, tensor: Tensor, trained: bool) -> ParamId {
        self.params.push(name, tensor, trained)
    }

    /// `name`, all 0 and never trained: it waits for pretrained weights.
    pub(crate) fn frozen(&mut self, name: &str, shape: &[usize]) -> Result<ParamId> {
        let tensor = Tensor::zeros(shape, DType::F32, self.device)?;
        Ok(self.push(name.to_owned(), tensor, false))
    }

    fn drawn(&mut self, count: usize, draw: impl Fn(&mut ChaCha8Rng) -> f64) -> Vec<f32> {
        match &mut self.rng {
            Some(rng) => (0..count).map(|_| draw(rng) as f32).collect(),
            None => vec![0.0; count],
        }
    }

    /// `{name}.weight`, a `kernel x kernel` convolution without bias that keeps the side at stride 1.
    pub(crate) fn conv(
        &mut self,
        name: &str,
        (input, output): (usize, usize),
        kernel: usize,
        stride: usize,
    ) -> Result<Conv> {
        let fan = match self.init {
            Init::FanOut => output,
            Init::FanIn => input,
        };
        let std = (2.0 / (kernel * kernel * fan) as f64).sqrt();
        let count = output * kernel * kernel * input;
        let weight = self.drawn(count, |rng| std * normal(rng));
        let weight = Tensor::from_vec(weight, (output, kernel, kernel, input), self.device)?;
        let weight = self.push(format!("{name}.weight"), weight, true);
        Ok(Conv { weight, kernel, stride, padding: kernel / 2 })
    }

    /// `{name}.weight`, `.bias`, `.running_mean`, `.running_var`: 1, 0, 0, 1.
    pub(crate) fn norm(&mut self, name: &str, channels: usize) -> Result<Norm> {
        let mut constant = |field: &str, value: f32, trained: bool| -> Result<ParamId> {
            let tensor = Tensor::full(value, channels, self.device)?.contiguous()?;
            Ok(self.push(format!("{name}.{field}"), tensor, trained))
        };
        Ok(Norm {
            gamma: constant("weight", 1.0, true)?,
            beta: constant("bias", 0.0, true)?,
            mean: constant("running_mean", 0.0, false)?,
            var: constant("running_var", 1.0, false)?,
        })
    }

    /// `{name}.weight` and `.bias`, uniform in `±1 / sqrt(input)` (PyTorch's `nn.Linear`).
    pub(crate) fn linear(&mut self, name: &str, input: usize, output: usize) -> Result<(ParamId, ParamId)> {
        let bound = 1.0 / (input as f64).sqrt();
        let uniform = |rng: &mut ChaCha8Rng| bound * (2.0 * unit(rng) - 1.0);
        let (weight, bias) = (self.drawn(output * input, uniform), self.drawn(output, uniform));
        let weight = Tensor::from_vec(weight, (output, input), self.device)?;
        let bias = Tensor::from_vec(bias, output, self.device)?;
        Ok((self.push(format!("{name}.weight"), weight, true), self.push(format!("{name}.bias"), bias, true)))
    }
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}
