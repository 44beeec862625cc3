//! Joining, training and scoring.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_nn::Linear;
use common::{DIMS, Tables, branches, config, join, score, train, write};
use cxr::{Labels, OUTPUTS, Split, metrics};
use fusion::{Config, Init, Samples};
use model::fusion::FusionLayer;
use stage::{Section, Settings};
use tables::predictions::Row;

/// Samples of these branches, and the folders they lie in.
fn samples(branches: &[Tables; 2]) -> (Samples, [PathBuf; 2], tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let folders = write(folder.path(), branches);
    (join(&folders).unwrap(), folders, folder)
}

/// Predictions and learning curve after training by `config`.
fn trained(branches: &[Tables; 2], config: &Config) -> (Vec<Row>, nets::Fit) {
    let (samples, folders, _folder) = samples(branches);
    let weights = folders.map(|folder| folder.join("weights.safetensors"));
    let start = fusion::start(config, &samples, [&weights[0], &weights[1]], 1, &Device::Cpu).unwrap();
    let (layer, fit) = train(&samples, config, &start, 1).unwrap();
    (score(&layer, &samples).unwrap(), fit)
}

fn auroc(rows: &[Row], split: Split) -> f64 {
    let rows = rows.iter().filter(|row| row.key.split == split);
    let (logits, labels): (Vec<[f32; OUTPUTS]>, Vec<Labels>) = rows.map(|row| (row.logits, row.key.labels)).unzip();
    metrics::mean_auroc(&logits, &labels).value.unwrap()
}

/// The defaults, for a few hundred images of small features: 5 steps an epoch instead of 1,226.
fn quick() -> Config {
    Config { lr: 1.0, ..config() }
}

#[test]
fn sees_more_than_either_half() {
    let both = branches();
    let alone = |hidden: usize| {
        let mut branches = both.clone();
        branches[hidden].features.pool.fill(0.0);
        auroc(&trained(&branches, &quick()).0, Split::Test)
    };
    let (rows, fit) = trained(&both, &quick());
    let (fused, global, local) = (auroc(&rows, Split::Test), alone(1), alone(0));
    assert!(fused > 0.95 && global < 0.9 && local < 0.9, "fused {fused}, global {global}, local {local}");

    assert_eq!(fit.epochs.len(), 50);
    let best = &fit.epochs[fit.best_epoch as usize - 1];
    let highest = fit.epochs.iter().filter_map(|stats| stats.validation_auroc).fold(0.0, f64::max);
    assert_eq!(best.validation_auroc, Some(highest));
    assert_eq!(best.validation_auroc, Some(auroc(&rows, Split::Validation)), "that epoch's weights are returned");
    assert!(fit.epochs[49].train_loss < fit.epochs[0].train_loss);
    assert_eq!((fit.epochs[19].lr, fit.epochs[20].lr), (1.0, 0.1));
}

#[test]
fn every_recipe_learns() {
    let recipes = [
        "standardise = true",
        "schedule = \"cosine\"",
        "optimizer = \"adamw\"\nlr = 0.01",
        "init = \"branches\"",
        "init = \"branches\"\nstandardise = true",
    ];
    for recipe in recipes {
        let mut table: toml::Table = fusion::SPEC.defaults.parse().unwrap();
        let section = table["fusion"].as_table_mut().unwrap();
        section.insert("lr".to_owned(), 1.0.into());
        section.extend(recipe.parse::<toml::Table>().unwrap());
        let config: Config = table["fusion"].clone().try_into().unwrap();
        config.check(Section("fusion")).unwrap();
        let fused = auroc(&trained(&branches(), &config).0, Split::Test);
        assert!(fused > 0.9, "{recipe}: {fused}");
    }
}

/// A learning rate of next to nothing leaves the layer as it started: through the round trip of standardised weights.
#[test]
fn standardised_weights_apply_to_plain_features() {
    let mut both = branches();
    for pool in both.iter_mut().map(|branch| &mut branch.features.pool) {
        pool.iter_mut().step_by(2).for_each(|value| *value = 5.0 + 3.0 * *value);
        pool.iter_mut().skip(3).step_by(4).for_each(|value| *value = 0.5); // constant features
    }
    let still = Config { lr: 1e-12, epochs: 1, ..config() };
    let (plain, _) = trained(&both, &still);
    let (standardised, _) = trained(&both, &Config { standardise: true, ..still });
    for (one, two) in plain.iter().zip(&standardised) {
        for (one, two) in one.logits.iter().zip(&two.logits) {
            assert!((one - two).abs() < 1e-4, "{one} {two}");
        }
    }
}

#[test]
fn starts_as_the_mean_of_the_branches() {
    let both = branches();
    let (samples, folders, _folder) = samples(&both);
    let config = Config { init: Init::Branches, ..config() };
    let weights = folders.map(|folder| folder.join("weights.safetensors"));
    let start = fusion::start(&config, &samples, [&weights[0], &weights[1]], 1, &Device::Cpu).unwrap();
    let rows = score(&start, &samples).unwrap();
    let logit = |which: usize, image: usize, output: usize| -> f64 {
        let (dim, bias) = (DIMS[which], [0.25, -1.5][which]);
        let terms = both[which].features.row(image).iter().enumerate().map(|(feature, &value)| {
            f64::from(((output * dim + feature) as f32 + bias as f32).sin()) * f64::from(value)
        });
        terms.sum::<f64>() + bias
    };
    for image in [0, 17, 499] {
        for (output, &got) in rows[image].logits.iter().enumerate() {
            let mean = (logit(0, image, output) + logit(1, image, output)) / 2.0;
            assert!((f64::from(got) - mean).abs() < 1e-4, "image {image}, output {output}: {got}, expected {mean}");
        }
    }

    let swapped = fusion::start(&config, &samples, [&weights[1], &weights[0]], 1, &Device::Cpu).unwrap_err();
    let said = swapped.to_string().replace(&weights[1].display().to_string(), "LOCAL");
    assert_eq!(said, "LOCAL: expected a last layer with weight [15, 20], got [15, 16]");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (samples, ..) = samples(&branches());
    let bytes = |seed: u64| -> [Vec<u8>; 2] {
        let config = Config { epochs: 3, ..config() };
        let start = fusion::start(&config, &samples, [Path::new(""); 2], seed, &Device::Cpu).unwrap();
        let (layer, fit) = train(&samples, &config, &start, seed).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fusion::write(folder.path(), &layer, &fit).unwrap();
        let read = FusionLayer::open(&folder.path().join("weights.safetensors")).unwrap();
        assert_eq!(fusion::score(&read, &samples).unwrap(), score(&layer, &samples).unwrap());
        ["weights.safetensors", "epochs.parquet"].map(|name| fs_err::read(folder.path().join(name)).unwrap())
    };
    assert!(bytes(1) == bytes(1));
    assert!(bytes(1) != bytes(2));
}

/// Both with and without standardised features: stopped in the middle of an epoch, and during a validation.
#[test]
fn stopped_and_continued_is_bit_identical() {
    let (samples, ..) = samples(&branches());
    for standardise in [false, true] {
        let config = Config { epochs: 4, warmup_epochs: 1, standardise, ..quick() };
        let start = fusion::start(&config, &samples, [Path::new(""); 2], 1, &Device::Cpu).unwrap();
        let identity = fusion::identity(&samples, &config, &start, 1).unwrap();
        let values = |layer: &Linear| layer.weight().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (whole, fitted) = train(&samples, &config, &start, 1).unwrap();
        let curve = |fit: &nets::Fit| -> Vec<_> {
            fit.epochs.iter().map(|stats| (stats.train_loss, stats.validation_loss, stats.validation_auroc)).collect()
        };

        let folder = tempfile::tempdir().unwrap();
        let checkpoints = nets::Checkpoints { folder: folder.path(), others: &[], minutes: 10.0 };
        let stop = |at: &dyn Fn(&nets::Event) -> bool| {
            let stopped = fusion::fit(&samples, &config, &start, &identity, &checkpoints, &mut |event| {
                if at(&event) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            stopped.unwrap_err().to_string()
        };
        let step = |wanted: usize| move |event: &nets::Event| matches!(event, nets::Event::Step { step, .. } if *step == wanted);
        assert_eq!(stop(&step(3)), "interrupted after 0 finished epochs and 3 steps");
        let validation = |event: &nets::Event| matches!(event, nets::Event::Validation { epoch: 2, .. });
        assert_eq!(stop(&validation), "interrupted after 1 finished epochs and 5 steps");
        let (layer, refitted) =
            fusion::train(&samples, &config, &start, &identity, &checkpoints, &mut stage::Scalars::nowhere()).unwrap();
        assert_eq!((values(&layer), curve(&refitted)), (values(&whole), curve(&fitted)));
    }
}

#[test]
fn the_identity_is_that_of_the_training_and_validation_images() {
    let identity = |both: &[Tables; 2], config: &Config, seed: u64| {
        let (samples, ..) = samples(both);
        let start = fusion::start(config, &samples, [Path::new(""); 2], seed, &Device::Cpu).unwrap();
        fusion::identity(&samples, config, &start, seed).unwrap()
    };
    let both = branches();
    let first = identity(&both, &config(), 1);
    assert_eq!(first.key(), identity(&both, &config(), 1).key());
    assert_ne!(first.key(), identity(&both, &config(), 2).key());
    let longer = identity(&both, &Config { epochs: 60, ..config() }, 1);
    assert_ne!(first.key(), longer.key());
    assert_eq!(first.lineage(), longer.lineage());
    for (split, same) in [(Split::Test, true), (Split::Validation, false), (Split::Train, false)] {
        let mut changed = both.clone();
        let index = changed[0].predictions.iter().position(|row| row.key.split == split).unwrap();
        let labels = Labels::parse("Mass|Hernia").unwrap();
        changed.iter_mut().for_each(|branch| branch.predictions[index].key.labels = labels);
        assert_eq!(first.key() == identity(&changed, &config(), 1).key(), same, "{split}");
    }
}

#[test]
fn without_validation_the_last_epoch_is_published() {
    let mut both = branches();
    for row in
        both.iter_mut().flat_map(|branch| &mut branch.predictions).filter(|row| row.key.split == Split::Validation)
    {
        row.key.split = Split::Test;
    }
    let (_, fit) = trained(&both, &Config { epochs: 4, ..config() });
    assert_eq!((fit.best_epoch, fit.epochs[3].validation_auroc, fit.epochs[3].validation_loss), (4, None, None));
}

#[test]
fn a_limit_keeps_the_first_of_every_split() {
    let (mut samples, ..) = samples(&branches());
    let all = samples.clone();
    samples.limit(2);
    let ids: Vec<&str> = samples.rows().iter().map(|row| &row.key.image_id[6..8]).collect();
    assert_eq!(ids, ["00", "01", "03", "04", "08", "09"]);
    let start = fusion::start(&config(), &samples, [Path::new(""); 2], 1, &Device::Cpu).unwrap();
    let (few, all) = (score(&start, &samples).unwrap(), score(&start, &all).unwrap());
    assert!((few[5].logits[0] - all[9].logits[0]).abs() < 1e-5);
}

#[test]
fn what_does_not_join_is_named() {
    type Damage = fn(&mut [Tables; 2]);
    fn drop_image(branch: &mut Tables, index: usize) {
        branch.predictions.remove(index);
        branch.features.image_ids.remove(index);
        branch.features.pool.drain(index * branch.features.dim..(index + 1) * branch.features.dim);
    }
    let cases: [(Damage, &str); 6] = [
        (
            |[_, local]| drop(local.predictions.remove(3)),
            "ROOT/local/predictions.parquet: no row for image 00000003_000.png, which ROOT/local/features.parquet has",
        ),
        (
            |[_, local]| drop_image(local, 499),
            "ROOT/local/predictions.parquet: no row for image 00000499_000.png, which ROOT/global/predictions.parquet has",
        ),
        (
            |[global, _]| drop_image(global, 0),
            "ROOT/global/predictions.parquet: no row for image 00000000_000.png, which ROOT/local/predictions.parquet has",
        ),
        (
            |[_, local]| local.predictions[4].key.split = Split::Train,
            "ROOT/local/predictions.parquet: split of image 00000004_000.png: expected test as in \
             ROOT/global/predictions.parquet, got train",
        ),
        (
            |[global, local]| {
                global.predictions[5].key.labels = Labels::parse("Mass|Hernia").unwrap();
                local.predictions[5].key.labels = Labels::default();
            },
            "ROOT/local/predictions.parquet: labels of image 00000005_000.png: expected Mass|Hernia as in \
             ROOT/global/predictions.parquet, got No Finding",
        ),
        (
            |[_, local]| local.predictions[6].key.patient_id = 99,
            "ROOT/local/predictions.parquet: patient_id of image 00000006_000.png: expected 6 as in \
             ROOT/global/predictions.parquet, got 99",
        ),
    ];
    for (damage, expected) in cases {
        let mut both = branches();
        damage(&mut both);
        let folder = tempfile::tempdir().unwrap();
        let error = join(&write(folder.path(), &both)).unwrap_err();
        assert_eq!(error.to_string().replace(&folder.path().display().to_string(), "ROOT"), expected);
    }
}

#[test]
fn no_images_to_train_on() {
    let mut both = branches();
    both.iter_mut().flat_map(|branch| &mut branch.predictions).for_each(|row| row.key.split = Split::Test);
    let (samples, ..) = samples(&both);
    let start = fusion::start(&config(), &samples, [Path::new(""); 2], 1, &Device::Cpu).unwrap();
    let error = train(&samples, &config(), &start, 1).unwrap_err();
    assert_eq!(error.to_string(), "no images in the split `train`: expected at least 1");
}

#[test]
fn the_defaults_are_in_range_and_wrong_values_are_named() {
    config().check(Section("fusion")).unwrap();
    let wrong = Config { momentum: f64::NAN, ..config() };
    assert_eq!(
        wrong.check(Section("fusion")).unwrap_err().to_string(),
        "fusion.momentum = NaN, expected at least 0, below 1"
    );
    let wrong = Config { batch: 0, ..config() };
    assert_eq!(wrong.check(Section("fusion")).unwrap_err().to_string(), "fusion.batch = 0, expected 1 to 65536");
}
