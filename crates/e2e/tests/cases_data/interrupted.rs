//! `prep` that ends early.

use std::time::Duration;

use e2e::contents;
use fs_err as fs;

use crate::make::{Case, names};

#[test]
fn no_images_at_all_are_no_limit() {
    let case = Case::new();
    let ran = case.pipeline.stage("prep", &["--set", "prep.root=raw", "--limit", "0"]).expect(2);
    assert!(ran.stderr.contains("at least 1"), "{ran}");
}

/// The folder of the one attempt that was interrupted.
fn partial(case: &Case) -> Option<std::path::PathBuf> {
    let store = case.path("artifacts/store/prep");
    let mut entries = fs::read_dir(store).ok()?.map(|entry| entry.unwrap().path());
    entries.find(|path| path.to_string_lossy().ends_with(".partial"))
}

#[test]
fn finished_files_survive_a_kill_and_the_result_is_the_same() {
    let case = Case::new();
    // Three splits are three files; the last image of the last one is damaged, so that prep ends behind the others.
    let (expected, _) = case.good(&[]);
    let whole = contents(&case.pipeline.published("default", "prep"));
    let last = case.path(crate::make::IMAGES).join(names().last().unwrap());
    let (bytes, modified) = (fs::read(&last).unwrap(), fs::metadata(&last).unwrap().modified().unwrap());
    let damage = |bytes: &[u8]| {
        fs::write(&last, bytes).unwrap();
        fs::File::options().append(true).open(&last).unwrap().set_modified(modified).unwrap();
    };
    // Of the same size and date, so that it counts as the same until it is read.
    damage(&vec![0; bytes.len()]);
    let ran = case.prep(&["--force"].map(|_| "prep.size=48"));
    assert!(ran.current(), "the contents are remembered: {ran}");
    let forced = |code| {
        let args = ["--set", "prep.root=raw", "--force"];
        case.pipeline.stage("prep", &args).expect(code)
    };
    forced(4);
    let finished = partial(&case).unwrap().join("images");
    assert!(finished.join("train-00000-of-00001.parquet.json").is_file());
    assert!(finished.join("validation-00000-of-00001.parquet.json").is_file());
    assert!(!finished.join("test-00000-of-00001.parquet.json").exists());
    // One that rots meanwhile is made again.
    let rotten = finished.join("validation-00000-of-00001.parquet");
    let mut rot = fs::read(&rotten).unwrap();
    let middle = rot.len() / 2;
    rot[middle] ^= 1;
    fs::write(&rotten, rot).unwrap();
    damage(&bytes);
    let ran = forced(0);
    assert!(
        ran.stderr.contains("images were prepared before, by shards or before an interruption, and taken over"),
        "{ran}"
    );
    assert!(ran.stderr.contains("the same contents as before"), "{ran}");
    assert_eq!(contents(&case.pipeline.published("default", "prep")), whole);
    assert_eq!(case.prepared(), expected);
    assert!(partial(&case).is_none());
}

#[test]
fn killed_at_any_moment_it_ends_in_the_same_bytes() {
    let case = Case::new();
    case.good(&[]);
    let whole = contents(&case.pipeline.published("default", "prep"));
    let args = ["--set", "prep.root=raw", "--artifacts-dir", "again"];
    for wait in [5, 10, 15, 20, 25, 30, 40, 60] {
        let mut child = case.pipeline.command("prep", &args).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let _ = child.kill(); // it may have ended
        child.wait().unwrap();
    }
    case.pipeline.stage("prep", &args).expect(0);
    assert_eq!(contents(&case.path("again/default/prep")), whole);
}
