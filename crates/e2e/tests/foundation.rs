//! A foundation model as the backbone of both branches: frozen, its features computed once.
//!
//! The weights are random ones of a tiny DINOv2 in Hugging Face's format, which the parity test of `nets` is made of.

use std::path::{Path, PathBuf};

use e2e::{Pipeline, Ran, STAGES, contents};

const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../nets/tests/parity/dinov2/model.safetensors");

/// The settings of a run.
fn settings(more: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for branch in ["global", "local"] {
        let init = format!("init=pretrained:{WEIGHTS}");
        for setting in ["backbone=dinov2-tiny", &init, "pool=class", "crop=42"] {
            all.extend(["--set".to_owned(), format!("{branch}.{setting}")]);
        }
    }
    all.extend(more.iter().map(|&text| text.to_owned()));
    all
}

fn stage(pipeline: &Pipeline, stage: &str, more: &[&str]) -> Ran {
    let settings = settings(more);
    pipeline.stage(stage, &settings.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs all stages; the names of those that computed.
fn all(pipeline: &Pipeline, more: &[&str]) -> Vec<&'static str> {
    STAGES.into_iter().filter(|name| !stage(pipeline, name, more).expect(0).current()).collect()
}

/// Results of a step in the store.
fn stored(pipeline: &Pipeline, step: &str) -> usize {
    let entries = fs_err::read_dir(pipeline.path().join("artifacts/store").join(step)).unwrap();
    entries.filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().contains('.')).count()
}

fn file(pipeline: &Pipeline, stage: &str, name: &str) -> Vec<u8> {
    fs_err::read(pipeline.published("default", stage).join(name)).unwrap()
}

#[test]
fn features_are_computed_once() {
    let pipeline = Pipeline::new();
    assert_eq!(all(&pipeline, &[]), STAGES);
    let page = String::from_utf8(file(&pipeline, "report", "index.html")).unwrap();
    assert!(page.contains("AUROC") && page.contains("dinov2-tiny"));
    assert_eq!((stored(&pipeline, "features"), stored(&pipeline, "training")), (2, 3));
    assert_eq!(all(&pipeline, &[]), [""; 0]);
    // The linear layer was trained on class tokens: it says nothing of single patches.
    assert!(!pipeline.published("default", "attend").join("class_maps.parquet").exists());

    // Another recipe of the linear layer trains again, and computes no feature.
    let [features, predictions] =
        ["features.parquet", "predictions.parquet"].map(|name| file(&pipeline, "global", name));
    let before = contents(&pipeline.published("default", "global"));
    let ran = stage(&pipeline, "global", &["--set", "global.lr=0.5"]).expect(0);
    assert!(ran.stderr.contains("the features are in the store") && ran.stderr.contains("is frozen"), "{ran}");
    assert_eq!(file(&pipeline, "global", "features.parquet"), features);
    assert_ne!(file(&pipeline, "global", "predictions.parquet"), predictions);
    // A crop that the network cannot be shown is refused before an image is decoded, and by --check.
    for (crop, expected) in
        [("43", "attend.crop = 43, expected a multiple of 14"), ("14", "attend.crop = 14, expected at least 28 px")]
    {
        let setting = format!("attend.crop={crop}");
        for how in ["-v", "--check"] {
            let ran = stage(&pipeline, "attend", &["--set", &setting, how]).expect(2);
            assert!(ran.stderr.contains(expected) && !ran.stderr.contains("in memory"), "{ran}");
        }
    }
    // One more epoch is a training too, which goes on from the last one.
    let ran = stage(&pipeline, "global", &["--set", "global.epochs=4"]).expect(0);
    assert!(ran.stderr.contains("continues after epoch 3"), "{ran}");
    // Augmentation is not used.
    let ran = stage(&pipeline, "global", &["--set", "global.flip=false"]).expect(0);
    assert!(ran.stderr.contains("the training is in the store"), "{ran}");
    assert_eq!((stored(&pipeline, "features"), stored(&pipeline, "training")), (2, 5));
    // Another split is of the same pixels.
    let other = ["--set", "prep.split_seed=2"];
    assert!(!stage(&pipeline, "prep", &other).expect(0).current());
    let ran = stage(&pipeline, "global", &other).expect(0);
    assert!(ran.stderr.contains("the features are in the store"), "{ran}");
    assert_eq!((stored(&pipeline, "features"), stored(&pipeline, "training")), (2, 6));

    // Again, on one thread, one image at a time, interrupted on the way: the same bits.
    let again = Pipeline::new();
    for name in ["phantom", "prep"] {
        stage(&again, name, &[]).expect(0);
    }
    let slow = settings(&["--set", "global.eval_batch=1"]);
    let slow: Vec<&str> = slow.iter().map(String::as_str).collect();
    let (code, said) = again.interrupted_at("global", &slow, "dinov2-tiny features of");
    assert_eq!(code, 130, "{said}");
    let mut command = again.command("global", &slow);
    command.env("RAYON_NUM_THREADS", "1");
    again.run(command).expect(0);
    assert!(contents(&again.published("default", "global")) == before, "other bytes");
}

#[test]
fn what_a_frozen_trunk_cannot_do_is_refused() {
    let pipeline = Pipeline::new();
    for name in ["phantom", "prep"] {
        pipeline.stage(name, &["--limit", "8"]).expect(0);
    }
    let refused = |setting: &str, code: i32, words: &str| {
        for how in [&[][..], &["--check"]] {
            let more = [&["--limit", "8", "--set", setting], how].concat();
            let ran = stage(&pipeline, "global", &more).expect(code);
            assert!(ran.stderr.contains(words), "{ran}");
        }
    };
    refused("global.crop=43", 2, "global.crop = 43, expected a multiple of 14, the side of a patch of dinov2-tiny");
    refused("global.init=random", 2, "pretrained weights: dinov2-tiny is frozen");
    refused("global.init=random", 2, "docs/foundation.md says where to get them");
    refused("global.precision=bf16", 2, "f32 or auto: dinov2-tiny computes in f32");
    refused("global.backbone=mini", 2, "max, avg or lse: mini has no class token");
    refused("global.init=pretrained", 3, "data/pretrained/dinov2-tiny.safetensors");
    refused("global.init=pretrained:none.safetensors", 3, "none.safetensors");
    let foreign = pipeline.path().join("foreign.safetensors");
    cut(Path::new(WEIGHTS), &foreign);
    refused(&format!("global.init=pretrained:{}", foreign.display()), 4, "no whole safetensors file");
    refused("global.backbone=rad-dino", 4, "not the weights of rad-dino");
    // Two cells of its map at least.
    refused("global.backbone=convnext-tiny", 2, "global.crop = 42, expected 64 to 2048");
}

/// A file without its end.
fn cut(from: &Path, to: &PathBuf) {
    let bytes = fs_err::read(from).unwrap();
    fs_err::write(to, &bytes[..bytes.len() - 100]).unwrap();
}
