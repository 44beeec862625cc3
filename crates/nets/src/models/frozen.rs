//! What frozen trunks have in common, on candle's tensors, channels last. None has a backward pass.

use candle_core::Tensor;
use candle_nn::ops::{layer_norm, layer_norm_slow};
use rayon::prelude::*;

use crate::error::Result;
use crate::layers::builder::Builder;
use crate::layers::params::{ParamId, Params};

/// What a layer norm adds to the variance, in DINOv2 and in ConvNeXt.
const EPS: f32 = 1e-6;

/// Weight and bias.
pub(crate) type Affine = (ParamId, ParamId);

/// `{name}.weight` of these dimensions, and `{name}.bias` of the first of them, both 0.
pub(crate) fn affine(build: &mut Builder, name: &str, dims: &[usize]) -> Result<Affine> {
    Ok((build.frozen(&format!("{name}.weight"), dims)?, build.frozen(&format!("{name}.bias"), &dims[..1])?))
}

/// Applies `run` to `x [N, ...]`: on a CPU to each image by itself, as many at a time as there are threads, which bounds
/// memory. A matrix product adds up in an order that depends on its number of rows, and an image's outputs must not depend
/// on its batch.
pub(crate) fn each_image(x: &Tensor, run: &(dyn Fn(&Tensor) -> Result<Tensor> + Sync)) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return run(x);
    }
    let count = x.dim(0)?;
    let mut done = Vec::with_capacity(count);
    for first in (0..count).step_by(rayon::current_num_threads()) {
        let images = first..count.min(first + rayon::current_num_threads());
        let one = |index| run(&x.narrow(0, index, 1)?);
        done.extend(images.into_par_iter().with_max_len(1).map(one).collect::<Result<Vec<_>>>()?);
    }
    Ok(Tensor::cat(&done, 0)?)
}

/// A convolution of `side x side` at stride `side`: `x [n, h, w, c]` to `[n, h / side, w / side, K]`.
pub(crate) fn patches(params: &Params, (weight, bias): Affine, x: &Tensor, side: usize) -> Result<Tensor> {
    let (n, height, width, channels) = x.dims4()?;
    let (rows, columns) = (height / side, width / side);
    let weight = params.get(weight);
    let dim = weight.dim(0)?;
    let cells = x.contiguous()?.reshape((n, rows, side, columns, side * channels))?.transpose(2, 3)?;
    let cells = cells.reshape((n * rows * columns, side * side * channels))?;
    let weight = weight.reshape((dim, side * side * channels))?;
    let product = cells.matmul(&weight.t()?)?.broadcast_add(params.get(bias))?;
    Ok(product.reshape((n, rows, columns, dim))?)
}

/// `x [.., in]` by a linear layer, `[.., out]`.
pub(crate) fn linear(params: &Params, (weight, bias): Affine, x: &Tensor) -> Result<Tensor> {
    let weight = params.get(weight);
    let (mut dims, input) = (x.dims().to_vec(), weight.dim(1)?);
    let product = x.reshape(((), input))?.matmul(&weight.t()?)?.broadcast_add(params.get(bias))?;
    if let Some(last) = dims.last_mut() {
        *last = weight.dim(0)?;
    }
    Ok(product.reshape(dims)?)
}

/// A layer norm over the last dimension.
pub(crate) fn normed(params: &Params, (weight, bias): Affine, x: &Tensor) -> Result<Tensor> {
    let (weight, bias) = (params.get(weight), params.get(bias));
    Ok(match x.device().is_cpu() {
        true => layer_norm(&x.contiguous()?, weight, bias, EPS)?,
        false => layer_norm_slow(x, weight, bias, EPS)?,
    })
}
