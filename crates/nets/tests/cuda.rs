//! The same training on CUDA as on the CPU: steps, inputs, losses, checkpoints.

#![cfg(feature = "cuda")]

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use cxr::OUTPUTS;
use nets::{Error, Event, Fit, Network, OptimizerKind, Pictures, Pool, Precision, Recipe, Schedule, View, fit, score};

fn cuda() -> Device {
    nets::device("cuda").unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// How far `got` is from `expected`, relative to its length.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let length = |squares: &mut dyn Iterator<Item = f32>| squares.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let off = length(&mut got.iter().zip(expected).map(|(a, b)| a - b));
    off / length(&mut expected.iter().copied()).max(1e-12)
}

/// What two steps of training say: two losses, the first gradients, the logits of an evaluation afterwards.
fn steps(device: &Device, backbone: &str, side: usize, precision: Precision, kind: OptimizerKind) -> [Vec<f32>; 3] {
    let mut network = Network::new(backbone.parse().unwrap(), Pool::Max, 1, device).unwrap();
    network.set_precision(precision).unwrap();
    let mut optimizer = network.optimizer(kind, 0.9, 1e-4).unwrap();
    let noise: Vec<f32> = (0..2 * side * side * 3).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect();
    let x = Tensor::from_vec(noise, (2, side, side, 3), device).unwrap();
    let targets = (0..2 * OUTPUTS).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
    let targets = Tensor::from_vec(targets, (2, OUTPUTS), device).unwrap();
    let (first, grads) = network.loss_and_grads(&x, &targets).unwrap();
    let kept = grads.tensors().iter().flat_map(values).collect();
    network.update(&mut optimizer, &grads, 1e-2).unwrap();
    let (second, _) = network.loss_and_grads(&x, &targets).unwrap();
    let logits = values(&network.forward_eval(&x).unwrap().logits);
    [values(&first).into_iter().chain(values(&second)).collect(), kept, logits]
}

#[test]
fn steps_agree_with_the_cpu() {
    use OptimizerKind::{AdamW, Sgd};
    use Precision::{F32, Tf32};
    for (backbone, side, precision, kind, within) in [
        ("mini", 40, F32, Sgd, [1e-5, 1e-4, 1e-4]),
        ("mini", 40, F32, AdamW, [1e-3, 1e-4, 1e-2]),
        // TF32 keeps three digits of every factor.
        ("mini", 40, Tf32, Sgd, [2e-2, 0.1, 0.1]),
        ("resnet18", 40, F32, Sgd, [1e-4, 1e-3, 1e-3]),
        // One ReLU of its 120 that flips shows from there down; so does a pixel that changes by 1e-5.
        ("densenet121", 64, F32, Sgd, [1e-2, 3e-2, 1e-2]),
    ] {
        let got = steps(&cuda(), backbone, side, precision, kind);
        let expected = steps(&Device::Cpu, backbone, side, precision, kind);
        for (((what, within), got), expected) in
            ["losses", "gradients", "logits"].iter().zip(within).zip(&got).zip(&expected)
        {
            let off = distance(got, expected);
            assert!(off < within, "{what} of {backbone}, {precision:?}, {kind:?}: {off:e}, at most {within:e}");
        }
    }
}

/// In bf16 no device is right; CUDA is about as far from f32 as the CPU is.
#[test]
fn steps_in_bf16_are_as_close_to_f32_as_the_cpus() {
    for (backbone, side) in [("mini", 40), ("resnet18", 40)] {
        let run = |device: &Device, precision| steps(device, backbone, side, precision, OptimizerKind::Sgd);
        let exact = run(&Device::Cpu, Precision::F32);
        let (got, other) = (run(&cuda(), Precision::Bf16), run(&Device::Cpu, Precision::Bf16));
        for (((what, got), other), exact) in ["losses", "gradients", "logits"].iter().zip(&got).zip(&other).zip(&exact)
        {
            let (got, other) = (distance(got, exact), distance(other, exact));
            assert!(got < 2.0 * other, "{what} of {backbone}: {got:e} from f32, on the CPU {other:e}");
        }
    }
}

/// Noise with bright squares at the left (output 0) or at the right (output 1).
fn pictures(count: usize, size: usize) -> Pictures {
    let mut state = 1u32;
    let mut pictures = Pictures { size, ..Default::default() };
    for index in 0..count {
        let mut targets = [0.0; OUTPUTS];
        targets[0] = f32::from(u8::from(index % 2 == 0));
        targets[1] = f32::from(u8::from(index % 3 == 0));
        for y in 0..size {
            for x in 0..size {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let left = targets[0] == 1.0 && x < size / 3 && y < size / 2;
                let right = targets[1] == 1.0 && x > 2 * size / 3 && y < size / 2;
                pictures.pixels.push((state >> 26) as u8 + if left || right { 180 } else { 40 });
            }
        }
        pictures.targets.push(targets);
    }
    pictures
}

fn recipe() -> Recipe {
    Recipe {
        epochs: 2,
        batch: 5,
        lr: 0.01,
        momentum: 0.9,
        weight_decay: 1e-4,
        optimizer: OptimizerKind::Sgd,
        schedule: Schedule::Step { every: 20, factor: 0.1 },
        warmup_epochs: 0,
        crop: 20,
        view: View::Centre,
        scale_min: 0.5,
        flip: true,
        rotate_deg: 15.0,
        brightness: 0.2,
        contrast: 0.3,
        precision: Precision::F32,
        seed: 7,
    }
}

/// Trains, and is interrupted after so many steps; the network, and what became of it.
fn train(device: &Device, folder: &Path, recipe: &Recipe, stop_after: usize) -> (Network, Result<Fit, Error>) {
    let mut network = Network::new("mini".parse().unwrap(), Pool::Max, 3, device).unwrap();
    let mut left = stop_after;
    let fitted = fit(&mut network, &pictures(22, 24), &pictures(8, 24), recipe, folder, &mut |event| {
        left -= usize::from(matches!(event, Event::Step { .. }) && left > 0);
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (network, fitted)
}

/// The device augments as the CPU does; that shows in the losses of every epoch.
#[test]
fn trainings_agree_with_the_cpu() {
    let losses = |device: &Device| -> Vec<f32> {
        let folder = tempfile::tempdir().unwrap();
        let (_, fitted) = train(device, folder.path(), &recipe(), usize::MAX);
        fitted.unwrap().epochs.iter().flat_map(|e| [e.train_loss as f32, e.validation_loss.unwrap() as f32]).collect()
    };
    let (got, expected) = (losses(&cuda()), losses(&Device::Cpu));
    assert!(distance(&got, &expected) < 1e-3, "{got:?}, expected {expected:?}");
}

/// Weights are f32 on disk, whatever computed them: what one device began, another ends.
#[test]
fn checkpoints_move_between_devices() {
    let weights = |network: &Network| network.trained().flat_map(|(_, tensor)| values(tensor)).collect::<Vec<_>>();
    let whole = tempfile::tempdir().unwrap();
    let (expected, fitted) = train(&Device::Cpu, whole.path(), &recipe(), usize::MAX);
    fitted.unwrap();
    for [first, second] in [[cuda(), Device::Cpu], [Device::Cpu, cuda()]] {
        let folder = tempfile::tempdir().unwrap();
        let (_, interrupted) = train(&first, folder.path(), &recipe(), 7); // in the second epoch
        assert!(matches!(interrupted, Err(Error::Interrupted { epoch: 1 })));
        let (got, fitted) = train(&second, folder.path(), &recipe(), usize::MAX);
        assert_eq!(fitted.unwrap().epochs.len(), 2);
        let off = distance(&weights(&got), &weights(&expected));
        assert!(off < 1e-3, "{off:e}");
    }
}

#[test]
fn scores_come_in_order() {
    let pictures = pictures(23, 24);
    let run = |device: &Device| {
        let network = Network::new("mini".parse().unwrap(), Pool::Max, 3, device).unwrap();
        let (mut firsts, mut rows) = (Vec::new(), Vec::new());
        let what = |evaluated: &nets::Evaluated| Ok(vec![evaluated.logits.clone()]);
        score(&network, &pictures, 20, View::Whole, 5, &what, &mut |first, values| {
            firsts.push(first);
            rows.extend_from_slice(&values[0]);
            Ok(())
        })
        .unwrap();
        assert_eq!(firsts, [0, 5, 10, 15, 20]);
        rows
    };
    let off = distance(&run(&cuda()), &run(&Device::Cpu));
    assert!(off < 1e-5, "{off:e}");
}
