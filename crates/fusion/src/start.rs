use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::Linear;
use cxr::OUTPUTS;
use nets::weights;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Config, Error, Init, Samples};

/// The layer before the first step: weight `[15, D]`, bias `[15]`.
///
/// `branches` are the weights files of global and local, which [`Init::Branches`] reads the last layers of. Random
/// weights are uniform within ±1/√D, as those of PyTorch's `nn.Linear`.
///
/// # Errors
/// A weights file that is none, has another finding order, or whose last layer does not fit the features.
pub fn start(
    config: &Config,
    samples: &Samples,
    branches: [&Path; 2],
    seed: u64,
    device: &Device,
) -> Result<Linear, Error> {
    match config.init {
        Init::Random => random(samples.dim(), seed, device),
        Init::Branches => {
            let [global, local] = [0, 1].map(|which| last_layer(branches[which], samples.dims()[which], device));
            let ((global, global_bias), (local, local_bias)) = (global?, local?);
            let weight = (Tensor::cat(&[global, local], 1)? * 0.5)?;
            let bias = ((global_bias + local_bias)? * 0.5)?;
            Ok(Linear::new(weight, Some(bias)))
        }
    }
}

fn random(dim: usize, seed: u64, device: &Device) -> Result<Linear, Error> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let bound = 1.0 / (dim as f32).sqrt();
    let mut uniform = |count: usize| (0..count).map(|_| random.random_range(-bound..=bound)).collect::<Vec<f32>>();
    let weight = Tensor::from_vec(uniform(OUTPUTS * dim), (OUTPUTS, dim), device)?;
    let bias = Tensor::from_vec(uniform(OUTPUTS), OUTPUTS, device)?;
    Ok(Linear::new(weight, Some(bias)))
}

/// Weight `[15, K]` and bias `[15]` of a branch: `fc` in a ResNet, `classifier` in a DenseNet.
fn last_layer(path: &Path, dim: usize, device: &Device) -> Result<(Tensor, Tensor), Error> {
    let (tensors, _) = weights::read(path, device)?;
    let find = |suffix: &str, shape: &[usize]| {
        let named = |name: &str| ["fc", "classifier"].iter().any(|layer| name == format!("{layer}.{suffix}"));
        let found = tensors.iter().find(|(name, _)| named(name)).map(|(_, tensor)| tensor);
        match found {
            Some(tensor) if tensor.dims() == shape => Ok(tensor.clone()),
            _ => Err(Error::Head {
                path: path.to_owned(),
                expected: format!("with {suffix} {shape:?}"),
                got: found.map_or("none".to_owned(), |tensor| format!("{:?}", tensor.dims())),
            }),
        }
    };
    Ok((find("weight", &[OUTPUTS, dim])?, find("bias", &[OUTPUTS])?))
}
