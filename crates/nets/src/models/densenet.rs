//! DenseNet-121 (Huang et al., CVPR 2017), as torchvision has it.

use candle_core::{D, DType, Tensor};
use ops::{Affine, BatchStats, Input, Weights};

use crate::error::Result;
use crate::layers::activation::{Activation, dense};
use crate::layers::builder::Builder;
use crate::layers::conv_norm::{AfterNorm, Conv, ConvNorm, EPS, Folded, Norm, NormSaved, Saved, complete};
use crate::layers::gradients::Gradients;
use crate::layers::params::Params;
use crate::layers::stem_pool;

/// Channels of the stem.
const STEM: usize = 64;
/// Channels that a layer adds.
const GROWTH: usize = 32;
/// Channels of a layer's 1x1 convolution.
const BOTTLENECK: usize = 4 * GROWTH;
/// Side and stride of a transition's average pool.
pub(crate) const HALVED: usize = 2;
/// Layers per block.
const LAYERS: [usize; 4] = [6, 12, 24, 16];

/// The layers up to the last map.
#[derive(Debug)]
pub(crate) struct Densenet {
    pub(crate) stem: ConvNorm,
    pub(crate) blocks: Vec<Vec<Layer>>,
    /// Between the blocks.
    pub(crate) transitions: Vec<Transition>,
    /// After the last block, with ReLU.
    pub(crate) last: Norm,
}

/// `conv2(relu(norm2(conv1(relu(norm1(x))))))`, appended to `x`.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) norm1: Norm,
    /// `conv1`, `norm2` and its ReLU: they fold in evaluation.
    pub(crate) squeeze: ConvNorm,
    pub(crate) conv2: Conv,
    /// Channels of `x`.
    input: usize,
}

/// `pool(conv(relu(norm(x))))`: half the channels, half the side.
#[derive(Debug)]
pub(crate) struct Transition {
    pub(crate) norm: Norm,
    pub(crate) conv: Conv,
}

/// A block's tensor, wide enough for all its layers; each layer reads the channels before its own and fills its own.
///
/// The statistics of a channel are the same for all layers that normalise it, so they are taken once.
#[derive(Debug)]
struct Growing {
    /// `[N, H, W, C]` with the C of the block's end.
    x: Tensor,
    /// Those of its channels.
    stats: BatchStats,
}

#[derive(Debug)]
struct LayerSaved {
    norm1: NormSaved,
    squeeze: Saved,
    squeezed: Activation,
}

#[derive(Debug)]
struct TransitionSaved {
    norm: NormSaved,
    normed: Activation,
    side: (usize, usize),
}

/// What the backward pass needs.
#[derive(Debug)]
pub(crate) struct Tape {
    stem: Saved,
    pool: stem_pool::Saved,
    blocks: Vec<Vec<LayerSaved>>,
    transitions: Vec<TransitionSaved>,
    last: NormSaved,
}

/// The folded layers for evaluation.
#[derive(Debug)]
pub(crate) struct FoldedDensenet {
    stem: Folded,
    blocks: Vec<Vec<FoldedLayer>>,
    transitions: Vec<(Affine, Weights)>,
    last: Affine,
}

/// As [`Layer`].
#[derive(Debug)]
struct FoldedLayer {
    norm1: Affine,
    squeeze: Folded,
    conv2: Weights,
}

impl Densenet {
    pub(crate) fn new(build: &mut Builder) -> Result<Densenet> {
        let stem = ConvNorm {
            conv: build.conv("features.conv0", (3, STEM), 7, 2)?,
            norm: build.norm("features.norm0", STEM)?,
            relu: true,
        };
        let mut channels = STEM;
        let (mut blocks, mut transitions) = (Vec::new(), Vec::new());
        for (block, layers) in LAYERS.into_iter().enumerate() {
            let mut made = Vec::with_capacity(layers);
            for layer in 1..=layers {
                let name = format!("features.denseblock{}.denselayer{layer}", block + 1);
                made.push(Layer::new(build, &name, channels)?);
                channels += GROWTH;
            }
            blocks.push(made);
            if block + 1 < LAYERS.len() {
                let name = format!("features.transition{}", block + 1);
                transitions.push(Transition {
                    norm: build.norm(&format!("{name}.norm"), channels)?,
                    conv: build.conv(&format!("{name}.conv"), (channels, channels / 2), 1, 1)?,
                });
                channels /= 2;
            }
        }
        let last = build.norm("features.norm5", channels)?;
        Ok(Densenet { stem, blocks, transitions, last })
    }

    /// `x [N, S, S, 3]` to the last map `[N, h, w, K]`.
    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<(Tensor, Tape)> {
        let (x, stem) = self.stem.forward(params, Activation::plain(x.clone()), true)?;
        let (x, pool) = stem_pool::forward(&x)?;
        let (mut blocks, mut transitions) = (Vec::new(), Vec::new());
        let mut growing = Growing::new(params, &x, self.blocks[0].len())?;
        for (layers, transition) in self.blocks.iter().zip(self.transitions.iter().map(Some).chain([None])) {
            let mut saved = Vec::with_capacity(layers.len());
            for layer in layers {
                saved.push(layer.forward(params, &mut growing)?);
            }
            blocks.push(saved);
            if let Some(transition) = transition {
                let (y, saved) = transition.forward(params, growing)?;
                transitions.push(saved);
                growing = Growing::new(params, &y, self.blocks[transitions.len()].len())?;
            }
        }
        let (y, last) = self.last.forward(params, growing.x, growing.stats, true)?;
        let y = ops::normalised_sum(y.input(), None, false)?;
        let tape = Tape { stem, pool, blocks, transitions, last };
        Ok((y, tape))
    }

    /// `dy` is the gradient of the last map.
    pub(crate) fn backward(&self, params: &Params, tape: Tape, dy: Tensor, grads: &mut Gradients) -> Result<()> {
        let (mut dy, _) = self.last.backward(params, tape.last, AfterNorm::Relu, &dy, grads)?;
        let mut transitions = tape.transitions;
        for (index, (layers, saved)) in self.blocks.iter().zip(tape.blocks).enumerate().rev() {
            if index < self.transitions.len()
                && let Some(saved) = transitions.pop()
            {
                dy = self.transitions[index].backward(params, saved, &dy, grads)?;
            }
            for (layer, saved) in layers.iter().zip(saved).rev() {
                layer.backward(params, saved, &dy, grads)?;
            }
            dy = dense(dy.narrow(D::Minus1, 0, layers[0].input)?)?.contiguous()?;
        }
        let dy = stem_pool::backward(&tape.pool, &dy)?;
        self.stem.backward_first(params, tape.stem, &dy, grads)
    }

    pub(crate) fn fold(&self, params: &Params, dtype: DType) -> Result<FoldedDensenet> {
        let layer = |layer: &Layer| -> Result<FoldedLayer> {
            let (norm1, conv2) = (layer.norm1.running(params)?, layer.conv2.fold(params, dtype)?);
            Ok(FoldedLayer { norm1, squeeze: layer.squeeze.fold(params, dtype)?, conv2 })
        };
        let blocks = self.blocks.iter().map(|layers| layers.iter().map(layer).collect());
        let transitions = self.transitions.iter().map(|t| Ok((t.norm.running(params)?, t.conv.fold(params, dtype)?)));
        Ok(FoldedDensenet {
            stem: self.stem.fold(params, dtype)?,
            blocks: blocks.collect::<Result<_>>()?,
            transitions: transitions.collect::<Result<_>>()?,
            last: self.last.running(params)?,
        })
    }
}

impl FoldedDensenet {
    /// `x [N, S, S, 3]` to the last map `[N, h, w, K]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (mut x, _) = stem_pool::forward(&Activation::plain(self.stem.forward(x, None)?))?;
        for (index, layers) in self.blocks.iter().enumerate() {
            let mut filled = x.dim(D::Minus1)?;
            let wide = widened(&x, layers.len())?;
            for layer in layers {
                let before = wide.narrow(D::Minus1, 0, filled)?;
                let y = layer.squeeze.forward(Input { x: &before, affine: Some(&layer.norm1) }, None)?;
                wide.slice_set(&ops::conv2d_bias_act(&y, &layer.conv2, None, None, false)?, D::Minus1, filled)?;
                filled += GROWTH;
            }
            x = match self.transitions.get(index) {
                Some((norm, weights)) => {
                    let normed = Input { x: &wide, affine: Some(norm) };
                    ops::avg_pool_forward(&ops::conv2d_bias_act(normed, weights, None, None, false)?, HALVED)?
                }
                None => wide,
            };
        }
        Ok(ops::normalised_sum(Input { x: &x, affine: Some(&self.last) }, None, false)?)
    }
}

impl Layer {
    fn new(build: &mut Builder, name: &str, input: usize) -> Result<Layer> {
        // norm1 before conv1: torchvision's order of the names
        let norm1 = build.norm(&format!("{name}.norm1"), input)?;
        let squeeze = ConvNorm {
            conv: build.conv(&format!("{name}.conv1"), (input, BOTTLENECK), 1, 1)?,
            norm: build.norm(&format!("{name}.norm2"), BOTTLENECK)?,
            relu: true,
        };
        let conv2 = build.conv(&format!("{name}.conv2"), (BOTTLENECK, GROWTH), 3, 1)?;
        Ok(Layer { norm1, squeeze, conv2, input })
    }

    fn forward(&self, params: &Params, growing: &mut Growing) -> Result<LayerSaved> {
        let before = growing.x.narrow(D::Minus1, 0, self.input)?;
        let (y, norm1) = self.norm1.forward(params, before, growing.stats.narrow(0, self.input)?, true)?;
        let (squeezed, squeeze) = self.squeeze.forward(params, y, true)?;
        let squeezed = squeezed.read()?;
        let new = self.conv2.forward_stats(params, &squeezed, &growing.stats.narrow(self.input, GROWTH)?)?;
        growing.x.slice_set(&new, D::Minus1, self.input)?;
        Ok(LayerSaved { norm1, squeeze, squeezed })
    }

    /// `dy` is the gradient of the block's tensor, that of the channels up to this layer's own; the layer adds its part
    /// to that of the channels before.
    fn backward(&self, params: &Params, saved: LayerSaved, dy: &Tensor, grads: &mut Gradients) -> Result<()> {
        let dnew = dense(dy.narrow(D::Minus1, self.input, GROWTH)?)?;
        self.conv2.backward_weight(params, &saved.squeezed, &dnew, grads)?;
        let shape = saved.squeezed.x.dims4()?;
        drop(saved.squeezed);
        let dsqueezed = self.conv2.backward_input(params, &dnew, shape, None)?;
        let dnormed = self.squeeze.backward(params, saved.squeeze, &dsqueezed, None, grads)?;
        let before = dy.narrow(D::Minus1, 0, self.input)?;
        self.norm1.backward_add(params, &saved.norm1, &dnormed, &before, grads)
    }
}

impl Growing {
    /// `x`, with room for so many layers.
    fn new(params: &Params, x: &Tensor, layers: usize) -> Result<Growing> {
        let (channels, wide) = (x.dim(D::Minus1)?, widened(x, layers)?);
        let stats = BatchStats::zeros(wide.dim(D::Minus1)?, x.device())?;
        let of_x = stats.narrow(0, channels)?;
        ops::batch_stats(x, EPS, Some(&of_x))?;
        complete(params, &of_x)?;
        Ok(Growing { x: wide, stats })
    }
}

/// `x`, followed by zeros for what so many layers add.
fn widened(x: &Tensor, layers: usize) -> Result<Tensor> {
    let (n, height, width, channels) = x.dims4()?;
    let wide = Tensor::zeros((n, height, width, channels + layers * GROWTH), x.dtype(), x.device())?;
    wide.slice_set(x, D::Minus1, 0)?;
    Ok(wide)
}

impl Transition {
    fn forward(&self, params: &Params, x: Growing) -> Result<(Tensor, TransitionSaved)> {
        let (normed, norm) = self.norm.forward(params, x.x, x.stats, true)?;
        let normed = normed.read()?;
        let z = self.conv.forward(params, &normed)?;
        let (_, height, width, _) = z.dims4()?;
        let saved = TransitionSaved { norm, normed, side: (height, width) };
        Ok((ops::avg_pool_forward(&z, HALVED)?, saved))
    }

    fn backward(&self, params: &Params, saved: TransitionSaved, dy: &Tensor, grads: &mut Gradients) -> Result<Tensor> {
        let dz = ops::avg_pool_backward(dy, HALVED, saved.side)?;
        self.conv.backward_weight(params, &saved.normed, &dz, grads)?;
        let shape = saved.normed.x.dims4()?;
        drop(saved.normed);
        let dnormed = self.conv.backward_input(params, &dz, shape, None)?;
        let (dx, _) = self.norm.backward(params, saved.norm, AfterNorm::Relu, &dnormed, grads)?;
        Ok(dx)
    }
}
