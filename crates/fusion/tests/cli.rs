//! The binary as its user meets it.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Tables, branches, branches_of};
use stage::{Begin, Common, Run, Spec, Unchecked};

/// Exit code and stderr of `fusion ARGS`, with the artefacts below `folder`.
fn fusion(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("fusion"))
        .arg("--artifacts-dir")
        .arg(folder)
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Publishes a branch as the stage of that name would.
fn publish(folder: &Path, name: &'static str, defaults: &'static str, tables: &Tables) {
    let common = Common {
        run: "default".to_owned(),
        artifacts_dir: folder.to_owned(),
        cache_dir: folder.to_owned(),
        config: Vec::new(),
        set: Vec::new(),
        device: "auto".to_owned(),
        seed: 1,
        limit: None,
        force: true,
        verify: false,
        dry_run: false,
        check: false,
        print_config: false,
        tensorboard: None,
        verbose: 0,
        quiet: true,
        sharing: Default::default(),
    };
    let spec = Spec { name, version: 1, seeded: false, defaults, about: "" };
    let (run, Unchecked(_)) = Run::open(&spec, &common).unwrap();
    let Begin::Work(work) = run.begin().unwrap() else { panic!("--force computes") };
    tables.write(work.out(), 0.0);
    work.publish(serde_json::Value::Null).unwrap();
}

#[test]
fn help() {
    let output =
        Command::new(assert_cmd::cargo::cargo_bin!("fusion")).arg("--help").env("COLUMNS", "100").output().unwrap();
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn runs_once_and_again_when_a_branch_changes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let few = ["--set", "fusion.epochs=2"];
    let (code, stderr) = fusion(folder, &few);
    assert!(code == 3 && stderr.contains("hint: run just global first"), "{stderr}");

    let [global, mut local] = branches();
    publish(folder, "global", "[global]\n", &global);
    publish(folder, "local", "[local]\n", &local);
    let (code, stderr) = fusion(folder, &few);
    assert!(code == 0 && stderr.contains("mean AUROC"), "{stderr}");
    let published = folder.join("default/fusion");
    let rows = tables::predictions::read(&published.join("predictions.parquet")).unwrap();
    assert_eq!(rows.len(), common::IMAGES);
    assert_eq!(tables::epochs::read(&published.join("epochs.parquet")).unwrap().len(), 2);
    let (tensors, meta) =
        nets::weights::read(&published.join("weights.safetensors"), &candle_core::Device::Cpu).unwrap();
    let shapes: Vec<(&str, &[usize])> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dims())).collect();
    assert_eq!(shapes, [("fc.weight", &[15, 36][..]), ("fc.bias", &[15])]);
    assert_eq!((meta.backbone.as_str(), meta.pool.as_str()), ("fusion", ""));

    let (code, stderr) = fusion(folder, &few);
    assert!(code == 0 && stderr.contains("current"), "{stderr}");
    let (code, stderr) = fusion(folder, &["--set", "fusion.epochs=2", "--set", "fusion.init=branches"]);
    assert!(code == 0 && stderr.contains("fusion.init \"random\" -> \"branches\""), "{stderr}");

    // What is wrong harms nothing that was published.
    local.predictions[0].key.patient_id = 77;
    publish(folder, "local", "[local]\n", &local);
    let (code, stderr) = fusion(folder, &few);
    assert!(code == 4 && stderr.contains("00000000_000.png") && stderr.contains("hint: "), "{stderr}");
    assert_eq!(tables::predictions::read(&published.join("predictions.parquet")).unwrap().len(), rows.len());
}

/// With as many features as two ResNet-50 have, so that matrix products are worth dividing.
#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [global, local] = branches_of(300, [2048, 2048]);
    publish(folder.path(), "global", "[global]\n", &global);
    publish(folder.path(), "local", "[local]\n", &local);
    let bytes = |threads: &str, standardise: &str| {
        let output = Command::new(assert_cmd::cargo::cargo_bin!("fusion"))
            .args(["--force", "--quiet", "--set", "fusion.epochs=2", "--set", standardise, "--artifacts-dir"])
            .arg(folder.path())
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ["weights.safetensors", "predictions.parquet"]
            .map(|name| fs_err::read(folder.path().join("default/fusion").join(name)).unwrap())
    };
    for standardise in ["fusion.standardise=false", "fusion.standardise=true"] {
        assert!(bytes("1", standardise) == bytes("5", standardise), "{standardise}");
    }
}

#[test]
fn wrong_settings_are_usage_errors() {
    let folder = tempfile::tempdir().unwrap();
    let said = |setting| fusion(folder.path(), &["--set", setting]);
    let (code, stderr) = said("fusion.lr=0");
    assert_eq!((code, stderr.lines().next()), (2, Some("error: fusion.lr = 0, expected above 0, at most 10")));
    for setting in
        ["fusion.lr=11", "fusion.momentum=1", "fusion.init=zeros", "fusion.rate=0.1", "fusion.optimizer=adam"]
    {
        let (code, stderr) = said(setting);
        assert_eq!(code, 2, "{setting}: {stderr}");
    }
    assert!(said("attend.threshold=0.6").0 == 3, "sections of other stages are theirs");
}
