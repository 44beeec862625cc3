//! Residual networks (He et al., CVPR 2016), as torchvision has them.

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::layers::activation::Activation;
use crate::layers::builder::Builder;
use crate::layers::conv_norm::{AfterNorm, ConvNorm, Folded, Saved};
use crate::layers::gradients::Gradients;
use crate::layers::params::Params;
use crate::layers::stem_pool;
use crate::models::backbone::Backbone;

/// The numbers in which ResNets differ.
struct Shape {
    /// Channels of the stem.
    stem: usize,
    /// Blocks per stage.
    blocks: [usize; 4],
    /// Channels of each stage's 3x3 convolutions.
    widths: [usize; 4],
    /// Stride of each stage.
    strides: [usize; 4],
    /// 1x1, 3x3, 1x1 with four times the channels, instead of 3x3, 3x3.
    bottleneck: bool,
}

impl Shape {
    fn of(backbone: Backbone) -> Shape {
        let standard = |blocks, bottleneck| Shape {
            stem: 64,
            blocks,
            widths: [64, 128, 256, 512],
            strides: [1, 2, 2, 2],
            bottleneck,
        };
        match backbone {
            Backbone::Resnet18 => standard([2, 2, 2, 2], false),
            Backbone::Resnet34 => standard([3, 4, 6, 3], false),
            Backbone::Resnet50 => standard([3, 4, 6, 3], true),
            Backbone::Resnet101 => standard([3, 4, 23, 3], true),
            Backbone::Mini => {
                Shape { stem: 32, blocks: [1; 4], widths: [32, 64, 128, 256], strides: [1, 2, 2, 1], bottleneck: false }
            }
            Backbone::Mini8 => {
                Shape { stem: 24, blocks: [1; 4], widths: [24, 48, 48, 24], strides: [1, 2, 1, 1], bottleneck: false }
            }
            _ => unreachable!("only residual networks are built here"),
        }
    }
}

/// The layers up to the last map.
#[derive(Debug)]
pub(crate) struct Resnet {
    pub(crate) stem: ConvNorm,
    pub(crate) blocks: Vec<Block<ConvNorm>>,
}

/// Something for each convolution of a residual block: the layer, or what its backward pass needs.
#[derive(Debug)]
pub(crate) struct Block<T> {
    /// Two (basic) or three (bottleneck); the last adds the shortcut.
    pub(crate) main: Vec<T>,
    /// The shortcut's 1x1 convolution, where the shape changes.
    pub(crate) downsample: Option<T>,
}

/// What the backward pass needs.
#[derive(Debug)]
pub(crate) struct Tape {
    stem: Saved,
    pool: stem_pool::Saved,
    /// With each block, its output.
    blocks: Vec<(Block<Saved>, Tensor)>,
}

/// The layers for evaluation.
#[derive(Debug)]
pub(crate) struct FoldedResnet {
    stem: Folded,
    blocks: Vec<Block<Folded>>,
}

impl Resnet {
    pub(crate) fn new(backbone: Backbone, build: &mut Builder) -> Result<Resnet> {
        let shape = Shape::of(backbone);
        let stem = conv_norm(build, "conv1", "bn1", (3, shape.stem), 7, 2, true)?;
        let mut blocks = Vec::new();
        let mut input = shape.stem;
        for stage in 0..4 {
            let width = shape.widths[stage];
            for index in 0..shape.blocks[stage] {
                let name = format!("layer{}.{index}", stage + 1);
                let stride = if index == 0 { shape.strides[stage] } else { 1 };
                let (block, output) = block(build, &name, input, width, stride, shape.bottleneck)?;
                blocks.push(block);
                input = output;
            }
        }
        Ok(Resnet { stem, blocks })
    }

    /// `x [N, S, S, 3]` to the last map `[N, h, w, K]`.
    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<(Tensor, Tape)> {
        let (x, stem) = self.stem.forward(params, Activation::plain(x.clone()), true)?;
        let (mut x, pool) = stem_pool::forward(&x)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, saved) = block.forward(params, x)?;
            blocks.push((saved, y.clone()));
            x = y;
        }
        Ok((x, Tape { stem, pool, blocks }))
    }

    /// `dy` is the gradient of the last map.
    pub(crate) fn backward(&self, params: &Params, tape: Tape, dy: Tensor, grads: &mut Gradients) -> Result<()> {
        let mut dy = dy;
        let mut saved = tape.blocks;
        for block in self.blocks.iter().rev() {
            let Some((saved, y)) = saved.pop() else { break }; // as many as blocks
            dy = block.backward(params, saved, &y, dy, grads)?;
        }
        let dy = stem_pool::backward(&tape.pool, &dy)?;
        self.stem.backward_first(params, tape.stem, &dy, grads)
    }

    pub(crate) fn fold(&self, params: &Params, dtype: DType) -> Result<FoldedResnet> {
        let block = |block: &Block<ConvNorm>| -> Result<Block<Folded>> {
            let main = block.main.iter().map(|layer| layer.fold(params, dtype));
            let downsample = block.downsample.as_ref().map(|layer| layer.fold(params, dtype));
            Ok(Block { main: main.collect::<Result<_>>()?, downsample: downsample.transpose()? })
        };
        Ok(FoldedResnet {
            stem: self.stem.fold(params, dtype)?,
            blocks: self.blocks.iter().map(block).collect::<Result<_>>()?,
        })
    }
}

impl FoldedResnet {
    /// `x [N, S, S, 3]` to the last map `[N, h, w, K]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (mut x, _) = stem_pool::forward(&Activation::plain(self.stem.forward(x, None)?))?;
        for block in &self.blocks {
            let shortcut = match &block.downsample {
                Some(layer) => layer.forward(&x, None)?,
                None => x.clone(),
            };
            let last = block.main.len() - 1;
            for (index, layer) in block.main.iter().enumerate() {
                x = layer.forward(&x, (index == last).then_some(&shortcut))?;
            }
        }
        Ok(x)
    }
}

impl Block<ConvNorm> {
    fn forward(&self, params: &Params, x: Tensor) -> Result<(Tensor, Block<Saved>)> {
        let x = Activation::plain(x);
        let last = self.main.len() - 1;
        let mut main = Vec::with_capacity(self.main.len());
        let mut y = x.clone();
        for (index, layer) in self.main.iter().enumerate() {
            let (next, saved) = layer.forward(params, y, index < last)?;
            main.push(saved);
            y = next;
        }
        let (shortcut, downsample) = match &self.downsample {
            Some(layer) => {
                let (shortcut, saved) = layer.forward(params, x, false)?;
                (shortcut, Some(saved))
            }
            None => (x, None),
        };
        let y = ops::normalised_sum(y.input(), Some(shortcut.input()), true)?;
        Ok((y, Block { main, downsample }))
    }

    /// `y` is the block's output, `dy` its gradient.
    fn backward(
        &self,
        params: &Params,
        saved: Block<Saved>,
        y: &Tensor,
        dy: Tensor,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let Block { mut main, downsample } = saved;
        let (Some(last), Some(join)) = (self.main.last(), main.pop()) else { return Ok(dy) }; // no block is empty
        let (unnormed, dshortcut) = last.backward_norm(params, join, AfterNorm::Join(y), &dy, grads)?;
        drop(dy);
        let mut dx = last.backward_conv(params, unnormed, None, grads)?;
        // The two paths meet in the gradient of the first convolution's input.
        let mut plus = match (&self.downsample, downsample, dshortcut) {
            (Some(layer), Some(saved), Some(dshortcut)) => {
                Some(layer.backward(params, saved, &dshortcut, None, grads)?)
            }
            (_, _, dshortcut) => dshortcut,
        };
        for (index, (layer, saved)) in self.main.iter().zip(main).enumerate().rev() {
            dx = layer.backward(params, saved, &dx, if index == 0 { plus.take() } else { None }, grads)?;
        }
        Ok(dx)
    }
}

fn conv_norm(
    build: &mut Builder,
    conv: &str,
    norm: &str,
    channels: (usize, usize),
    kernel: usize,
    stride: usize,
    relu: bool,
) -> Result<ConvNorm> {
    Ok(ConvNorm { conv: build.conv(conv, channels, kernel, stride)?, norm: build.norm(norm, channels.1)?, relu })
}

/// A block and its number of output channels.
fn block(
    build: &mut Builder,
    name: &str,
    input: usize,
    width: usize,
    stride: usize,
    bottleneck: bool,
) -> Result<(Block<ConvNorm>, usize)> {
    // (channels, kernel, stride); ResNet v1.5: a bottleneck strides in its 3x3
    let (output, convs) = if bottleneck {
        let output = 4 * width;
        let convs = vec![((input, width), 1, 1), ((width, width), 3, stride), ((width, output), 1, 1)];
        (output, convs)
    } else {
        let convs = vec![((input, width), 3, stride), ((width, width), 3, 1)];
        (width, convs)
    };
    let mut main = Vec::with_capacity(convs.len());
    for (index, (channels, kernel, stride)) in convs.into_iter().enumerate() {
        let (conv, norm) = (format!("{name}.conv{}", index + 1), format!("{name}.bn{}", index + 1));
        main.push(conv_norm(build, &conv, &norm, channels, kernel, stride, true)?);
    }
    let downsample = if stride != 1 || input != output {
        let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        Some(conv_norm(build, &conv, &norm, (input, output), 1, stride, false)?)
    } else {
        None
    };
    Ok((Block { main, downsample }, output))
}
