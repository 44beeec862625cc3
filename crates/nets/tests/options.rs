//! A recipe's options in the training loop, and views of an image in scoring. `parity` compares their numbers with PyTorch's.

mod common;

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use common::{SIZE, Training, bytes, curve, frame, images, recipe};
use cxr::{EvalCrop, OUTPUTS, Tta};
use nets::{Backbone, CHECKPOINT, Ema, Error, Images, Loss, Network, OptimizerKind, Pool, Recipe, Schedule, Scores};
use safetensors::SafeTensors;

fn all() -> Recipe {
    Recipe {
        loss: Loss::Asymmetric { gamma_positive: 1.0, gamma_negative: 4.0, clip: 0.05 },
        label_smoothing: 0.1,
        clip_norm: Some(0.05),
        ema: Some(Ema { decay: 0.8, warmup: true }),
        schedule: Schedule::Plateau { patience: 0, factor: 0.5 },
        ..recipe(OptimizerKind::AdamW)
    }
}

#[test]
fn stopped_and_continued_with_all_options_is_bit_identical() {
    let mut training = Training::new(all());
    training.images.crop_schedule = vec![(0, 17), (2, 20)];
    training.images.ratio_max = 1.1;
    let folder = tempfile::tempdir().unwrap();
    let (whole, fitted) = training.finish(folder.path());
    let folder = tempfile::tempdir().unwrap();
    for (steps, at) in [(2, (0, 2)), (4, (0, 6)), (8, (2, 2))] {
        assert_eq!(training.stop_after(folder.path(), steps), at);
    }
    training.minutes = 0.0;
    assert_eq!(training.stop_after(folder.path(), 5), (3, 1));
    let (continued, refitted) = training.finish(folder.path());
    assert_eq!(curve(&fitted), curve(&refitted));
    assert!(bytes(&whole) == bytes(&continued));

    // A validation can be stopped while the averages are in the model's place.
    let folder = tempfile::tempdir().unwrap();
    let second = |event: &nets::Event| matches!(event, nets::Event::Validation { epoch: 2, examples: 16 });
    assert!(matches!(training.run(folder.path(), second).1, Err(Error::Interrupted { .. })));
    let (continued, refitted) = training.finish(folder.path());
    assert_eq!(curve(&fitted), curve(&refitted));
    assert!(bytes(&whole) == bytes(&continued));
}

#[test]
fn each_option_changes_the_training_and_off_changes_nothing() {
    let weights = |recipe: Recipe| {
        let folder = tempfile::tempdir().unwrap();
        bytes(&Training::new(Recipe { epochs: 2, ..recipe }).finish(folder.path()).0)
    };
    let base = recipe(OptimizerKind::Sgd);
    let plain = weights(base.clone());
    for changed in [
        Recipe { loss: Loss::Weighted, ..base.clone() },
        Recipe { loss: Loss::Focal { alpha: 0.25, gamma: 2.0 }, ..base.clone() },
        Recipe { label_smoothing: 0.1, ..base.clone() },
        Recipe { clip_norm: Some(0.01), ..base.clone() },
        Recipe { ema: Some(Ema { decay: 0.9, warmup: false }), ..base.clone() },
    ] {
        assert!(weights(changed.clone()) != plain, "{changed:?}");
    }
    // No gradient is that large, and no loss of two epochs is flat that long.
    let plateau = Schedule::Plateau { patience: 5, factor: 0.5 };
    assert!(weights(Recipe { clip_norm: Some(1e6), schedule: plateau, ..base }) == plain);
}

/// Both the weights under training and the averages; the best epoch's are averages.
#[test]
fn checkpoints_carry_the_averages_and_the_weights() {
    let training = Training::new(Recipe { epochs: 1, ..all() });
    let folder = tempfile::tempdir().unwrap();
    let (network, _) = training.finish(folder.path());
    let bytes = fs_err::read(folder.path().join(CHECKPOINT)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = |kind: &str, name: &str| file.tensor(&format!("{kind}.{name}")).unwrap().data().to_vec();
    for name in ["conv1.weight", "bn1.running_var", "fc.bias"] {
        assert!(data("model", name) != data("ema", name), "{name}");
        assert!(data("best", name) == data("ema", name), "{name}");
    }
    let published = network.trained().unwrap().into_iter().find(|(name, _)| *name == "fc.bias").unwrap().1;
    let published: Vec<u8> = published.to_vec1::<f32>().unwrap().into_iter().flat_map(f32::to_le_bytes).collect();
    assert!(published == data("ema", "fc.bias"));

    // Another decay is another training: this checkpoint is not its.
    let other = Recipe { ema: Some(Ema { decay: 0.7, warmup: true }), ..training.recipe.clone() };
    let foreign = Training::new(other).run(folder.path(), |_| false).1;
    assert!(matches!(foreign, Err(Error::ForeignCheckpoint { .. })), "{foreign:?}");
}

#[test]
fn a_plateau_needs_a_validation_loss() {
    let training = Training::new(all());
    let mut network = Network::new(Backbone::Mini, Pool::Max, 7, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = nets::Checkpoints { folder: folder.path(), others: &[], minutes: 10.0 };
    let (train, nothing) = (images(8, 1), Images::in_memory(SIZE, 0));
    let (recipe, identity) = (&training.images, training.identity());
    let watch = &mut |_: nets::Event| ControlFlow::Continue(());
    let refused = nets::fit_network(&mut network, &train, &nothing, recipe, &identity, &checkpoints, watch);
    let message = refused.unwrap_err().to_string();
    assert_eq!(
        message,
        "schedule = plateau, expected step or cosine: there is no validation loss that could stop falling"
    );
    assert!(!folder.path().join(CHECKPOINT).exists());
}

fn score(network: &Network, images: &Images, crop: EvalCrop, tta: Tta, batch: usize) -> [Vec<f32>; 2] {
    let [mut pools, mut logits] = [(); 2].map(|()| Vec::new());
    let mut next = 0;
    nets::evaluate(network, images, frame(crop), tta, batch, &mut |scores: Scores| {
        assert_eq!(scores.first, next);
        next += scores.logits.len();
        pools.extend(scores.pool);
        logits.extend_from_slice(scores.logits.as_flattened());
        Ok::<_, Error>(ControlFlow::Continue(()))
    })
    .unwrap();
    [pools, logits]
}

/// The views of an image, cut and mirrored by hand: torchvision's `TenCrop(20)` of 24 px begins at (0, 0), (4, 0), (0, 4),
/// (4, 4) and (2, 2).
#[test]
fn scores_are_means_over_views() {
    let network = Network::new(Backbone::Mini, Pool::Max, 7, &Device::Cpu).unwrap();
    let images = images(5, 3);
    let (mean, deviation) = nets::normalisation();
    let cut = |image: &[u8], x: usize, y: usize, flip: bool| {
        let mut input = Vec::new();
        for row in 0..20 {
            for column in 0..20 {
                let column = if flip { 19 - column } else { column };
                let grey = f32::from(image[(y + row) * SIZE + x + column]) / 255.0;
                input.extend((0..3).map(|channel| (grey - mean[channel]) / deviation[channel]));
            }
        }
        Tensor::from_vec(input, (1, 20, 20, 3), &Device::Cpu).unwrap()
    };
    let five = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)];
    for (tta, corners) in [(Tta::Flip, &five[4..]), (Tta::TenCrop, &five[..])] {
        let [pools, logits] = score(&network, &images, EvalCrop::Centre, tta, 32);
        assert_eq!((pools.len(), logits.len()), (5 * Backbone::Mini.channels(), 5 * OUTPUTS));
        for index in 0..5 {
            let mut sums = [0.0f64; OUTPUTS];
            for (&(x, y), flip) in corners.iter().flat_map(|corner| [(corner, false), (corner, true)]) {
                let input = cut(&images.image(index).unwrap(), x, y, flip);
                let seen =
                    network.forward_eval(&input).unwrap().logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                sums.iter_mut().zip(seen).for_each(|(sum, logit)| *sum += f64::from(logit));
            }
            for (got, sum) in logits[index * OUTPUTS..][..OUTPUTS].iter().zip(sums) {
                let expected = sum / (2 * corners.len()) as f64;
                assert!((f64::from(*got) - expected).abs() < 1e-5 * expected.abs().max(1.0), "{tta}: {got} {expected}");
            }
        }
        // The head of the mean features: what the fusion layer reads and what is published belong together.
        let named = |name: &str| network.trained().unwrap().into_iter().find(|(other, _)| *other == name).unwrap().1;
        let pools = Tensor::from_vec(pools, (5, Backbone::Mini.channels()), &Device::Cpu).unwrap();
        let head = pools.matmul(&named("fc.weight").t().unwrap()).unwrap().broadcast_add(&named("fc.bias")).unwrap();
        for (got, expected) in logits.iter().zip(head.flatten_all().unwrap().to_vec1::<f32>().unwrap()) {
            assert!((got - expected).abs() < 1e-4 * expected.abs().max(1.0), "{tta}: {got} {expected}");
        }
    }
}

#[test]
fn the_evaluation_batch_changes_no_bit_of_means() {
    let network = Network::new(Backbone::Mini, Pool::Max, 7, &Device::Cpu).unwrap();
    let images = images(7, 3);
    for (tta, crop) in [(Tta::Flip, EvalCrop::Whole), (Tta::Flip, EvalCrop::Centre), (Tta::TenCrop, EvalCrop::Centre)] {
        let whole = score(&network, &images, crop, tta, 100);
        for batch in [1, 5, 20, 33] {
            assert!(score(&network, &images, crop, tta, batch) == whole, "{tta}, {crop}, {batch}");
        }
        assert!(whole != score(&network, &images, crop, Tta::None, 100));
    }
}

/// Sides that peers use: a step of ResNet-50, and its map.
#[test]
fn resnet50_takes_large_inputs() {
    let mut network = Network::new(Backbone::Resnet50, Pool::Avg, 7, &Device::Cpu).unwrap();
    for (side, map) in [(320, 10), (448, 14), (512, 16)] {
        let x = Tensor::rand(-1f32, 1.0, (1, side, side, 3), &Device::Cpu).unwrap();
        assert_eq!(network.forward_eval(&x).unwrap().map.dims(), [1, map, map, 2048]);
        assert_eq!(Backbone::Resnet50.map_side(side), map);
        let targets = Tensor::zeros((1, OUTPUTS), candle_core::DType::F32, &Device::Cpu).unwrap();
        let (loss, grads) = network.loss_and_grads(&x, &targets).unwrap();
        assert!(loss.to_scalar::<f32>().unwrap().is_finite());
        let norm = ops::norm(grads.tensors()).unwrap();
        assert!(norm.is_finite() && norm > 0.0, "{side} px: {norm}");
    }
}

/// What `attend.eval_batch` says: it changes nothing but memory.
#[test]
fn class_activation_maps_do_not_depend_on_the_batch() {
    let network = Network::new(Backbone::Resnet18, Pool::Max, 1, &Device::Cpu).unwrap();
    let map = Tensor::rand(-1.0_f32, 1.0, (20, 7, 7, Backbone::Resnet18.channels()), &Device::Cpu).unwrap();
    let values = |maps: Tensor| maps.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let together = values(network.class_maps(&map).unwrap());
    let alone = (0..20).flat_map(|image| values(network.class_maps(&map.narrow(0, image, 1).unwrap()).unwrap()));
    assert!(together == alone.collect::<Vec<_>>());
}
