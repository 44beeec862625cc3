//! Vision transformers (Dosovitskiy et al., ICLR 2021) as DINOv2 has them (Oquab et al., TMLR 2024): evaluation only.
//!
//! candle-transformers 0.11.1 has a DINOv2 too, but its outputs are not the reference's: its GELU is the tanh approximation,
//! its layer norms add 1e-5 instead of 1e-6, it enlarges position embeddings by nearest neighbours instead of a bicubic, and
//! it wants the weights of a classifier. Its fields are private, so the network is written here, on candle's tensors.

use candle_core::{D, Device, Tensor};
use candle_nn::ops::{softmax, softmax_last_dim};

use crate::colours::COLOURS;
use crate::error::Result;
use crate::layers::builder::Builder;
use crate::layers::params::{ParamId, Params};
use crate::models::backbone::Backbone;
use crate::models::frozen::{Affine, affine, each_image, linear, normed, patches};
use crate::models::gelu::gelu;
use crate::models::positions::bicubic;

/// Width of the MLP's hidden layer, in widths of the tokens.
const HIDDEN: usize = 4;

/// The numbers in which these networks differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) depth: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// Side of a patch, px.
    pub(crate) patch: usize,
    /// Patches in a row of the images that the weights were trained on: 518 px are 37.
    pub(crate) grid: usize,
    /// Mean and deviation by which inputs are to be normalised, of 1; `None` for ImageNet's.
    colours: Option<(f64, f64)>,
}

impl Shape {
    pub(crate) fn of(backbone: Backbone) -> Shape {
        let dinov2 = |depth, width, heads| Shape { depth, width, heads, patch: 14, grid: 37, colours: None };
        match backbone {
            Backbone::DinoV2Vits14 => dinov2(12, 384, 6),
            Backbone::DinoV2Vitb14 => dinov2(12, 768, 12),
            // image_mean and image_std of its preprocessor_config.json
            Backbone::RadDino => Shape { colours: Some((0.5307, 0.2583)), ..dinov2(12, 768, 12) },
            Backbone::DinoV2Tiny => Shape { grid: 4, ..dinov2(2, 32, 4) },
            _ => unreachable!("a convolutional trunk is not built here"),
        }
    }
}

/// The layers up to the normalised tokens.
#[derive(Debug)]
pub(crate) struct Vit {
    shape: Shape,
    class: ParamId,
    positions: ParamId,
    patches: Affine,
    blocks: Vec<Block>,
    norm: Affine,
}

#[derive(Debug)]
struct Block {
    norm1: Affine,
    qkv: Affine,
    proj: Affine,
    scale1: ParamId,
    norm2: Affine,
    fc1: Affine,
    fc2: Affine,
    scale2: ParamId,
}

impl Vit {
    /// With weights of 0, which wait for others; names and shapes are those of DINOv2's own files.
    pub(crate) fn new(backbone: Backbone, build: &mut Builder) -> Result<Vit> {
        let shape = Shape::of(backbone);
        let width = shape.width;
        let patches = affine(build, "patch_embed.proj", &[width, shape.patch, shape.patch, 3])?;
        let norm = affine(build, "norm", &[width])?;
        let mut blocks = Vec::with_capacity(shape.depth);
        for index in 0..shape.depth {
            let layer = |name: &str| format!("blocks.{index}.{name}");
            blocks.push(Block {
                norm1: affine(build, &layer("norm1"), &[width])?,
                qkv: affine(build, &layer("attn.qkv"), &[3 * width, width])?,
                proj: affine(build, &layer("attn.proj"), &[width, width])?,
                norm2: affine(build, &layer("norm2"), &[width])?,
                fc1: affine(build, &layer("mlp.fc1"), &[HIDDEN * width, width])?,
                fc2: affine(build, &layer("mlp.fc2"), &[width, HIDDEN * width])?,
                scale1: build.frozen(&layer("ls1.gamma"), &[width])?,
                scale2: build.frozen(&layer("ls2.gamma"), &[width])?,
            });
        }
        let class = build.frozen("cls_token", &[1, 1, width])?;
        let positions = build.frozen("pos_embed", &[1, shape.grid * shape.grid + 1, width])?;
        Ok(Vit { shape, class, positions, patches, blocks, norm })
    }

    /// `x [N, S, S, 3]`, normalised by ImageNet's colours, to the map of patch tokens `[N, h, w, K]` and the class tokens
    /// `[N, K]`, both behind the last layer norm.
    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (n, height, width, _) = x.dims4()?;
        let (rows, columns) = (height / self.shape.patch, width / self.shape.patch);
        let positions = self.positions(params, (rows, columns))?;
        let tokens = each_image(x, &|x| self.tokens(params, x, &positions))?;
        let class = tokens.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        let map = tokens.narrow(1, 1, rows * columns)?.reshape((n, rows, columns, self.shape.width))?;
        Ok((map.contiguous()?, class))
    }

    /// The position embeddings `[1, 1 + h w, K]` for a grid of patches, as transformers 5 interpolates them: bicubic, by
    /// the sizes (Meta's code scales by a factor that is a tenth of a patch off, timm's blurs before it shrinks).
    fn positions(&self, params: &Params, grid: (usize, usize)) -> Result<Tensor> {
        let (all, side, width) = (params.get(self.positions), self.shape.grid, self.shape.width);
        if grid == (side, side) {
            return Ok(all.clone());
        }
        let values = all.narrow(1, 1, side * side)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let patches = bicubic(&values, side, grid, width);
        let patches = Tensor::from_vec(patches, (1, grid.0 * grid.1, width), all.device())?;
        Ok(Tensor::cat(&[&all.narrow(1, 0, 1)?, &patches], 1)?)
    }

    /// `[n, S, S, 3]` to `[n, 1 + h w, K]`.
    fn tokens(&self, params: &Params, x: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let (n, dim) = (x.dim(0)?, self.shape.width);
        let embedded = patches(params, self.patches, &self.recoloured(x)?, self.shape.patch)?;
        let embedded = embedded.flatten(1, 2)?;
        let class = params.get(self.class).broadcast_as((n, 1, dim))?;
        let mut x = Tensor::cat(&[&class, &embedded], 1)?.broadcast_add(positions)?;
        for block in &self.blocks {
            x = block.forward(params, &x, self.shape.heads)?;
        }
        normed(params, self.norm, &x)
    }

    /// Inputs normalised by the colours that the weights were trained with.
    fn recoloured(&self, x: &Tensor) -> Result<Tensor> {
        let Some((mean, deviation)) = self.shape.colours else { return Ok(x.contiguous()?) };
        let scale = COLOURS.deviation.map(|theirs| (f64::from(theirs) / deviation) as f32);
        let shift = COLOURS.mean.map(|theirs| ((f64::from(theirs) - mean) / deviation) as f32);
        let [scale, shift] = [Tensor::new(&scale, x.device())?, Tensor::new(&shift, x.device())?];
        Ok(x.broadcast_mul(&scale)?.broadcast_add(&shift)?)
    }
}

impl Block {
    /// `[n, T, K]` to the same.
    fn forward(&self, params: &Params, x: &Tensor, heads: usize) -> Result<Tensor> {
        let attended = self.attention(params, &normed(params, self.norm1, x)?, heads)?;
        let x = (x + attended.broadcast_mul(params.get(self.scale1))?)?;
        let hidden = gelu(&linear(params, self.fc1, &normed(params, self.norm2, &x)?)?)?;
        let mixed = linear(params, self.fc2, &hidden)?.broadcast_mul(params.get(self.scale2))?;
        Ok((x + mixed)?)
    }

    fn attention(&self, params: &Params, x: &Tensor, heads: usize) -> Result<Tensor> {
        let (n, tokens, width) = x.dims3()?;
        let qkv = linear(params, self.qkv, x)?.reshape((n, tokens, 3, heads, width / heads))?;
        let part = |index: usize| -> Result<Tensor> {
            Ok(qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?) // [n, heads, T, K / heads]
        };
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let scores = (part(0)? * scale)?.matmul(&part(1)?.t()?)?;
        let shares = if x.device().is_cpu() { softmax_last_dim(&scores)? } else { softmax(&scores, D::Minus1)? };
        let mixed = shares.matmul(&part(2)?)?.transpose(1, 2)?.reshape((n, tokens, width))?;
        linear(params, self.proj, &mixed)
    }
}
