//! The promises of ARCHITECTURE.md, kept by the real binaries on tiny data.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Pipeline, STAGES};

fn manifest(pipeline: &Pipeline, run: &str, stage: &str) -> serde_json::Value {
    let path = pipeline.published(run, stage).join("manifest.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// All files below `folder` with their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                files.push((path.strip_prefix(folder).unwrap().to_path_buf(), bytes));
            }
        }
    }
    files.sort();
    files
}

/// One long test, because every step stands on the one before: run, rerun, change, share, break.
#[test]
fn a_users_day() {
    let pipeline = Pipeline::new();

    // The first run does everything, and ends in a report.
    assert_eq!(pipeline.all(&[]), STAGES);
    let report = pipeline.published("default", "report");
    let page = fs::read_to_string(report.join("index.html")).unwrap();
    assert!(page.contains("AUROC"));
    for stage in STAGES {
        assert!(manifest(&pipeline, "default", stage)["key"].is_string(), "{stage}");
    }

    // The second does nothing.
    assert_eq!(pipeline.all(&[]), [""; 0]);

    // A dry run says what a changed threshold would do, and does not do it.
    let weights = pipeline.published("default", "global").join("weights.safetensors");
    let before = fs::read(&weights).unwrap();
    let dry = pipeline.stage("attend", &["--dry-run", "--set", "attend.threshold=0.5"]);
    assert_eq!(dry.code, 0, "{}", dry.stderr);
    assert!((dry.stdout + &dry.stderr).contains("threshold"));
    assert!(pipeline.stage("attend", &[]).current());
    let dry = pipeline.stage("local", &["--dry-run", "--set", "attend.threshold=0.5"]);
    assert!(dry.current() && dry.stderr.contains("unless") && dry.stderr.contains("attend"), "{}", dry.stderr);

    // A changed threshold reruns what depends on it, and nothing else.
    let changed = ["--set", "attend.threshold=0.5"];
    assert_eq!(pipeline.all(&changed), ["attend", "local", "fusion", "report"]);
    assert_eq!(pipeline.all(&changed), [""; 0]);
    assert_eq!(fs::read(&weights).unwrap(), before);

    // Another threshold in another run shares prep and global by reference.
    for stage in ["attend", "local", "fusion", "report"] {
        let ran = pipeline.stage(stage, &["--run", "tau", "--base", "default", "--set", "attend.threshold=0.9"]);
        assert_eq!(ran.code, 0, "{stage}: {}", ran.stderr);
    }
    assert!(!pipeline.published("tau", "prep").exists());
    assert!(!pipeline.published("tau", "global").exists());

    // A changed seed reruns the training.
    let seeded = ["--set", "attend.threshold=0.5", "--seed", "2"];
    let worked = pipeline.all(&seeded);
    assert!(worked.contains(&"global") && worked.contains(&"fusion"), "{worked:?}");
}

#[test]
fn a_killed_stage_resumes_to_the_same_bits() {
    let whole = Pipeline::new();
    whole.all(&[]);
    let killed = Pipeline::new();
    for stage in STAGES {
        // Killed at the last moments before its results are in place, whatever it does before.
        for at in ["before-manifest", "before-publish"] {
            let ran = killed.command(stage, &[]).env("AGCNN_TEST_KILL_AT", at).output().unwrap();
            assert!(!ran.status.success(), "{stage} was to be killed at {at}");
            assert!(!killed.published("default", stage).exists(), "{stage} at {at}");
        }
        let ran = killed.stage(stage, &[]);
        assert_eq!(ran.code, 0, "{stage}: {}", ran.stderr);
        assert!(!ran.current());
    }
    for stage in ["global", "local", "fusion"] {
        let name = "weights.safetensors";
        let expected = fs::read(whole.published("default", stage).join(name)).unwrap();
        let got = fs::read(killed.published("default", stage).join(name)).unwrap();
        assert!(got == expected, "{stage}/{name} differs from an uninterrupted run's");
    }
}

#[test]
fn training_killed_in_an_epoch_continues_from_its_checkpoint() {
    let whole = Pipeline::new();
    let killed = Pipeline::new();
    for pipeline in [&whole, &killed] {
        for stage in ["phantom", "prep"] {
            assert_eq!(pipeline.stage(stage, &[]).code, 0);
        }
    }
    let many = ["--set", "global.epochs=24"];
    assert_eq!(whole.stage("global", &many).code, 0);

    let mut child = killed.command("global", &many).spawn().unwrap();
    let work = killed.path().join("artifacts/default/.work/global");
    let checkpointed = || -> bool {
        let Ok(keys) = fs::read_dir(&work) else { return false };
        keys.flatten().any(|key| !contents_names(&key.path().join("scratch")).is_empty())
    };
    while !checkpointed() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.try_wait().unwrap().is_none(), "finished before it could be killed");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.published("default", "global").exists());

    let resumed = killed.stage("global", &many);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    let name = "weights.safetensors";
    let expected = fs::read(whole.published("default", "global").join(name)).unwrap();
    let got = fs::read(killed.published("default", "global").join(name)).unwrap();
    assert!(got == expected, "weights differ from an uninterrupted run's");
}

fn contents_names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_is_missing_stale_or_edited_is_said_and_harms_nothing() {
    let pipeline = Pipeline::new();

    // Nothing there yet: 3, with the recipe that helps.
    let ran = pipeline.stage("attend", &[]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);

    // Usage: 2, naming key, value and range.
    for bad in ["global.epochs=0", "global.epochz=3", "global.lr=\"fast\"", "nonsense.x=1"] {
        let ran = pipeline.stage("global", &["--set", bad]);
        assert_eq!(ran.code, 2, "{bad}: {}", ran.stderr);
        assert!(ran.stderr.contains(bad.split('=').next().unwrap()), "{bad}: {}", ran.stderr);
    }

    pipeline.all(&[]);
    let global = contents(&pipeline.published("default", "global"));

    // A table edited by hand is noticed.
    let predictions = pipeline.published("default", "local").join("predictions.parquet");
    let good = fs::read(&predictions).unwrap();
    let mut edited = good.clone();
    let middle = edited.len() / 2;
    edited[middle] ^= 1;
    fs::write(&predictions, &edited).unwrap();
    let ran = pipeline.stage("fusion", &["--force"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("predictions.parquet"), "{}", ran.stderr);
    fs::write(&predictions, &good).unwrap();
    assert!(pipeline.stage("fusion", &[]).current());

    // An upstream that was rerun alone leaves what stands on it stale.
    let ran = pipeline.stage("prep", &["--set", "prep.contrast=1.2"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = pipeline.stage("attend", &["--force"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("just global"), "{}", ran.stderr);

    // None of this touched what global had published.
    assert!(contents(&pipeline.published("default", "global")) == global);
}

#[test]
fn two_runs_of_one_stage_do_not_meet() {
    let pipeline = Pipeline::new();
    for stage in ["phantom", "prep"] {
        assert_eq!(pipeline.stage(stage, &[]).code, 0);
    }
    let long = ["--set", "global.epochs=200"];
    let mut first = pipeline.command("global", &long).spawn().unwrap();
    let work = pipeline.path().join("artifacts/default/.work/global");
    while fs::read_dir(&work).is_err() && first.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let second = pipeline.stage("global", &long);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(second.stderr.contains("another run"), "{}", second.stderr);
}

#[test]
fn weights_of_another_network_are_refused() {
    let pipeline = Pipeline::new();
    for stage in ["phantom", "prep", "global"] {
        assert_eq!(pipeline.stage(stage, &[]).code, 0);
    }
    let weights = pipeline.published("default", "global").join("weights.safetensors");
    let init = format!("global.init={}", weights.display());
    let other = ["--set", "global.backbone=resnet18", "--set", &init];
    let ran = pipeline.stage("global", &other);
    assert!([3, 4].contains(&ran.code), "{} {}", ran.code, ran.stderr);
    assert!(ran.stderr.contains("weights.safetensors"), "{}", ran.stderr);
}
