//! A training that is stopped anywhere and called again ends as if it had not been stopped.

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use common::{Training, bytes, curve, frame, images, recipe};
use cxr::{EvalCrop, OUTPUTS, Tta};
use nets::{Backbone, CHECKPOINT, Error, Event, OptimizerKind, Precision, Recipe, Schedule, Scores, Taken};

fn checkpoint(folder: &Path) -> std::path::PathBuf {
    folder.join(CHECKPOINT)
}

#[test]
fn stopped_and_continued_is_bit_identical() {
    for optimizer in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        let mut training = Training::new(recipe(optimizer));
        let folder = tempfile::tempdir().unwrap();
        let (whole, fitted) = training.finish(folder.path());
        assert_eq!(fitted.epochs.len(), 5);

        let folder = tempfile::tempdir().unwrap();
        // In the first epoch (of 6 steps), twice; at the end of its last step; in the third epoch.
        for (steps, at) in [(2, (0, 2)), (1, (0, 3)), (3, (0, 6)), (8, (2, 2))] {
            assert_eq!(training.stop_after(folder.path(), steps), at);
        }
        // With the disk as the only memory: the process could end after any step.
        training.minutes = 0.0;
        assert_eq!(training.stop_after(folder.path(), 5), (3, 1));
        let (continued, refitted) = training.finish(folder.path());
        assert_eq!(refitted.best_epoch, fitted.best_epoch);
        assert_eq!(curve(&fitted), curve(&refitted));
        assert!(bytes(&whole) == bytes(&continued), "{optimizer:?}");

        // A finished training trains nothing.
        let (again, _) = training.run(folder.path(), |event| matches!(event, Event::Step { .. }));
        assert!(bytes(&whole) == bytes(&again), "{optimizer:?}");
    }
}

/// Every checkpoint of a training, not only the last, leads to the same end.
#[test]
fn killed_after_any_step_and_continued_is_bit_identical() {
    let training = Training { minutes: 0.0, ..Training::new(Recipe { epochs: 2, ..recipe(OptimizerKind::Sgd) }) };
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut copies = Vec::new();
    let (whole, fitted) = training.run(folder.path(), |_| {
        let (from, to) = (checkpoint(folder.path()), kept.path().join(copies.len().to_string()));
        if from.exists() {
            fs_err::copy(from, &to).unwrap();
            copies.push(to);
        }
        false
    });
    let (expected, curve_expected) = (bytes(&whole), curve(&fitted.unwrap()));
    assert!(copies.len() > 12, "{}", copies.len());
    for copy in copies.iter().step_by(3) {
        let folder = tempfile::tempdir().unwrap();
        fs_err::copy(copy, checkpoint(folder.path())).unwrap();
        let (continued, refitted) = training.finish(folder.path());
        assert!(bytes(&continued) == expected, "{}", copy.display());
        assert_eq!(curve(&refitted), curve_expected);
    }
}

#[test]
fn a_validation_can_be_stopped() {
    let training = Training::new(recipe(OptimizerKind::Sgd));
    let folder = tempfile::tempdir().unwrap();
    let (whole, fitted) = training.finish(folder.path());
    let folder = tempfile::tempdir().unwrap();
    let second = |event: &Event| matches!(event, Event::Validation { epoch: 2, examples: 16 });
    let (_, stopped) = training.run(folder.path(), second);
    let error = stopped.unwrap_err();
    assert_eq!(error.to_string(), "interrupted after 1 finished epochs and 6 steps");
    assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    let (continued, refitted) = training.finish(folder.path());
    assert_eq!(curve(&fitted.clone()), curve(&refitted));
    assert!(bytes(&whole) == bytes(&continued));
}

#[test]
fn another_trainings_checkpoint_is_continued_where_the_rates_were_the_same() {
    let start = |recipe: Recipe, steps: usize| {
        let folder = tempfile::tempdir().unwrap();
        let training = Training::new(recipe);
        training.stop_after(folder.path(), steps);
        folder
    };
    // What a training finds when it begins: finished steps, or none.
    let resumed = |recipe: &Recipe, others: &[&tempfile::TempDir]| {
        let others = others.iter().map(|folder| checkpoint(folder.path())).collect();
        let training = Training { others, ..Training::new(recipe.clone()) };
        let folder = tempfile::tempdir().unwrap();
        let mut found = None;
        let (network, fitted) = training.run(folder.path(), |event| {
            if let Event::Resumed { done, from, .. } = event {
                found = Some((*done, from.map(Path::to_owned)));
            }
            false
        });
        (found, bytes(&network), curve(&fitted.unwrap()))
    };
    let base = recipe(OptimizerKind::Sgd);
    let longer = Recipe { epochs: 6, ..base.clone() };
    let (early, late, after) = (start(base.clone(), 5), start(base.clone(), 14), start(base.clone(), 20));
    let before = fs_err::read(checkpoint(late.path())).unwrap();

    // The one that has come furthest, and the same weights as without it.
    let (found, weights, epochs) = resumed(&longer, &[&early, &late]);
    assert_eq!(found, Some((14, Some(checkpoint(late.path())))));
    let (nothing, expected, expected_epochs) = resumed(&longer, &[]);
    assert_eq!(nothing, None);
    assert!(weights == expected && epochs == expected_epochs);
    assert!(fs_err::read(checkpoint(late.path())).unwrap() == before, "the other checkpoint was written");

    // A milestone more, at epoch 2: the rates differ from the thirteenth step on.
    let other_milestones = Schedule::Step { milestones: vec![2, 3], factor: 0.1 };
    let (found, ..) = resumed(&Recipe { schedule: other_milestones, ..base.clone() }, &[&early, &late, &after]);
    assert_eq!(found.unwrap().0, 5);
    // A cosine over more epochs has other rates after the warm-up.
    let cosine = Recipe { schedule: Schedule::Cosine, ..base.clone() };
    let cosine_late = start(cosine.clone(), 14);
    assert_eq!(resumed(&Recipe { epochs: 6, ..cosine.clone() }, &[&cosine_late]).0, None);
    assert_eq!(resumed(&cosine, &[&cosine_late]).0.unwrap().0, 14);
    // Fewer epochs than the other has done; another seed.
    assert_eq!(resumed(&Recipe { epochs: 2, ..base.clone() }, &[&late]).0, None);
    assert_eq!(resumed(&Recipe { seed: 4, ..base.clone() }, &[&late]).0, None);

    // Damaged ones are passed over: cut, with a header that is none, with another tensor, and none at all.
    for (index, folder) in [&late, &after].into_iter().enumerate() {
        let path = checkpoint(folder.path());
        let bytes = fs_err::read(&path).unwrap();
        let damaged = if index == 0 { bytes[..bytes.len() / 2].to_vec() } else { [&[7; 9], &bytes[9..]].concat() };
        fs_err::write(&path, damaged).unwrap();
    }
    let absent = tempfile::tempdir().unwrap();
    assert_eq!(resumed(&longer, &[&late, &after, &absent, &early]).0.unwrap().0, 5);
}

#[test]
fn another_trainings_checkpoint_in_the_own_folder_is_refused_and_a_damaged_one_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let mut training = Training::new(recipe(OptimizerKind::Sgd));
    training.stop_after(folder.path(), 8);
    training.recipe.lr *= 2.0;
    let (_, refused) = training.run(folder.path(), |_| false);
    assert!(matches!(refused, Err(Error::ForeignCheckpoint { .. })), "{refused:?}");

    training.recipe.lr /= 2.0;
    training.stop_after(folder.path(), 2);
    let path = checkpoint(folder.path());
    let aside = |name: &str| folder.path().join(format!("{name}.damaged"));
    // One bit of a weight: the checkpoint before the last is whole.
    let mut bytes = fs_err::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&path, &bytes).unwrap();
    assert_eq!(training.stop_after(folder.path(), 1), (1, 3), "8 steps and one, in epochs of 6");
    assert_eq!(fs_err::read(aside("checkpoint.safetensors")).unwrap(), bytes);
    // Both damaged: anew.
    fs_err::write(&path, b"short").unwrap();
    fs_err::write(folder.path().join("checkpoint.previous.safetensors"), b"too").unwrap();
    training.stop_after(folder.path(), 3);
    assert_eq!(fs_err::read(aside("checkpoint.safetensors")).unwrap(), b"short");
    assert_eq!(fs_err::read(aside("checkpoint.previous.safetensors")).unwrap(), b"too");
    assert_eq!(training.stop_after(folder.path(), 1), (0, 4));
}

#[test]
fn images_on_disk_train_the_same_weights() {
    let mut training = Training::new(recipe(OptimizerKind::Sgd));
    let train = |training: &Training| {
        let folder = tempfile::tempdir().unwrap();
        let (network, fitted) = training.finish(folder.path());
        (bytes(&network), curve(&fitted))
    };
    let memory = train(&training);
    training.on_disk = true;
    assert!(memory == train(&training));
}

/// Activations in bf16 change the bits, and hardly what is learnt.
#[test]
fn bf16_learns_what_f32_learns() {
    let losses = |precision| {
        let folder = tempfile::tempdir().unwrap();
        let mut training = Training::new(recipe(OptimizerKind::Sgd));
        training.images.precision = precision;
        let fitted = training.finish(folder.path()).1;
        [fitted.epochs[0].train_loss, fitted.epochs[3].train_loss]
    };
    let ([f32_first, f32_last], [first, last]) = (losses(Precision::F32), losses(Precision::Bf16));
    assert!(first != f32_first && (first - f32_first).abs() < 0.02 * f32_first, "{first} {f32_first}");
    assert!(last < first && (last - f32_last).abs() < 0.02 * f32_first, "{last} {f32_last}");
}

#[test]
fn it_learns_and_scores_in_order() {
    let training = Training::new(Recipe { epochs: 8, ..recipe(OptimizerKind::Sgd) });
    let folder = tempfile::tempdir().unwrap();
    let (network, fitted) = training.finish(folder.path());
    let best = &fitted.epochs[fitted.best_epoch as usize - 1];
    assert!(best.validation_auroc.unwrap() > 0.95, "{best:?}");
    assert!(fitted.epochs[7].train_loss < 0.6 * fitted.epochs[0].train_loss);

    let test = images(24, 2);
    let (mut seen, mut rows, mut channels) = (Vec::new(), Vec::new(), 0);
    nets::evaluate(&network, &test, frame(EvalCrop::Centre), Tta::None, 7, &mut |batch: Scores| {
        seen.push(batch.first);
        channels += batch.pool.len();
        rows.extend(batch.logits);
        Ok::<_, Error>(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(seen, [0, 7, 14, 21]);
    assert_eq!(channels, 24 * Backbone::Mini.channels());
    let right =
        rows.iter().zip(test.labels()).filter(|(row, labels)| (row[0] > 0.0) == labels.contains(cxr::Finding::ALL[0]));
    assert!(right.count() >= 22);

    // Maps are reduced on the device; what the caller returns ends the evaluation.
    let mut maxima = Vec::new();
    let reduce = |evaluated: nets::Evaluated| Ok([evaluated.map.max(3)?.flatten_from(1)?.max(1)?]);
    let stopped = nets::evaluate_with(&network, &test, frame(EvalCrop::Whole), 7, &reduce, &mut |batch: Taken<1>| {
        let [values] = batch.values;
        maxima.extend(values);
        Ok::<_, Error>(if batch.first == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert_eq!(maxima.len(), 14);
    let wrong = cxr::EvalFrame { image_px: 25, ..frame(EvalCrop::Centre) };
    assert!(
        nets::evaluate(&network, &test, wrong, Tta::None, 7, &mut |_| Ok::<_, Error>(ControlFlow::Continue(())))
            .is_err()
    );
}

#[test]
fn the_evaluation_batch_changes_no_bit() {
    let test = images(33, 5);
    for backbone in [Backbone::Mini, Backbone::Mini8, Backbone::Resnet18, Backbone::Resnet50, Backbone::Densenet121] {
        let mut network = nets::Network::new(backbone, nets::Pool::Max, 7, &candle_core::Device::Cpu).unwrap();
        let side = backbone.min_side().max(20);
        let frame = cxr::EvalFrame { crop: EvalCrop::Whole, image_px: common::SIZE, input_px: side };
        let mut of_precision = Vec::new();
        for precision in [Precision::F32, Precision::Bf16] {
            network.evaluate_in(precision);
            let scores = |batch: usize| {
                let (mut pools, mut logits) = (Vec::new(), Vec::new());
                nets::evaluate(&network, &test, frame, Tta::None, batch, &mut |batch: Scores| {
                    pools.extend(batch.pool);
                    logits.extend(batch.logits.into_flattened());
                    Ok::<_, Error>(ControlFlow::Continue(()))
                })
                .unwrap();
                (pools, logits)
            };
            let (pools, logits) = scores(32);
            assert_eq!(logits.len(), 33 * OUTPUTS);
            for batch in [1, 7] {
                let (other_pools, other_logits) = scores(batch);
                assert!(same_bits(&other_pools, &pools), "features of {backbone}, {precision}, in batches of {batch}");
                assert!(same_bits(&other_logits, &logits), "logits of {backbone}, {precision}, in batches of {batch}");
            }
            of_precision.push(pools);
        }
        // Rounded, not something else: the features are apart by no more than some bits of bf16, of which eight are stored.
        let [exact, rounded] = &of_precision[..] else { unreachable!() };
        let largest = exact.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let apart = exact.iter().zip(rounded).fold(0.0, |apart: f32, (a, b)| apart.max((a - b).abs()));
        assert!(apart > 0.0 && apart < 0.05 * largest, "{backbone}: {apart} of {largest}");
    }
}

fn same_bits(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn a_diverging_loss_says_what_to_do() {
    let training = Training::new(Recipe { lr: 1e9, warmup_epochs: 0, ..recipe(OptimizerKind::Sgd) });
    let folder = tempfile::tempdir().unwrap();
    let error = training.run(folder.path(), |_| false).1.unwrap_err();
    assert!(error.to_string().contains("training diverged"), "{error}");
    assert!(error.hint().unwrap().contains("a lower learning rate"), "{error}");
}
