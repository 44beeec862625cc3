//! The named tensors of a network, and how they start.

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::units::{Conv, Norm};
use crate::{Error, Result};

/// Which tensor of a [`Params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(usize);

/// One tensor.
#[derive(Debug)]
struct Entry {
    /// torchvision's name.
    name: String,
    tensor: Tensor,
    /// Has a gradient; otherwise a running statistic.
    trained: bool,
    /// What convolutions read instead, where they compute in another type: the optimiser writes it along.
    copy: Option<Tensor>,
}

/// All tensors of a network, in torchvision's order. Their storage is shared with nobody: optimisers write into it.
#[derive(Debug, Default)]
pub(crate) struct Params {
    entries: Vec<Entry>,
    /// Whether convolutions of `f32` may use TF32 on CUDA.
    tf32: bool,
}

impl Params {
    pub(crate) fn get(&self, id: Id) -> &Tensor {
        &self.entries[id.0].tensor
    }

    /// A convolution's weights in the type that it computes in.
    pub(crate) fn weights(&self, id: Id) -> &Tensor {
        let entry = &self.entries[id.0];
        entry.copy.as_ref().unwrap_or(&entry.tensor)
    }

    pub(crate) fn tf32(&self) -> bool {
        self.tf32
    }

    /// Allows or forbids TF32 in this network's convolutions.
    pub(crate) fn allow_tf32(&mut self, tf32: bool) {
        self.tf32 = tf32;
    }

    /// Keeps copies of all convolutions' weights in `dtype`, or none if that is `f32`.
    pub(crate) fn keep_copies(&mut self, dtype: DType) -> Result<()> {
        for entry in self.entries.iter_mut().filter(|entry| entry.tensor.rank() == 4) {
            entry.copy = (dtype != DType::F32).then(|| entry.tensor.to_dtype(dtype)).transpose()?;
        }
        Ok(())
    }

    /// The copies, in the order of [`Params::trained`].
    pub(crate) fn copies(&self) -> Vec<Option<&Tensor>> {
        self.entries.iter().filter(|entry| entry.trained).map(|entry| entry.copy.as_ref()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every name and tensor, running statistics included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), &entry.tensor))
    }

    /// The tensors that have a gradient.
    pub(crate) fn trained(&self) -> impl Iterator<Item = (Id, &str, &Tensor)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.trained)
            .map(|(index, entry)| (Id(index), entry.name.as_str(), &entry.tensor))
    }

    /// Replaces every tensor, in the order of [`Params::iter`].
    ///
    /// # Errors
    /// Another number of tensors or another shape.
    pub(crate) fn replace(&mut self, tensors: Vec<Tensor>) -> Result<()> {
        if tensors.len() != self.len() {
            return Err(Error::shape("tensors", self.len(), tensors.len()));
        }
        for (entry, tensor) in self.entries.iter().zip(&tensors) {
            if entry.tensor.dims() != tensor.dims() {
                let (expected, got) = (entry.tensor.dims(), tensor.dims());
                return Err(Error::shape(&entry.name, format!("{expected:?}"), format!("{got:?}")));
            }
        }
        for (entry, tensor) in self.entries.iter_mut().zip(tensors) {
            if let Some(copy) = &mut entry.copy {
                *copy = tensor.to_dtype(copy.dtype())?;
            }
            entry.tensor = tensor;
        }
        Ok(())
    }

    /// Copies of every tensor, in the order of [`Params::iter`].
    pub(crate) fn snapshot(&self) -> Result<Vec<Tensor>> {
        let copies = self.entries.iter().map(|entry| entry.tensor.copy());
        Ok(copies.collect::<candle_core::Result<_>>()?)
    }
}

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
    rng: ChaCha8Rng,
    device: &'a Device,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(init: Init, rng: ChaCha8Rng, device: &'a Device) -> Self {
        Builder { params: Params::default(), init, rng, device }
    }

    pub(crate) fn finish(self) -> Params {
        self.params
    }

    fn push(&mut self, name: String, tensor: Tensor, trained: bool) -> Id {
        self.params.entries.push(Entry { name, tensor, trained, copy: None });
        Id(self.params.entries.len() - 1)
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
        let values: Vec<f32> = (0..count).map(|_| (std * normal(&mut self.rng)) as f32).collect();
        let weight = Tensor::from_vec(values, (output, kernel, kernel, input), self.device)?;
        let weight = self.push(format!("{name}.weight"), weight, true);
        Ok(Conv { weight, kernel, stride, padding: kernel / 2 })
    }

    /// `{name}.weight`, `.bias`, `.running_mean`, `.running_var`: 1, 0, 0, 1.
    pub(crate) fn norm(&mut self, name: &str, channels: usize) -> Result<Norm> {
        let mut constant = |field: &str, value: f32, trained: bool| -> Result<Id> {
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
    pub(crate) fn linear(&mut self, name: &str, input: usize, output: usize) -> Result<(Id, Id)> {
        let bound = 1.0 / (input as f64).sqrt();
        let mut uniform = |count: usize| -> Vec<f32> {
            (0..count).map(|_| (bound * (2.0 * unit(&mut self.rng) - 1.0)) as f32).collect()
        };
        let (weight, bias) = (uniform(output * input), uniform(output));
        let weight = Tensor::from_vec(weight, (output, input), self.device)?;
        let bias = Tensor::from_vec(bias, output, self.device)?;
        Ok((self.push(format!("{name}.weight"), weight, true), self.push(format!("{name}.bias"), bias, true)))
    }
}

/// Uniform in `0 .. 1`, 53 bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}
