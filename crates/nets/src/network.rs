//! A trunk, a pool and a linear layer: what `global` and `local` train.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::weights::Meta;
use crate::{Backbone, Pool, Result};

/// What a network says about a batch, in evaluation mode.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The last map `[N, h, w, K]`, after the last ReLU.
    pub map: Tensor,
    /// Its pool `[N, K]`.
    pub pool: Tensor,
    /// The logits `[N, 15]`, in the order of [`cxr::output_names`].
    pub logits: Tensor,
}

/// A gradient per trainable parameter, in the order of [`Network::parameters`].
#[derive(Debug)]
pub struct Grads(pub(crate) Vec<Tensor>);

/// A backbone with its head.
#[derive(Debug)]
pub struct Network {
    backbone: Backbone,
    pool: Pool,
}

impl Network {
    /// A network with torchvision's random initialisation for `seed`.
    pub fn new(_backbone: Backbone, _pool: Pool, _seed: u64, _device: &Device) -> Result<Network> {
        unimplemented!()
    }
    /// Its trunk.
    pub fn backbone(&self) -> Backbone {
        self.backbone
    }
    /// Its pool.
    pub fn pool(&self) -> Pool {
        self.pool
    }
    /// Where it lives.
    pub fn device(&self) -> &Device {
        unimplemented!()
    }
    /// The network in evaluation mode: running statistics, batch norms folded into the convolutions.
    pub fn forward_eval(&self, _x: &Tensor) -> Result<Evaluated> {
        unimplemented!()
    }
    /// One forward and backward pass in training mode; updates the running statistics.
    pub fn loss_and_grads(&mut self, _x: &Tensor, _targets: &Tensor) -> Result<(f32, Grads)> {
        unimplemented!()
    }
    /// Writes the weights in torchvision's names and layout; `key` says which run made them.
    pub fn save(&self, _path: &Path, _key: &str) -> Result<()> {
        unimplemented!()
    }
    /// Reads what [`Network::save`] wrote; backbone, pool and finding order must be those of `self`.
    pub fn load(&mut self, _path: &Path) -> Result<Meta> {
        unimplemented!()
    }
    /// Reads a weights file of ours, backbone and pool as the file says.
    pub fn open(_path: &Path, _device: &Device) -> Result<(Network, Meta)> {
        unimplemented!()
    }
    /// Takes the trunk of a torchvision or timm file (`.safetensors`, `.pth`), every key checked; the head stays.
    pub fn load_imagenet(&mut self, _path: &Path) -> Result<()> {
        unimplemented!()
    }
}
