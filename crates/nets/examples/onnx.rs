//! A network and a fusion layer as ONNX files, with what they must give: for `crates/e2e/python/test_onnx.py`.
//!
//! Arguments: folder, backbone, pool, statistic of the heat map, where its cells lie (`grid` or `receptive`), side of the
//! stored images and of the input in pixels.
//! The weights are random, as are the batch norms; the running statistics are those of random pictures, so that
//! activations keep their size. Writes into the folder:
//!
//! | file | contents |
//! |---|---|
//! | `branch.onnx`, `fusion.onnx` | the graphs |
//! | `weights.safetensors` | the branch's weights |
//! | `images.npy` | 3 stored images `[3, side, side]`, whole numbers from 0 to 255 as `f32` |
//! | `features.npy`, `logits.npy`, `map.npy` | what the branch makes of them: `[3, K]`, `[3, 15]`, `[3, h, w, K]` |
//! | `fusion_logits.npy` | what the fusion layer makes of `features` as both branches', `[3, 15]` |

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use cxr::heatmap::{Alignment, Normalise};
use cxr::{EvalCrop, EvalFrame, Labels, Tta};
use nets::onnx::HeatMap;
use nets::{Backbone, Evaluated, Images, Network, Pool, Scores, Taken, onnx, weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const IMAGES: usize = 3;
const SEED: u64 = 7;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, backbone, pool, statistic, alignment, image_px, input_px] = &arguments[..] else {
        return Err("onnx FOLDER BACKBONE POOL STATISTIC ALIGNMENT IMAGE_PX INPUT_PX".into());
    };
    let folder = Path::new(folder);
    let frame = EvalFrame { crop: EvalCrop::Centre, image_px: image_px.parse()?, input_px: input_px.parse()? };
    let backbone: Backbone = backbone.parse()?;
    let cells = match alignment.parse::<Alignment>()? {
        Alignment::Grid => None,
        Alignment::Receptive => Some(backbone.cells()),
    };
    let heat_map = HeatMap { statistic: statistic.parse()?, normalise: Normalise::Minmax, cells };
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);

    let path = folder.join("weights.safetensors");
    let network = lifelike(backbone, pool.parse()?, frame, &path, &mut rng)?;
    network.save(&path, Some(frame))?;
    onnx::write(&network, (frame, Tta::None), Some(heat_map), &folder.join("branch.onnx"))?;

    let images = pictures(IMAGES, frame.image_px, &mut rng);
    let stored: Vec<f32> = images.pixels().into_iter().flatten().map(|&grey| grey.into()).collect();
    save(folder, "images", Tensor::from_vec(stored, (IMAGES, frame.image_px, frame.image_px), &Device::Cpu)?)?;
    let (mut features, mut logits, mut map) = (Vec::new(), Vec::new(), Vec::new());
    nets::evaluate(&network, &images, frame, Tta::None, IMAGES, &mut |batch: Scores| -> nets::Result<_> {
        features.extend(batch.pool);
        logits.extend(batch.logits.into_iter().flatten());
        Ok(ControlFlow::Continue(()))
    })?;
    let whole = |evaluated: Evaluated| Ok([evaluated.map]);
    nets::evaluate_with(&network, &images, frame, IMAGES, &whole, &mut |batch: Taken<1>| -> nets::Result<_> {
        map.extend(batch.values.into_iter().flatten());
        Ok(ControlFlow::Continue(()))
    })?;
    let (channels, side) = (network.backbone().channels(), network.backbone().map_side(frame.input_px));
    let features = Tensor::from_vec(features, (IMAGES, channels), &Device::Cpu)?;
    save(folder, "features", features.clone())?;
    save(folder, "logits", Tensor::from_vec(logits, (IMAGES, cxr::OUTPUTS), &Device::Cpu)?)?;
    save(folder, "map", Tensor::from_vec(map, (IMAGES, side, side, channels), &Device::Cpu)?)?;

    let weight = uniform(&mut rng, &[cxr::OUTPUTS, 2 * channels], -0.02, 0.02)?;
    let bias = uniform(&mut rng, &[cxr::OUTPUTS], -1.0, 1.0)?;
    onnx::write_fusion(&weight, Some(&bias), [channels; 2], &folder.join("fusion.onnx"))?;
    let both = Tensor::cat(&[&features, &features], 1)?;
    save(folder, "fusion_logits", both.matmul(&weight.t()?)?.broadcast_add(&bias)?)
}

fn save(folder: &Path, name: &str, tensor: Tensor) -> Result<()> {
    Ok(tensor.write_npy(folder.join(format!("{name}.npy")))?)
}

/// A network whose batch norms are far from the identity, with the running statistics of its own activations.
///
/// A random network amplifies rounding from layer to layer, the more so the larger its batch norms' scales and the more
/// activations its ReLUs cut off: with scales of 0.5 to 1.5 and shifts of -0.5 to 0.5, PyTorch's own f32 features of a
/// ResNet-50 are 1e-4 from those in f64. With these, they are 4e-6.
fn lifelike(backbone: Backbone, pool: Pool, frame: EvalFrame, path: &Path, rng: &mut ChaCha8Rng) -> Result<Network> {
    const BATCH: usize = 4;
    const PASSES: usize = 15; // each moves the running statistics by a tenth
    const SIDE: usize = 64;
    let mut network = Network::new(backbone, pool, SEED, &Device::Cpu)?;
    network.save(path, Some(frame))?;
    let (tensors, meta) = weights::read(path, &Device::Cpu)?;
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let drawn = match (tensor.rank(), name.rsplit_once('.')) {
            (1, Some((_, "weight"))) => uniform(rng, tensor.dims(), 0.4, 0.8)?,
            (1, Some((_, "bias"))) => uniform(rng, tensor.dims(), 0.0, 1.0)?,
            _ => tensor,
        };
        Ok((name, drawn))
    });
    weights::write(path, &tensors.collect::<Result<Vec<_>>>()?, &meta)?;
    network.load(path)?;
    let targets = Tensor::zeros((BATCH, cxr::OUTPUTS), DType::F32, &Device::Cpu)?;
    for _ in 0..PASSES {
        let grey: Vec<f32> =
            pictures(BATCH, SIDE, rng).pixels().into_iter().flatten().map(|&grey| grey.into()).collect();
        let x = Tensor::from_vec(grey, (BATCH, SIDE, SIDE, 1), &Device::Cpu)?;
        let x = ((x / 255.0)? - 0.45)?.affine(1.0 / 0.226, 0.0)?; // ImageNet's, on average over the colours
        network.loss_and_grads(&x.broadcast_as((BATCH, SIDE, SIDE, 3))?.contiguous()?, &targets)?;
    }
    Ok(network)
}

/// Waves of any direction and length, with noise on them.
fn pictures(count: usize, size: usize, rng: &mut ChaCha8Rng) -> Images {
    let mut images = Images::in_memory(size, count);
    for _ in 0..count {
        let waves: [[f32; 4]; 6] = std::array::from_fn(|_| {
            [
                rng.random_range(-0.3..0.3),
                rng.random_range(-0.3..0.3),
                rng.random_range(0.0..6.3),
                rng.random_range(5.0..30.0),
            ]
        });
        let mut image = Vec::with_capacity(size * size);
        for (y, x) in (0..size).flat_map(|y| (0..size).map(move |x| (y as f32, x as f32))) {
            let waves = waves.iter().map(|[u, v, phase, height]| height * (u * x + v * y + phase).sin()).sum::<f32>();
            image.push((120.0 + waves + rng.random_range(-20.0..20.0)) as u8);
        }
        images.push(&image, Labels::default()).expect("an image of that size, in memory");
    }
    images
}

fn uniform(rng: &mut ChaCha8Rng, dims: &[usize], low: f32, high: f32) -> Result<Tensor> {
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| rng.random_range(low..high)).collect();
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}
