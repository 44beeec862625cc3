//! Every option of a recipe against PyTorch, torchvision and timm: ten epochs of one step, through the training loop.
//!
//! `make_options.py` wrote the fixture, and says what the example is.

use std::ops::ControlFlow;

use cxr::{EvalCrop, EvalFrame, Finding, Labels, OUTPUTS, Tta};
use nets::losses::mean_loss;
use nets::{
    Checkpoints, Ema, Error, Identity, ImageRecipe, Images, Loss, Precision, Recipe, Schedule, Scores, fit_network,
};
use serde_json::Value;

use super::*;

/// Largest relative difference of a loss.
const WITHIN: f64 = 1e-4;
const SMALL: usize = 48;

fn recipe() -> Recipe {
    Recipe {
        epochs: 10,
        batch: BATCH,
        lr: 0.01,
        momentum: 0.9,
        weight_decay: 1e-4,
        optimizer: OptimizerKind::Sgd,
        schedule: Schedule::Step { milestones: Vec::new(), factor: 0.5 },
        warmup_epochs: 0,
        seed: 1,
        loss: Loss::Bce,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
    }
}

fn image_recipe() -> ImageRecipe {
    ImageRecipe {
        input_px: SIDE,
        crop: EvalCrop::Centre,
        crop_schedule: Vec::new(),
        scale_min: 1.0,
        ratio_max: nets::recipe::ratio_max(),
        flip: false,
        rotate_deg: 0.0,
        brightness: 0.0,
        contrast: 0.0,
        precision: Precision::F32,
    }
}

const FOCAL: Loss = Loss::Focal { alpha: 0.25, gamma: 2.0 };
const ASYMMETRIC: Loss = Loss::Asymmetric { gamma_positive: 1.0, gamma_negative: 4.0, clip: 0.05 };
const PLATEAU: Schedule = Schedule::Plateau { patience: 1, factor: 0.5 };

#[test]
fn losses() {
    compare("bce", &recipe(), &image_recipe());
    for (name, loss) in [("weighted", Loss::Weighted), ("focal", FOCAL), ("asymmetric", ASYMMETRIC)] {
        compare(name, &Recipe { loss, ..recipe() }, &image_recipe());
    }
}

#[test]
fn label_smoothing() {
    for (name, loss) in [
        ("smoothed", Loss::Bce),
        ("weighted and smoothed", Loss::Weighted),
        ("focal and smoothed", FOCAL),
        ("asymmetric and smoothed", ASYMMETRIC),
    ] {
        compare(name, &Recipe { loss, label_smoothing: 0.1, ..recipe() }, &image_recipe());
    }
}

#[test]
fn gradient_clipping() {
    compare("clipped", &Recipe { clip_norm: Some(0.05), ..recipe() }, &image_recipe());
}

#[test]
fn averages() {
    for (name, warmup) in [("averaged", false), ("averaged with warm-up", true)] {
        compare(name, &Recipe { ema: Some(Ema { decay: 0.6, warmup }), ..recipe() }, &image_recipe());
    }
}

#[test]
fn learning_rates() {
    let milestones = Schedule::Step { milestones: vec![3, 6], factor: 0.5 };
    for (name, schedule) in [("milestones", milestones), ("plateau", PLATEAU)] {
        compare(name, &Recipe { schedule, ..recipe() }, &image_recipe());
    }
}

#[test]
fn small_inputs_first() {
    let images = ImageRecipe { crop_schedule: vec![(0, SMALL), (5, SIDE)], ..image_recipe() };
    compare("small first", &recipe(), &images);
    let all = Recipe {
        loss: ASYMMETRIC,
        label_smoothing: 0.05,
        clip_norm: Some(0.05),
        ema: Some(Ema { decay: 0.6, warmup: true }),
        schedule: PLATEAU,
        ..recipe()
    };
    compare("all", &all, &images);
}

fn compare(case: &str, recipe: &Recipe, images: &ImageRecipe) {
    let text = fs_err::read_to_string(folder().join("options/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let salt = expected["salt"].as_u64().unwrap();
    let (train, validation) = (pictures("train", salt), pictures("validation", salt));
    let outputs: Vec<Vec<i64>> = serde_json::from_value(expected["labels"].clone()).unwrap();
    let ours = train.labels().iter().map(|labels| labels.outputs().map(|known| known.map_or(-1, i64::from)).to_vec());
    assert_eq!(ours.collect::<Vec<_>>(), outputs);

    let mut network = network(Backbone::Resnet18, Pool::Max, salt);
    let place = TempDir::new().unwrap();
    let checkpoints = Checkpoints { folder: place.path(), others: &[], minutes: 10.0 };
    let identity = Identity {
        model: images.model("resnet18", "max"),
        data: "4 and 4 images".to_owned(),
        start: "made".to_owned(),
        recipe: recipe.clone(),
    };
    let watch = &mut |_: nets::Event| ControlFlow::Continue(());
    let fit = fit_network(&mut network, &train, &validation, images, &identity, &checkpoints, watch).unwrap();

    let expected = |what: &str| -> Vec<f64> { serde_json::from_value(expected["cases"][case][what].clone()).unwrap() };
    let got: Vec<[f64; 3]> =
        fit.epochs.iter().map(|epoch| [epoch.train_loss, epoch.validation_loss.unwrap(), epoch.lr]).collect();
    for (index, what) in ["losses", "validation_losses", "rates"].into_iter().enumerate() {
        let pairs = got.iter().map(|row| row[index]).zip(expected(what));
        let worst = pairs.clone().map(|(got, expected)| (got / expected - 1.0).abs()).fold(0.0, f64::max);
        println!("{case}, {what}: {worst:.1e}");
        assert!(worst <= WITHIN, "{case}, {what}: {worst:.1e}, {:?}", pairs.collect::<Vec<_>>());
    }

    // What is published is what was validated in the best epoch: the averages, where there are any.
    let frame = EvalFrame { crop: EvalCrop::Centre, image_px: SIDE, input_px: SIDE };
    let mut logits = Vec::new();
    nets::evaluate(&network, &validation, frame, Tta::None, BATCH, &mut |scores: Scores| {
        logits.extend(scores.logits);
        Ok::<_, Error>(ControlFlow::Continue(()))
    })
    .unwrap();
    let loss = mean_loss(recipe.loss, &logits, validation.labels()).unwrap();
    let best = fit.epochs[fit.best_epoch as usize - 1].validation_loss.unwrap();
    assert!((loss / best - 1.0).abs() < 1e-6, "{case}: {loss}, in epoch {} {best}", fit.best_epoch);
}

/// Four images and their labels, as `make_options.py` makes them.
fn pictures(name: &str, salt: u64) -> Images {
    let mut grey = bits(name, salt).map(|bits| (bits >> 56) as u8);
    let mut draws = bits(&format!("{name} labels"), salt).map(|bits| (bits >> 40) % 10);
    let mut images = Images::in_memory(SIDE, BATCH);
    for index in 0..BATCH {
        let image: Vec<u8> = grey.by_ref().take(SIDE * SIDE).collect();
        let mut labels = Labels::UNKNOWN;
        for (finding, draw) in Finding::ALL.into_iter().zip(draws.by_ref().take(OUTPUTS - 1)) {
            let known = match draw {
                _ if index == 0 => Some(false),
                0..3 => Some(true),
                3..8 => Some(false),
                _ => None,
            };
            labels.set(finding, known);
        }
        images.push(&image, labels).unwrap();
    }
    images
}
