//! Training on CUDA beside training on the CPU: same weights, same pictures.

#![cfg(feature = "cuda")]

use candle_core::{DType, Device, Tensor};
use nets::{Network, OptimizerKind, Pool, Precision};

/// Loss and gradients, and the loss after a step, on a device.
fn step(device: &Device, backbone: &str, side: usize, precision: Precision, kind: OptimizerKind) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mut network = Network::new(backbone.parse().unwrap(), Pool::Max, 1, device).unwrap();
    network.set_precision(precision);
    let mut optimizer = network.optimizer(kind, 0.9, 1e-4).unwrap();
    let noise = |count: usize| (0..count).map(|i| ((i * 2654435761) % 1000) as f32 / 500.0 - 1.0).collect::<Vec<_>>();
    let x = Tensor::from_vec(noise(2 * side * side * 3), (2, side, side, 3), device).unwrap();
    let targets = Tensor::from_vec((0..30).map(|i| (i % 3 == 0) as u8 as f32).collect(), (2, 15), device).unwrap();
    let (first, grads) = network.loss_and_grads(&x, &targets).unwrap();
    let values = |t: &Tensor| t.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let kept = grads.tensors().iter().map(values).collect();
    network.update(&mut optimizer, &grads, 1e-2).unwrap();
    let (second, _) = network.loss_and_grads(&x, &targets).unwrap();
    let logits: Vec<f32> = values(&network.forward_eval(&x).unwrap().logits);
    (std::iter::once(first).chain([second]).chain(logits).collect(), kept)
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let off = square(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
    off / square(&mut b.iter().map(|v| f64::from(*v))).max(1e-12)
}

#[test]
fn agrees_with_the_cpu() {
    let cuda = nets::device("cuda").unwrap();
    for (backbone, side, precision, kind, within) in [
        ("mini", 40, Precision::F32, OptimizerKind::Sgd, 1e-4),
        ("mini", 40, Precision::F32, OptimizerKind::AdamW, 1e-4),
        ("mini", 40, Precision::Bf16, OptimizerKind::Sgd, 0.1),
        ("resnet18", 40, Precision::F32, OptimizerKind::Sgd, 1e-3),
        ("resnet50", 96, Precision::F32, OptimizerKind::Sgd, 1e-2),
        ("densenet121", 64, Precision::F32, OptimizerKind::Sgd, 1e-2),
    ] {
        let (losses, grads) = step(&cuda, backbone, side, precision, kind);
        let (expected, expected_grads) = step(&Device::Cpu, backbone, side, precision, kind);
        let worst = grads.iter().zip(&expected_grads).map(|(a, b)| distance(a, b)).fold(0.0, f64::max);
        println!("{backbone} {precision:?} {kind:?}: values {:.1e}, gradients {worst:.1e}, losses {:?} {:?}", distance(&losses, &expected), &losses[..2], &expected[..2]);
        assert!(distance(&losses, &expected) < within, "{backbone}: {losses:?}, expected {expected:?}");
    }
}
