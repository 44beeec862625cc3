//! A training that is stopped anywhere and called again ends as if it had not been stopped.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;
use cxr::OUTPUTS;
use nets::{
    Backbone, Error, Evaluated, Event, Fit, Network, OptimizerKind, Pictures, Pool, Recipe, Schedule, View, fit, score,
};

/// Pictures of 24 px: bright squares at the left (output 0) or at the right (output 1) on noise.
fn pictures(count: usize, seed: u32) -> Pictures {
    let size = 24;
    let mut state = seed;
    let mut noise = move || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 26) as u8
    };
    let mut pictures = Pictures { size, ..Default::default() };
    for index in 0..count {
        let mut targets = [0.0; OUTPUTS];
        targets[0] = f32::from(index % 2 == 0);
        targets[1] = f32::from(index % 3 == 0);
        for y in 0..size {
            for x in 0..size {
                let left = targets[0] == 1.0 && (4..9).contains(&x) && (8..14).contains(&y);
                let right = targets[1] == 1.0 && (15..20).contains(&x) && (8..14).contains(&y);
                pictures.pixels.push(noise() + if left || right { 150 } else { 40 });
            }
        }
        pictures.targets.push(targets);
    }
    pictures
}

fn recipe(optimizer: OptimizerKind) -> Recipe {
    Recipe {
        epochs: 4,
        batch: 8,
        lr: if optimizer == OptimizerKind::Sgd { 0.05 } else { 0.003 },
        momentum: 0.9,
        weight_decay: 1e-4,
        optimizer,
        schedule: Schedule::Step { every: 3, factor: 0.1 },
        warmup_epochs: 1,
        crop: 20,
        view: View::Centre,
        scale_min: 0.7,
        flip: false,
        rotate_deg: 5.0,
        brightness: 0.1,
        contrast: 0.1,
        precision: nets::Precision::F32,
        seed: 3,
    }
}

/// Trains anew; stops after `stop` steps in all.
fn train(recipe: &Recipe, scratch: &Path, stop: Option<usize>) -> (Network, Result<Fit, Error>) {
    let mut network = Network::new(Backbone::Mini, Pool::Max, 7, &Device::Cpu).unwrap();
    let mut steps = 0;
    let fitted = fit(&mut network, &pictures(44, 1), &pictures(24, 2), recipe, scratch, &mut |event| {
        steps += usize::from(matches!(event, Event::Step { .. }));
        if stop.is_some_and(|stop| steps >= stop) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (network, fitted)
}

fn bits(network: &Network) -> Vec<u32> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    network.save(&path, "key").unwrap();
    std::fs::read(path).unwrap().chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn stopped_and_continued_is_bit_identical() {
    for optimizer in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        let recipe = recipe(optimizer);
        let folder = tempfile::tempdir().unwrap();
        let (whole, fitted) = train(&recipe, folder.path(), None);
        let fitted = fitted.unwrap();
        assert_eq!(fitted.epochs.len(), 4);

        let folder = tempfile::tempdir().unwrap();
        // In the first epoch (6 steps), at the end of the second, in the third.
        for (stop, epoch) in [(2, 0), (12, 1), (3, 1)] {
            let (_, stopped) = train(&recipe, folder.path(), Some(stop));
            assert!(matches!(stopped, Err(Error::Interrupted { epoch: at }) if at == epoch), "{stopped:?}");
        }
        let (continued, refitted) = train(&recipe, folder.path(), None);
        let refitted = refitted.unwrap();
        assert_eq!(refitted.best_epoch, fitted.best_epoch);
        for (one, other) in fitted.epochs.iter().zip(&refitted.epochs) {
            assert_eq!((one.train_loss, one.validation_loss), (other.train_loss, other.validation_loss));
        }
        assert!(bits(&whole) == bits(&continued), "{optimizer:?}");
    }
}

/// Activations in bf16 change the bits, and hardly what is learnt.
#[test]
fn bf16_learns_what_f32_learns() {
    let recipe = recipe(OptimizerKind::Sgd);
    let losses = |precision| {
        let folder = tempfile::tempdir().unwrap();
        let fitted = train(&Recipe { precision, ..recipe.clone() }, folder.path(), None).1.unwrap();
        [fitted.epochs[0].train_loss, fitted.epochs[3].train_loss]
    };
    let ([f32_first, f32_last], [first, last]) = (losses(nets::Precision::F32), losses(nets::Precision::Bf16));
    assert!(first != f32_first && (first - f32_first).abs() < 0.02 * f32_first, "{first} {f32_first}");
    assert!(last < first && (last - f32_last).abs() < 0.02 * f32_first, "{last} {f32_last}");
}

#[test]
fn it_learns_and_scores_in_order() {
    let mut recipe = recipe(OptimizerKind::Sgd);
    recipe.epochs = 8;
    let folder = tempfile::tempdir().unwrap();
    let (network, fitted) = train(&recipe, folder.path(), None);
    let fitted = fitted.unwrap();
    let best = &fitted.epochs[fitted.best_epoch as usize - 1];
    assert!(best.validation_auroc.unwrap() > 0.95, "{best:?}");
    assert!(fitted.epochs[7].train_loss < 0.6 * fitted.epochs[0].train_loss);

    let test = pictures(24, 2);
    let mut seen = Vec::new();
    let mut rows = Vec::new();
    let what = |evaluated: &Evaluated| {
        assert_eq!(evaluated.map.dims()[3], Backbone::Mini.channels());
        Ok(vec![evaluated.logits.clone()])
    };
    score(&network, &test, 20, View::Centre, 7, &what, &mut |first, values| {
        seen.push(first);
        rows.extend(values[0].chunks(OUTPUTS).map(<[f32]>::to_vec));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [0, 7, 14, 21]);
    let right = rows.iter().zip(&test.targets).filter(|(row, targets)| (row[0] > 0.0) == (targets[0] == 1.0)).count();
    assert!(right >= 22, "{right} of 24");
}

#[test]
fn another_trainings_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(OptimizerKind::Sgd);
    drop(train(&recipe, folder.path(), Some(8)));
    recipe.lr *= 2.0;
    let (_, refused) = train(&recipe, folder.path(), None);
    assert!(matches!(refused, Err(Error::ForeignCheckpoint { .. })), "{refused:?}");
    let path = folder.path().join("checkpoint.safetensors");
    std::fs::write(&path, b"short").unwrap();
    let (_, damaged) = train(&recipe, folder.path(), None);
    assert!(damaged.unwrap_err().to_string().starts_with(&format!("{}: no whole safetensors", path.display())));
}

#[test]
fn a_diverging_loss_says_what_to_do() {
    let mut recipe = recipe(OptimizerKind::Sgd);
    recipe.lr = 1e9;
    recipe.warmup_epochs = 0;
    let folder = tempfile::tempdir().unwrap();
    let (_, diverged) = train(&recipe, folder.path(), None);
    let message = diverged.unwrap_err().to_string();
    assert!(message.contains("training diverged; a lower learning rate"), "{message}");
}
