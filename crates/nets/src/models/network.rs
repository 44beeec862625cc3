//! A trunk, a pool and a linear layer: the networks of `global` and `local`.

use std::path::Path;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use cxr::{EvalFrame, OUTPUTS, Tta};
use rayon::prelude::*;

use crate::device::in_pool;
use crate::error::{Error, Result};
use crate::layers::builder::{Builder, Init};
use crate::layers::gradients::Gradients;
use crate::layers::params::{ParamId, Params};
use crate::losses::Objective;
use crate::models::backbone::{Backbone, Pool};
use crate::models::convnext::Convnext;
use crate::models::densenet::{self, Densenet, FoldedDensenet};
use crate::models::names;
use crate::models::resnet::{self, FoldedResnet, Resnet};
use crate::models::vit::Vit;
use crate::optimizer::Optimizer;
use crate::random::random;
use crate::recipe::{OptimizerKind, Precision};
use crate::weights::file::{self, Meta};
use crate::weights::import::{self, Wanted};
use crate::weights::matched;
use crate::weights::safetensors::Tensors;

/// Sharpness of [`Pool::Lse`] (Wang et al., CVPR 2017: the best of their sweep).
pub(crate) const LSE_R: f32 = 10.0;

/// A network's outputs for a batch, in evaluation mode.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The last map `[N, h, w, K]`, after the last ReLU; of a transformer the patch tokens after the last layer norm.
    pub map: Tensor,
    /// Its pool `[N, K]`; or the class token ([`Pool::Class`]).
    pub pool: Tensor,
    /// The logits `[N, 15]`, in the order of [`cxr::output_names`].
    pub logits: Tensor,
}

/// A gradient per trained parameter, in the order of [`Network::trained`].
#[derive(Debug)]
pub struct Grads {
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) logits: Tensor,
}

impl Grads {
    /// The gradients; a convolution's is `[out, height, width, in]`, and on CUDA of the type of the activations.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The logits `[N, 15]` of the forward pass.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }
}

/// A backbone with its head.
#[derive(Debug)]
pub struct Network {
    backbone: Backbone,
    pool: Pool,
    device: Device,
    /// The type of activations and their gradients in training.
    activations: DType,
    /// The type of activations in evaluation; `None`: `f32` on a CPU, on CUDA that of training.
    evaluated: Option<DType>,
    params: Params,
    trunk: Trunk,
    /// Weight `[15, K]` and bias of the linear layer.
    head: (ParamId, ParamId),
    /// The trunk for evaluation, made at its first use after a change of the weights.
    folded: OnceLock<Folded>,
}

/// The layers up to the last map.
#[derive(Debug)]
pub(crate) enum Trunk {
    Resnet(Resnet),
    Densenet(Densenet),
    Vit(Vit),
    Convnext(Convnext),
}

enum Tape {
    Resnet(resnet::Tape),
    Densenet(densenet::Tape),
}

#[derive(Debug)]
enum Folded {
    Resnet(FoldedResnet),
    Densenet(FoldedDensenet),
    /// Nothing to fold.
    Frozen,
}

impl Network {
    /// A network with torchvision's random initialisation.
    ///
    /// Convolutions are normal, batch norms the identity, the head uniform; `seed` decides. A frozen trunk is all 0, until
    /// [`Network::load_imagenet`] gives it weights.
    ///
    /// # Errors
    /// A pool that the trunk does not have; the device fails.
    pub fn new(backbone: Backbone, pool: Pool, seed: u64, device: &Device) -> Result<Network> {
        Network::build(backbone, pool, Some(seed), device)
    }

    /// A network with random weights, or without a seed with weights of 0 that wait for others: drawing a ResNet-50's
    /// takes half a second.
    fn build(backbone: Backbone, pool: Pool, seed: Option<u64>, device: &Device) -> Result<Network> {
        let dense = backbone == Backbone::Densenet121;
        let init = if dense { Init::FanIn } else { Init::FanOut };
        let mut build = Builder::new(init, seed.map(|seed| random(b"init", seed, 0, 0)), device);
        if pool == Pool::Class && !backbone.has_class_token() {
            let expected = format!("max, avg or lse: {backbone} has no class token");
            return Err(Error::Setting { key: "pool", got: pool.to_string(), expected });
        }
        let (trunk, name) = if backbone.is_frozen() && !backbone.has_class_token() {
            (Trunk::Convnext(Convnext::new(backbone, &mut build)?), "fc")
        } else if backbone.is_frozen() {
            (Trunk::Vit(Vit::new(backbone, &mut build)?), "fc")
        } else if dense {
            (Trunk::Densenet(Densenet::new(&mut build)?), "classifier")
        } else {
            (Trunk::Resnet(Resnet::new(backbone, &mut build)?), "fc")
        };
        let head = build.linear(name, backbone.channels(), OUTPUTS)?;
        Ok(Network {
            backbone,
            pool,
            device: device.clone(),
            activations: DType::F32,
            evaluated: None,
            params: build.finish(),
            trunk,
            head,
            folded: OnceLock::new(),
        })
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
        &self.device
    }

    /// Chooses in what numbers [`Network::loss_and_grads`] computes, and on CUDA [`Network::forward_eval`] too; at first
    /// `f32`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn set_precision(&mut self, precision: Precision) -> Result<()> {
        let precision = precision.on(&self.device);
        self.activations = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
        self.folded = OnceLock::new();
        if self.device.is_cuda() {
            self.params.allow_tf32(precision == Precision::Tf32);
            self.params.keep_copies(self.activations)?;
        }
        Ok(())
    }

    /// Chooses in what numbers [`Network::forward_eval`] computes, whatever [`Network::set_precision`] says; TF32 is allowed
    /// or forbidden in training as well. A frozen trunk computes in `f32`.
    pub fn evaluate_in(&mut self, precision: Precision) {
        let precision = precision.on(&self.device);
        let before = (self.evaluated_in(), self.params.tf32());
        self.evaluated = Some(if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 });
        self.params.allow_tf32(precision == Precision::Tf32);
        if before != (self.evaluated_in(), self.params.tf32()) {
            self.folded = OnceLock::new();
        }
    }

    /// Chooses whether several ranks normalise by the statistics of the whole batch, as at first, or each by those of its part.
    /// One rank does the same either way.
    pub fn sync_batch_norm(&mut self, sync: bool) {
        self.params.norm_apart(!sync);
    }

    /// The type that inputs of training are best made in.
    pub(crate) fn activations(&self) -> DType {
        self.activations
    }

    /// The type that evaluation computes in.
    pub(crate) fn evaluated_in(&self) -> DType {
        match self.evaluated {
            _ if self.backbone.is_frozen() => DType::F32,
            Some(chosen) => chosen,
            None if self.device.is_cuda() => self.activations,
            None => DType::F32,
        }
    }

    /// torchvision's name and a copy of every trained parameter; a convolution's is `[out, height, width, in]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn trained(&self) -> Result<Vec<(&str, Tensor)>> {
        self.params.trained().map(|(_, name, tensor)| Ok((name, tensor.copy()?))).collect()
    }

    /// The network in evaluation mode: by the running statistics, with batch norms folded into the convolutions.
    ///
    /// # Shapes
    /// `x [N, S, S, 3]`: each channel of an image, of 0 to 1, less ImageNet's mean, over its deviation.
    ///
    /// # Errors
    /// Another shape, or a side below [`Backbone::min_side`].
    pub fn forward_eval(&self, x: &Tensor) -> Result<Evaluated> {
        self.check_input(x)?;
        let folded = self.folded()?;
        let x = &ops::activations(x, self.evaluated_in())?;
        let (map, class) = match (folded, &self.trunk) {
            (_, Trunk::Vit(trunk)) => {
                let (map, class) = trunk.forward(&self.params, x)?;
                (map, Some(class))
            }
            (_, Trunk::Convnext(trunk)) => (trunk.forward(&self.params, x)?, None),
            (Folded::Resnet(folded), _) => (folded.forward(x)?, None),
            (Folded::Densenet(folded), _) => (folded.forward(x)?, None),
            (Folded::Frozen, _) => unreachable!("a trunk of another kind is folded"),
        };
        let map = map.to_dtype(DType::F32)?;
        let pool = match (self.pool_of_ops(), class) {
            (Some(pool), _) => ops::global_pool_forward(&map, pool)?,
            (None, Some(class)) => class,
            (None, None) => unreachable!("refused when the network was made"),
        };
        let logits = self.logits(&pool)?;
        Ok(Evaluated { map, pool, logits })
    }

    /// The logits `[N, 15]` of pooled vectors `[N, K]` in evaluation. On a CPU, those of a vector do not depend on the others.
    ///
    /// # Errors
    /// Another shape; the device fails.
    pub fn logits(&self, pool: &Tensor) -> Result<Tensor> {
        if self.device.is_cpu() {
            by_row(pool, self.params.get(self.head.0), self.params.get(self.head.1))
        } else {
            self.head(pool)
        }
    }

    /// The linear layer, weight `[15, K]` and bias `[15]`. Clones of them change with the next training step.
    pub fn linear(&self) -> [(&str, &Tensor); 2] {
        [self.head.0, self.head.1].map(|id| (self.params.name(id), self.params.get(id)))
    }

    /// Replaces the linear layer, whose tensors the network then keeps.
    ///
    /// # Errors
    /// Tensors of other shapes.
    pub fn set_linear(&mut self, weight: Tensor, bias: Tensor) -> Result<()> {
        let mut tensors = self.params.all_but_last(2);
        tensors.extend([weight, bias]);
        self.params_mut().replace(tensors)
    }

    /// Makes now what the first evaluation would make: batch norms folded into convolutions, weights arranged.
    ///
    /// # Errors
    /// If the device fails.
    pub fn prepare_to_evaluate(&self) -> Result<()> {
        self.folded().map(|_| ())
    }

    fn folded(&self) -> Result<&Folded> {
        if let Some(folded) = self.folded.get() {
            return Ok(folded);
        }
        let folded = self.fold()?;
        Ok(self.folded.get_or_init(|| folded))
    }

    /// One forward and backward pass in training mode: the mean binary cross-entropy, a scalar on the network's device,
    /// and its gradients.
    ///
    /// # Errors
    /// As [`Network::objective_and_grads`].
    pub fn loss_and_grads(&mut self, x: &Tensor, targets: &Tensor) -> Result<(Tensor, Grads)> {
        self.objective_and_grads(x, targets, Objective::default())
    }

    /// One forward and backward pass in training mode: the mean loss, a scalar on the network's device, and its gradients.
    ///
    /// Batch norms use the batch's statistics and move the running ones.
    ///
    /// # Shapes
    /// `x [N, S, S, 3]`, `targets [N, 15]`, 0 or 1, or below 0 where nobody knows.
    ///
    /// # Errors
    /// Another shape, or a side below [`Backbone::min_side`].
    pub fn objective_and_grads(
        &mut self,
        x: &Tensor,
        targets: &Tensor,
        objective: Objective,
    ) -> Result<(Tensor, Grads)> {
        self.check_input(x)?;
        in_pool(&self.device.clone(), || self.forward_backward(x, targets, objective))
    }

    fn forward_backward(&mut self, x: &Tensor, targets: &Tensor, objective: Objective) -> Result<(Tensor, Grads)> {
        if self.backbone.is_frozen() {
            return Err(Error::Setting {
                key: "backbone",
                got: self.backbone.to_string(),
                expected: "a trunk that is trained: this one is frozen, and its linear layer is trained on features"
                    .to_owned(),
            });
        }
        self.folded = OnceLock::new();
        let x = &ops::activations(x, self.activations)?;
        let (map, tape) = match &self.trunk {
            Trunk::Resnet(trunk) => {
                let (map, tape) = trunk.forward(&self.params, x)?;
                (map, Tape::Resnet(tape))
            }
            Trunk::Densenet(trunk) => {
                let (map, tape) = trunk.forward(&self.params, x)?;
                (map, Tape::Densenet(tape))
            }
            Trunk::Vit(_) | Trunk::Convnext(_) => unreachable!("refused above"),
        };

        let pool_of_ops = self.pool_of_ops().unwrap_or(ops::Pool::Max); // a class token is refused with a convolution
        let pool = ops::global_pool_forward(&map, pool_of_ops)?;
        let logits = self.head(&pool)?;
        let (loss, dlogits) = objective.of_share(&logits, targets, self.params.share())?;
        let mut grads = Gradients::new(&self.params);
        grads.put(self.head.0, dlogits.t()?.matmul(&pool)?)?;
        grads.put(self.head.1, ones(&dlogits)?.t()?.matmul(&dlogits)?.squeeze(0)?)?;
        let dpool = dlogits.matmul(self.params.get(self.head.0))?;
        let dmap = ops::global_pool_backward(&map, &pool, &dpool, pool_of_ops)?;
        drop(map);

        match (&self.trunk, tape) {
            (Trunk::Resnet(trunk), Tape::Resnet(tape)) => {
                trunk.backward(&self.params, tape, dmap, &mut grads)?;
            }
            (Trunk::Densenet(trunk), Tape::Densenet(tape)) => {
                trunk.backward(&self.params, tape, dmap, &mut grads)?;
            }
            _ => unreachable!("taped by this trunk"),
        }
        let grads = Grads { tensors: grads.finish(&self.params)?, logits };
        Ok((loss, grads))
    }

    /// Writes all weights in torchvision's names and layout, atomically; `frame` says how evaluation inputs are cut.
    ///
    /// The file loads with `model.load_state_dict(safetensors.torch.load_file(path))` into torchvision's model with 15
    /// outputs.
    ///
    /// # Errors
    /// The disk, with the path.
    pub fn save(&self, path: &Path, frame: Option<EvalFrame>) -> Result<()> {
        self.save_scored(path, frame, Tta::None)
    }

    /// As [`Network::save`]; `tta` says which views of an image whoever reads the file is to score.
    ///
    /// # Errors
    /// The disk, with the path.
    pub fn save_scored(&self, path: &Path, frame: Option<EvalFrame>, tta: Tta) -> Result<()> {
        let meta = Meta { backbone: self.backbone.name().to_owned(), pool: self.pool.name().to_owned(), frame, tta };
        let tensors = self.params.iter().map(|(name, tensor)| {
            let tensor = match tensor.rank() {
                4 => tensor.permute((0, 3, 1, 2))?.contiguous()?,
                _ => tensor.clone(),
            };
            Ok((name.to_owned(), tensor))
        });
        file::write(path, &tensors.collect::<Result<Vec<_>>>()?, &meta)
    }

    /// Reads what [`Network::save`] wrote into this network.
    ///
    /// # Errors
    /// Another backbone, pool or finding order; a tensor that is missing, unknown or of another shape; a damaged file.
    /// The network is then as it was.
    pub fn load(&mut self, path: &Path) -> Result<Meta> {
        let (tensors, meta) = file::read(path, &Device::Cpu)?;
        self.adopt(path, tensors, meta)
    }

    /// Reads what [`Network::save`] wrote; backbone and pool are the file's.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn open(path: &Path, device: &Device) -> Result<(Network, Meta)> {
        let (tensors, meta) = file::read(path, &Device::Cpu)?;
        let foreign = |error: Error| Error::malformed(path, error);
        let backbone = meta.backbone.parse().map_err(foreign)?;
        let pool = meta.pool.parse().map_err(foreign)?;
        let mut network = Network::build(backbone, pool, None, device)?;
        let meta = network.adopt(path, tensors, meta)?;
        Ok((network, meta))
    }

    fn adopt(&mut self, path: &Path, tensors: Tensors, meta: Meta) -> Result<Meta> {
        for (what, got, expected) in
            [("backbone", &meta.backbone, self.backbone.name()), ("pool", &meta.pool, self.pool.name())]
        {
            if got != expected {
                return Err(Error::Mismatch {
                    path: path.to_owned(),
                    what: what.to_owned(),
                    got: got.clone(),
                    expected: expected.to_owned(),
                });
            }
        }
        let given: Vec<(&str, &[usize])> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dims())).collect();
        let of = (path, self.backbone.name());
        let tensors = matched(of, self.layout(), &given, false, |index| Ok(tensors[index].1.clone()))?;
        self.assign(tensors)?;
        Ok(meta)
    }

    /// Takes the trunk of a torchvision or timm file, or of DINOv2's or Hugging Face's for a frozen trunk, safetensors or PyTorch's, whatever its name; the head stays as it is.
    ///
    /// The tensors may lie in a checkpoint, and have a prefix in front of their names: the network's own names tell which
    /// are meant, and the log says what was done. A first convolution of one channel is spread over the three.
    ///
    /// # Errors
    /// A file that is no weights file; a tensor that is missing, unknown or of another shape, or not finite; a damaged file. The network is then as it
    /// was.
    pub fn load_imagenet(&mut self, path: &Path) -> Result<()> {
        let head: fn(&str) -> bool = |name| name.starts_with("fc.") || name.starts_with("classifier.");
        let trunk = self.layout().filter(|(name, _)| !head(name)).map(|(name, shape)| (name.to_owned(), shape));
        let trunk: Vec<(String, Vec<usize>)> = trunk.collect();
        let mut layouts = vec![trunk.clone()];
        let mut ignored = head;
        if self.backbone.is_frozen() {
            layouts.extend(names::kinds(self.backbone).iter().map(|&parts| names::layout(parts, &trunk)));
            ignored =
                |name| ["fc.", "head.", "classifier."].iter().any(|head| name.starts_with(head)) || mask_token(name);
        }
        let (which, taken) = import::read(path, &Wanted { backbone: self.backbone.name(), layouts, ignored })?;
        let taken = match which {
            0 => taken,
            theirs => names::joined(names::kinds(self.backbone)[theirs - 1], &trunk, taken)?,
        };
        let kept = self.params.iter().filter(|(name, _)| head(name));
        let kept = kept.map(|(_, tensor)| tensor.copy()).collect::<Vec<_>>();
        // the head is last in every network
        let mut all = taken;
        for tensor in kept {
            all.push(tensor?);
        }
        self.assign(all)
    }

    /// Every name with its shape on disk, OIHW.
    fn layout(&self) -> impl Iterator<Item = (&str, Vec<usize>)> {
        self.params.iter().map(|(name, tensor)| {
            let shape = match *tensor.dims() {
                [out, height, width, input] => vec![out, input, height, width],
                ref dims => dims.to_vec(),
            };
            (name, shape)
        })
    }

    /// Takes tensors in the layout on disk, in the order of the parameters.
    fn assign(&mut self, tensors: Vec<Tensor>) -> Result<()> {
        let arranged = tensors.into_par_iter().map(|tensor| match tensor.rank() {
            4 => tensor.permute((0, 2, 3, 1))?.contiguous(),
            _ => Ok(tensor),
        });
        let arranged = arranged.collect::<candle_core::Result<Vec<_>>>()?;
        let tensors = arranged.iter().map(|tensor| tensor.to_device(&self.device));
        let tensors = tensors.collect::<candle_core::Result<Vec<_>>>()?;
        self.params_mut().replace(tensors)
    }

    /// An update rule for its trained parameters; `momentum` is AdamW's first beta.
    ///
    /// # Errors
    /// If the device fails.
    pub fn optimizer(&self, kind: OptimizerKind, momentum: f64, weight_decay: f64) -> Result<Optimizer> {
        Optimizer::new(kind, momentum, weight_decay, &self.params)
    }

    /// Changes the weights by one step of `optimizer`.
    ///
    /// # Errors
    /// Gradients or an optimiser of another network.
    pub fn update(&mut self, optimizer: &mut Optimizer, grads: &Grads, lr: f64) -> Result<()> {
        optimizer.step(self.params_mut(), &grads.tensors, lr)
    }

    pub(crate) fn params(&self) -> &Params {
        &self.params
    }

    pub(crate) fn trunk(&self) -> &Trunk {
        &self.trunk
    }

    /// Weight `[15, K]` and bias of the linear layer.
    pub(crate) fn head_params(&self) -> (ParamId, ParamId) {
        self.head
    }

    /// The tensors, to be changed.
    pub(crate) fn params_mut(&mut self) -> &mut Params {
        self.folded = OnceLock::new();
        &mut self.params
    }

    fn fold(&self) -> Result<Folded> {
        let dtype = self.evaluated_in();
        Ok(match &self.trunk {
            Trunk::Resnet(trunk) => Folded::Resnet(trunk.fold(&self.params, dtype)?),
            Trunk::Densenet(trunk) => Folded::Densenet(trunk.fold(&self.params, dtype)?),
            Trunk::Vit(_) | Trunk::Convnext(_) => Folded::Frozen,
        })
    }

    /// `None` for the class token.
    fn pool_of_ops(&self) -> Option<ops::Pool> {
        match self.pool {
            Pool::Max => Some(ops::Pool::Max),
            Pool::Avg => Some(ops::Pool::Avg),
            Pool::Lse => Some(ops::Pool::Lse { r: LSE_R }),
            Pool::Class => None,
        }
    }

    /// The class activation maps `[N, h, w, 15]` of last maps `[N, h, w, K]`: what the linear layer makes of each cell, without
    /// its bias (Zhou et al., CVPR 2016, equation 2; with another pool than the mean, no parts of the logits, but as good a map).
    ///
    /// # Errors
    /// The device refuses.
    pub fn class_maps(&self, map: &Tensor) -> candle_core::Result<Tensor> {
        let (n, height, width, channels) = map.dims4()?;
        let weight = self.params.get(self.head.0);
        // A product per image: the order of a sum depends on the number of rows, and must not depend on the batch.
        let cells = map.to_dtype(DType::F32)?.reshape((n, height * width, channels))?;
        let weights = weight.t()?.broadcast_as((n, channels, weight.dim(0)?))?.contiguous()?;
        cells.matmul(&weights)?.reshape((n, height, width, weight.dim(0)?))
    }

    /// The logits `[N, 15]` of pools `[N, K]`.
    fn head(&self, pool: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.params.get(self.head.0), self.params.get(self.head.1));
        // A sum of equal shapes: on CUDA, candle would send along how to spread the bias, every time.
        let bias = ones(pool)?.matmul(&bias.unsqueeze(0)?)?;
        Ok((pool.matmul(&weight.t()?)? + bias)?)
    }

    fn check_input(&self, x: &Tensor) -> Result<()> {
        let least = self.backbone.min_side();
        let patch = self.backbone.patch_px();
        let whole = |side: usize| side >= least && side.is_multiple_of(patch);
        match *x.dims() {
            [n, height, width, 3] if n > 0 && whole(height) && whole(width) => Ok(()),
            ref dims => {
                let multiple = if patch > 1 { format!(", a multiple of {patch}") } else { String::new() };
                Err(Error::shape(
                    format!("input of {}", self.backbone),
                    format!("[N, S, S, 3] with N >= 1 and S >= {least}{multiple}"),
                    format!("{dims:?}"),
                ))
            }
        }
    }
}

/// The logits `[N, 15]` of pools `[N, K]` by a linear layer, weight `[15, K]` and bias `[15]`. A matrix product adds up in
/// an order that depends on the number of rows; this does not.
pub(crate) fn by_row(pool: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let products = pool.unsqueeze(1)?.broadcast_mul(&weight.unsqueeze(0)?)?;
    Ok(products.sum(2)?.broadcast_add(bias)?)
}

/// What stood for hidden patches while a DINOv2 was trained.
fn mask_token(name: &str) -> bool {
    matches!(name, "mask_token" | "embeddings.mask_token")
}

/// A one per row of `x`, `[N, 1]`.
fn ones(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor::ones((x.dim(0)?, 1), DType::F32, x.device())?)
}
