//! ConvNeXt (Liu et al., CVPR 2022) as timm has it, up to the last map: evaluation only.
//!
//! candle-transformers 0.11.1 has one too, whose output is pooled already; a heat map needs the map.

use candle_core::{CpuStorage, CustomOp3, Layout, Tensor};
use rayon::prelude::*;

use crate::error::Result;
use crate::layers::builder::Builder;
use crate::layers::params::{ParamId, Params};
use crate::models::backbone::Backbone;
use crate::models::frozen::{Affine, affine, each_image, linear, normed, patches};
use crate::models::gelu::gelu;

/// Side of a depthwise convolution, px of its map.
const KERNEL: usize = 7;
/// Width of a block's hidden layer, in widths of its map.
const HIDDEN: usize = 4;

/// The layers.
#[derive(Debug)]
pub(crate) struct Convnext {
    stem: (Affine, Affine),
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    /// A layer norm and a convolution of 2x2 at stride 2; none in the first stage.
    downsample: Option<(Affine, Affine)>,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    depthwise: Affine,
    norm: Affine,
    fc1: Affine,
    fc2: Affine,
    gamma: ParamId,
}

/// Blocks and widths of the four stages.
fn shape(backbone: Backbone) -> [(usize, usize); 4] {
    match backbone {
        Backbone::ConvnextTiny => [(3, 96), (3, 192), (9, 384), (3, 768)],
        Backbone::ConvnextBase => [(3, 128), (3, 256), (27, 512), (3, 1024)],
        Backbone::ConvnextTest => [(1, 8), (1, 16), (2, 24), (1, 32)],
        _ => unreachable!("only ConvNeXts are built here"),
    }
}

impl Convnext {
    /// With weights of 0, which wait for others; names and shapes are timm's.
    pub(crate) fn new(backbone: Backbone, build: &mut Builder) -> Result<Convnext> {
        let shape = shape(backbone);
        let first = shape[0].1;
        let stem = (affine(build, "stem.0", &[first, 4, 4, 3])?, affine(build, "stem.1", &[first])?);
        let mut stages = Vec::new();
        let mut before = first;
        for (index, (count, width)) in shape.into_iter().enumerate() {
            let stage = |name: &str| format!("stages.{index}.{name}");
            let downsample = match index {
                0 => None,
                _ => Some((
                    affine(build, &stage("downsample.0"), &[before])?,
                    affine(build, &stage("downsample.1"), &[width, 2, 2, before])?,
                )),
            };
            let mut blocks = Vec::new();
            for block in 0..count {
                let layer = |name: &str| stage(&format!("blocks.{block}.{name}"));
                blocks.push(Block {
                    depthwise: affine(build, &layer("conv_dw"), &[width, KERNEL, KERNEL, 1])?,
                    norm: affine(build, &layer("norm"), &[width])?,
                    fc1: affine(build, &layer("mlp.fc1"), &[HIDDEN * width, width])?,
                    fc2: affine(build, &layer("mlp.fc2"), &[width, HIDDEN * width])?,
                    gamma: build.frozen(&layer("gamma"), &[width])?,
                });
            }
            stages.push(Stage { downsample, blocks });
            before = width;
        }
        Ok(Convnext { stem, stages })
    }

    /// `x [N, S, S, 3]` to the last map `[N, S / 32, S / 32, K]`, before the head's layer norm.
    pub(crate) fn forward(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        each_image(x, &|x| self.map(params, x))
    }

    fn map(&self, params: &Params, x: &Tensor) -> Result<Tensor> {
        let mut x = normed(params, self.stem.1, &patches(params, self.stem.0, x, 4)?)?;
        for stage in &self.stages {
            if let Some((norm, conv)) = stage.downsample {
                x = patches(params, conv, &normed(params, norm, &x)?, 2)?;
            }
            for block in &stage.blocks {
                let y = depthwise(&x, params.get(block.depthwise.0), params.get(block.depthwise.1))?;
                let y = gelu(&linear(params, block.fc1, &normed(params, block.norm, &y)?)?)?;
                let y = linear(params, block.fc2, &y)?.broadcast_mul(params.get(block.gamma))?;
                x = (x + y)?;
            }
        }
        Ok(x)
    }
}

/// The convolution of each channel of `x [n, h, w, C]` with its own `weight [C, 7, 7, 1]`, plus `bias [C]`; the same side.
fn depthwise(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let channels = weight.dim(0)?;
    if x.device().is_cpu() {
        let taps = weight.reshape((channels, KERNEL * KERNEL))?.t()?.contiguous()?; // [49, C]
        return Ok(x.contiguous()?.apply_op3_no_bwd(&taps, &bias.contiguous()?, &Depthwise)?);
    }
    // A device adds up the shifted maps, tap by tap; candle's convolution by groups would start one per channel.
    let taps = weight.permute((1, 2, 3, 0))?.contiguous()?; // [7, 7, 1, C]
    let (_, height, width, _) = x.dims4()?;
    let (half, mut sums) = (KERNEL / 2, bias.broadcast_as(x.shape())?.contiguous()?);
    let padded = x.pad_with_zeros(1, half, half)?.pad_with_zeros(2, half, half)?;
    for (row, column) in (0..KERNEL).flat_map(|row| (0..KERNEL).map(move |column| (row, column))) {
        let tap = taps.narrow(0, row, 1)?.narrow(1, column, 1)?;
        let shifted = padded.narrow(1, row, height)?.narrow(2, column, width)?;
        sums = (sums + shifted.broadcast_mul(&tap)?)?;
    }
    Ok(sums)
}

struct Depthwise;

impl CustomOp3 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        taps: &CpuStorage,
        taps_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
        let part = |storage: &CpuStorage, layout: &Layout| -> candle_core::Result<Vec<f32>> {
            match layout.contiguous_offsets() {
                Some((start, end)) => Ok(storage.as_slice::<f32>()?[start..end].to_vec()),
                None => candle_core::bail!("a strided tensor"),
            }
        };
        let (_, height, width, channels) = layout.shape().dims4()?;
        let (x, taps, bias) = (part(x, layout)?, part(taps, taps_layout)?, part(bias, bias_layout)?);
        let mut out = vec![0.0; x.len()];
        let half = KERNEL / 2;
        out.par_chunks_mut(width * channels).enumerate().for_each(|(row, out)| {
            let (image, y) = (row / height, row % height);
            out.chunks_exact_mut(channels).for_each(|cell| cell.copy_from_slice(&bias));
            for tap_y in 0..KERNEL {
                let Some(from_y) = (y + tap_y).checked_sub(half).filter(|&from| from < height) else { continue };
                let source = &x[(image * height + from_y) * width * channels..][..width * channels];
                for tap_x in 0..KERNEL {
                    let tap = &taps[(tap_y * KERNEL + tap_x) * channels..][..channels];
                    for at in half.saturating_sub(tap_x)..width.min(width + half - tap_x.min(width + half)) {
                        let cell = &source[(at + tap_x - half) * channels..][..channels];
                        let out = &mut out[at * channels..][..channels];
                        out.iter_mut().zip(cell).zip(tap).for_each(|((out, value), tap)| *out += value * tap);
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}
