//! Our networks against PyTorch's, and against candle-transformers' for evaluation.
//!
//! `make.py` wrote the fixtures and says why the example is what it is. Weights, images and targets are not stored but
//! made from their names by [`uniform`], there and here bit for bit.

#![expect(clippy::print_stdout, reason = "the figures, for `cargo test -- --nocapture`")]

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use nets::{Backbone, Network, OptimizerKind, Pool, weights};
use safetensors::SafeTensors;
use tempfile::TempDir;

mod convnext;
mod dinov2;
mod export;
mod options;
mod oracle;

const SIDE: usize = 64;
const BATCH: usize = 4;
const SAMPLE: usize = 128;
const LR: f64 = 0.002;
const MOMENTUM: f64 = 0.9;
const WEIGHT_DECAY: f64 = 1e-4;

/// Largest difference of logits, in the largest logit.
const LOGITS: f64 = 1e-4;
/// Largest relative difference of a loss.
const LOSSES: f64 = 1e-3;
/// A gradient may be so many times as far from the f64 one as PyTorch's f32 gradient is,
const TIMES: f64 = 2.0;
/// or this far, relative to its norm, where PyTorch happens to be closer.
const FLOOR: f64 = 1e-6;

#[test]
fn resnet50() {
    compare(Backbone::Resnet50, 47);
}

#[test]
fn densenet121() {
    compare(Backbone::Densenet121, 223);
}

fn compare(backbone: Backbone, salt: u64) {
    let path = folder().join(backbone.name()).join("expected.safetensors");
    let expected = Expected(fs_err::read(path).unwrap());
    let mut network = network(backbone, Pool::Max, salt);
    let (images, targets) = example(salt);
    let [images, targets] = [images, targets].map(|tensor| tensor.to_device(network.device()).unwrap());

    let logits = network.forward_eval(&images).unwrap().logits;
    close("eval logits", &values(&logits), &expected.values("eval_logits"), LOGITS);

    let mut optimizer = network.optimizer(OptimizerKind::Sgd, MOMENTUM, WEIGHT_DECAY).unwrap();
    for (step, expected_loss) in expected.values("losses").into_iter().enumerate() {
        let (loss, grads) = network.loss_and_grads(&images, &targets).unwrap();
        let loss = loss.to_scalar::<f32>().unwrap();
        if step == 0 {
            close("train logits", &values(grads.logits()), &expected.values("train_logits"), LOGITS);
            gradients(&network, grads.tensors(), &expected, salt);
        }
        close(&format!("loss of step {step}"), &[loss.into()], &[expected_loss], LOSSES);
        network.update(&mut optimizer, &grads, LR).unwrap();
    }
    // the loss's last forward pass came before the last step, and evaluation adds the running statistics
    let logits = network.forward_eval(&images).unwrap().logits;
    close("eval logits after training", &values(&logits), &expected.values("logits_after"), LOSSES);
}

/// Every gradient against the f64 one, by the stored sample of its elements.
fn gradients(network: &Network, grads: &[Tensor], expected: &Expected, salt: u64) {
    let mut failures = Vec::new();
    let (mut worst, mut sum, mut sum_torch) = (0.0f64, 0.0, 0.0);
    let names: Vec<&str> = network.trained().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), grads.len());
    for (name, grad) in names.iter().zip(grads) {
        let grad = match grad.rank() {
            4 => values(&grad.permute((0, 3, 1, 2)).unwrap()),
            _ => values(grad),
        };
        let count = grad.len() as u64;
        let index: Vec<usize> = if grad.len() > SAMPLE {
            bits(&format!("sample {name}"), salt).take(SAMPLE).map(|bits| (bits % count) as usize).collect()
        } else {
            (0..grad.len()).collect()
        };
        let exact = expected.values(&format!("grad {name}"));
        assert_eq!(exact.len(), index.len(), "{name}");
        let [torch_sample, torch_whole, _] = expected.values(&format!("error {name}"))[..] else {
            panic!("{name}: three numbers expected");
        };
        let (mut difference, mut norm) = (0.0, 0.0);
        for (&at, exact) in index.iter().zip(&exact) {
            difference += (grad[at] - exact).powi(2);
            norm += exact.powi(2);
        }
        let ours = (difference / norm).sqrt();
        let torch = torch_sample.max(torch_whole);
        worst = worst.max(ours / torch);
        sum += ours.ln();
        sum_torch += torch.ln();
        if ours.is_nan() || ours > TIMES * torch + FLOOR {
            failures.push(format!("{name}: {ours:.2e} from the f64 gradient, PyTorch {torch:.2e}"));
        }
    }
    let mean = |sum: f64| (sum / grads.len() as f64).exp();
    println!(
        "{} gradients: geometric mean of the errors {:.2e}, PyTorch's {:.2e}; largest ratio {worst:.2}",
        grads.len(),
        mean(sum),
        mean(sum_torch)
    );
    assert!(failures.is_empty(), "{} gradients:\n{}", failures.len(), failures.join("\n"));
}

/// The difference is at most `tolerance` of the largest expected value.
fn close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f64, |scale, value| scale.max(value.abs()));
    let pairs = got.iter().zip(expected);
    let worst = pairs
        .map(|(got, expected)| (got - expected).abs() / scale)
        .fold(0.0f64, |worst, error| if error.is_nan() { f64::NAN } else { worst.max(error) });
    println!("{what}: {worst:.2e}");
    assert!(worst <= tolerance, "{what}: relative difference {worst:.2e}, allowed {tolerance:.0e}");
}

/// A fixture.
struct Expected(Vec<u8>);

impl Expected {
    fn values(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        match tensor.dtype() {
            safetensors::Dtype::F32 => {
                tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes).into()).collect()
            }
            safetensors::Dtype::F64 => {
                tensor.data().as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()
            }
            other => panic!("{name} is {other:?}"),
        }
    }
}

/// This folder; a test that runs on another machine than it was built on is told where the crate is.
fn folder() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&root).join("tests/parity")
}

/// Where the tests run: the CPU, or the device that `AGCNN_DEVICE` names.
fn device() -> Device {
    nets::device(&std::env::var("AGCNN_DEVICE").unwrap_or_else(|_| "cpu".to_owned())).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// A network with the weights that `make.py` gives it.
fn network(backbone: Backbone, pool: Pool, salt: u64) -> Network {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let mut network = Network::new(backbone, pool, 0, &device()).unwrap();
    network.save(&path, None).unwrap();
    let (tensors, meta) = weights::read(&path, &Device::Cpu).unwrap();
    let tensors: Vec<_> = tensors
        .into_iter()
        .map(|(name, tensor)| {
            let value = value(&name, tensor.dims(), salt);
            (name, value)
        })
        .collect();
    weights::write(&path, &tensors, &meta).unwrap();
    network.load(&path).unwrap();
    network
}

/// Images `[N, S, S, 3]` and targets.
fn example(salt: u64) -> (Tensor, Tensor) {
    let images = uniform("pictures", &[BATCH, SIDE, SIDE, 3], -2.0, 2.0, salt);
    let chances = uniform("targets", &[BATCH, cxr::OUTPUTS], 0.0, 1.0, salt);
    let targets = chances.lt(0.3f32).unwrap().to_dtype(candle_core::DType::F32).unwrap();
    (images, targets)
}

/// A parameter or running statistic by its name and shape.
fn value(name: &str, shape: &[usize], salt: u64) -> Tensor {
    if shape.len() > 1 {
        let fan = shape[1..].iter().product::<usize>() as f64;
        let bound = (if shape.len() == 4 { 6.0 } else { 0.06 } / fan).sqrt();
        return uniform(name, shape, -bound, bound, salt);
    }
    let (low, high) = match name.rsplit_once('.') {
        Some((_, "running_var")) => (0.5, 1.5),
        Some((_, "weight")) => (0.75, 1.25),
        Some((_, "bias")) => (0.25, 2.0),
        _ => (-0.1, 0.1),
    };
    uniform(name, shape, low, high, salt)
}

/// f32 in low .. high; computed in f64 and rounded once.
fn uniform(name: &str, shape: &[usize], low: f64, high: f64, salt: u64) -> Tensor {
    let count = shape.iter().product();
    let unit = bits(name, salt).take(count).map(|bits| (bits >> 40) as f64 / (1u64 << 24) as f64);
    let values: Vec<f32> = unit.map(|unit| (low + (high - low) * unit) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// splitmix64 from FNV-1a of the name.
fn bits(name: &str, salt: u64) -> impl Iterator<Item = u64> + use<> {
    let start = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (1u64..).map(move |index| {
        let x = start.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    })
}
