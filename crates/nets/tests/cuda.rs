//! The same training on CUDA as on the CPU: steps, inputs, losses, checkpoints.

#![cfg(feature = "cuda")]

mod common;

use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use common::{Training, frame, images, recipe};
use cxr::{EvalCrop, OUTPUTS, Tta};
use nets::{Ema, Error, Loss, Network, OptimizerKind, Pool, Precision, Recipe, Schedule, Scores};

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

fn training(device: &Device) -> Training {
    let mut training =
        Training::new(Recipe { epochs: 2, batch: 5, lr: 0.01, warmup_epochs: 0, ..recipe(OptimizerKind::Sgd) });
    training.device = device.clone();
    (training.images.scale_min, training.images.rotate_deg) = (0.5, 15.0);
    training
}

/// The device augments as the CPU does; that shows in the losses of every epoch.
#[test]
fn trainings_agree_with_the_cpu() {
    let losses = |device: &Device| -> Vec<f32> {
        let folder = tempfile::tempdir().unwrap();
        let (_, fitted) = training(device).finish(folder.path());
        fitted.epochs.iter().flat_map(|e| [e.train_loss as f32, e.validation_loss.unwrap() as f32]).collect()
    };
    let (got, expected) = (losses(&cuda()), losses(&Device::Cpu));
    assert!(distance(&got, &expected) < 1e-3, "{got:?}, expected {expected:?}");
}

/// The options of a recipe, on the device as on the CPU.
#[test]
fn options_agree_with_the_cpu() {
    let asymmetric = Loss::Asymmetric { gamma_positive: 1.0, gamma_negative: 4.0, clip: 0.05 };
    for loss in [Loss::Weighted, Loss::Focal { alpha: 0.25, gamma: 2.0 }, asymmetric] {
        let run = |device: &Device| {
            let mut training = training(device);
            training.images.crop_schedule = vec![(0, 17), (1, 20)];
            training.recipe = Recipe {
                loss,
                label_smoothing: 0.1,
                clip_norm: Some(0.05),
                ema: Some(Ema { decay: 0.8, warmup: true }),
                schedule: Schedule::Plateau { patience: 0, factor: 0.5 },
                ..training.recipe
            };
            let folder = tempfile::tempdir().unwrap();
            let (network, fitted) = training.finish(folder.path());
            let mut rows = Vec::new();
            nets::evaluate(&network, &images(9, 4), frame(EvalCrop::Centre), Tta::TenCrop, 7, &mut |batch: Scores| {
                rows.extend_from_slice(batch.logits.as_flattened());
                Ok::<_, Error>(ControlFlow::Continue(()))
            })
            .unwrap();
            let losses = fitted.epochs.iter().flat_map(|e| [e.train_loss as f32, e.validation_loss.unwrap() as f32]);
            (losses.collect::<Vec<_>>(), rows)
        };
        let ((losses, rows), (expected_losses, expected_rows)) = (run(&cuda()), run(&Device::Cpu));
        assert!(distance(&losses, &expected_losses) < 1e-3, "{losses:?}, expected {expected_losses:?}");
        let off = distance(&rows, &expected_rows);
        assert!(off < 1e-2, "{off:e}");
    }
}

/// Weights are f32 on disk, whatever computed them: one device ends what another began.
#[test]
fn checkpoints_move_between_devices() {
    let weights =
        |network: &Network| network.trained().unwrap().iter().flat_map(|(_, t)| values(t)).collect::<Vec<_>>();
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = training(&Device::Cpu).finish(whole.path());
    for [first, second] in [[cuda(), Device::Cpu], [Device::Cpu, cuda()]] {
        let folder = tempfile::tempdir().unwrap();
        let (finished, step) = training(&first).stop_after(folder.path(), 11); // in the second epoch, of 9 steps
        // CUDA has begun another step before the watcher hears of one.
        assert_eq!((finished, step), (1, 2 + usize::from(first.is_cuda())));
        let (got, fitted) = training(&second).finish(folder.path());
        assert_eq!(fitted.epochs.len(), 2);
        let off = distance(&weights(&got), &weights(&expected));
        assert!(off < 1e-3, "{off:e}");
    }
}

#[test]
fn scores_come_in_order() {
    let images = images(23, 1);
    let run = |device: &Device| {
        let network = Network::new("mini".parse().unwrap(), Pool::Max, 3, device).unwrap();
        let (mut firsts, mut rows) = (Vec::new(), Vec::new());
        nets::evaluate(&network, &images, frame(EvalCrop::Whole), Tta::None, 5, &mut |batch: Scores| {
            firsts.push(batch.first);
            rows.extend_from_slice(batch.logits.as_flattened());
            Ok::<_, Error>(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(firsts, [0, 5, 10, 15, 20]);
        rows
    };
    let off = distance(&run(&cuda()), &run(&Device::Cpu));
    assert!(off < 1e-5, "{off:e}");
}
