//! The binary as its user meets it: help, counts, exit codes.

mod common;

use std::path::Path;
use std::process::Command;

use common::{nih_folder, small};
use fs_err as fs;

/// Exit code, stdout and stderr of `prep ARGS` on the folder `root`, its artefacts below `artifacts`.
fn prep(root: &Path, artifacts: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("prep"))
        .args(["--set", &format!("prep.root={}", root.display()), "--set", "prep.size=16"])
        .arg("--artifacts-dir")
        .arg(artifacts)
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&root.display().to_string(), "ROOT");
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help() {
    let output =
        Command::new(assert_cmd::cargo::cargo_bin!("prep")).arg("--help").env("COLUMNS", "100").output().unwrap();
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn runs_once_and_again_when_an_image_changes() {
    let (folder, artifacts) = (small(), tempfile::tempdir().unwrap());
    let run = |args: &[&str]| prep(folder.path(), artifacts.path(), args);
    let (code, stdout, stderr) = run(&["--dry-run"]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!(stdout);
    assert!(!artifacts.path().join("default/prep").exists());

    let (code, stdout, stderr) = run(&[]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(artifacts.path().join("default/prep/images/test-00000-of-00001.parquet").is_file());
    let (code, _, stderr) = run(&[]);
    assert!(code == 0 && stderr.contains("current"), "{stderr}");

    let image = folder.path().join("images_001/images/00000002_001.png");
    fs::copy(folder.path().join("images_001/images/00000002_000.png"), &image).unwrap();
    let (code, _, stderr) = run(&[]);
    assert!(code == 0 && !stderr.contains("current"), "{stderr}");

    // What is wrong harms nothing that was published.
    fs::write(&image, b"").unwrap();
    let (code, _, stderr) = run(&[]);
    assert!(code == 4 && stderr.contains("00000002_001.png: 0 bytes"), "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");
    assert!(artifacts.path().join("default/prep/images/test-00000-of-00001.parquet").is_file());
    assert_eq!(run(&["--set", "prep.corrupt=skip"]).0, 0);
    fs::remove_file(&image).unwrap();
    let (code, _, stderr) = run(&[]);
    assert!(code == 3 && stderr.contains("prep.missing=skip"), "{stderr}");
    assert_eq!(run(&["--dry-run"]).0, 0);
    assert_eq!(run(&["--set", "prep.missing=skip"]).0, 0);
}

#[test]
fn exit_codes() {
    let (folder, artifacts) = (small(), tempfile::tempdir().unwrap());
    let root = folder.path();
    for (value, code) in [
        ("prep.size=8", 2),
        ("prep.contrast=0", 2),
        ("prep.validation_fraction=0.9", 2),
        ("prep.split=files", 2),
        ("prep.split=mine", 2),
        ("prep.sizes=8", 2),
        ("prep.split=test", 0),
        ("prep.dataset=kaggle", 2),
        ("prep.dataset=folder", 2),
        ("prep.root=no/such", 3),
        ("prep.root=phantom", 3),
        ("prep.labels=none.csv", 3),
        ("prep.labels=BBox_List_2017.csv", 4),
    ] {
        let (got, _, stderr) = prep(root, artifacts.path(), &["--set", value]);
        assert_eq!(got, code, "{value}: {stderr}");
    }
    let own = |more: &[&str]| {
        let set: Vec<&str> = more.iter().flat_map(|value| ["--set", value]).collect();
        prep(
            root,
            artifacts.path(),
            &[&["--set", "prep.dataset=folder", "--set", "prep.split=random"], &set[..]].concat(),
        )
    };
    let image = "prep.image_column=Image Index";
    for (more, code, words) in [
        (vec![], 2, "prep.image_column = \"\", expected a column of the table"),
        (vec![image, "prep.split=official"], 2, "prep.split = official, expected \"random\""),
        (vec![image, "prep.rename={ Foo = \"Bar\" }"], 2, "expected one of the 14 findings"),
        (vec![image, "prep.uncertain=maybe"], 2, "maybe"),
        (vec![image], 3, "needs one .csv file, got BBox_List_2017.csv, Data_Entry_2017.csv"),
        (vec![image, "prep.labels=Data_Entry_2017.csv"], 4, "no column is called as one of the 14 findings"),
        (vec![image, "prep.labels=Data_Entry_2017.csv", "prep.findings_column=Finding Labels"], 0, ""),
    ] {
        let (got, _, stderr) = own(&more);
        assert!(got == code && stderr.contains(words), "{more:?}: {got} {stderr}");
    }
    fs::write(root.join("test_list.txt"), "00000001_000.png").unwrap();
    assert_eq!(prep(root, artifacts.path(), &[]).0, 4);
}

#[test]
#[ignore = "needs NIH's files: just test-nih"]
fn counts_nihs_tables_without_an_image() {
    let nih = nih_folder();
    let root = tempfile::tempdir().unwrap();
    for name in ["Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "train_val_list.txt", "test_list.txt"] {
        fs::copy(nih.join(name), root.path().join(name)).unwrap();
    }
    let (code, stdout, stderr) = prep(root.path(), &root.path().join("artifacts"), &["--dry-run"]);
    assert_eq!(code, 0, "{stderr}");
    for fact in ["112,120 rows, 30,805 patients", "86,524 / 25,596", "984 boxes on 880 images", "112,120 are not"] {
        assert!(stdout.contains(fact), "{fact}: {stdout}");
    }
    assert_eq!(prep(root.path(), &root.path().join("artifacts"), &[]).0, 3);
}

#[test]
fn places_that_are_no_folders() {
    let (folder, artifacts) = (small(), tempfile::tempdir().unwrap());
    // A password is refused, and never repeated.
    for (root, artifacts) in [
        (Path::new("s3://user:hunter2@bucket/nih"), artifacts.path()),
        (folder.path(), Path::new("s3://user:hunter2@bucket/nih")),
    ] {
        let (code, stdout, stderr) = prep(root, artifacts, &["--print-config"]);
        assert!(code == 2 && stderr.contains("keys come from the environment only"), "{stderr}");
        assert!(!stderr.contains("hunter2") && stdout.is_empty(), "{stdout}{stderr}");
    }
    // A URL of a file is its path.
    let url = format!("file://{}", folder.path().display());
    assert_eq!(prep(folder.path(), artifacts.path(), &[]).0, 0);
    let (code, _, stderr) = prep(Path::new(&url), artifacts.path(), &[]);
    assert!(code == 0 && stderr.contains("current"), "{stderr}");
    let url = format!("file://{}", artifacts.path().display());
    let (code, _, stderr) = prep(folder.path(), Path::new(&url), &[]);
    assert!(code == 0 && stderr.contains("current"), "{stderr}");
}
