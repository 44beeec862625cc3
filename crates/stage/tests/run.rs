//! A stage's promises, by two tiny stages in a temporary folder.

use std::fs;
use std::path::Path;

use clap::Parser;
use stage::{Common, Outcome, Plan, Run, Spec};

const PREP: Spec =
    Spec { name: "prep", version: 1, defaults: "[prep]\nroot = \"phantom\"\nsize = 256\ncontrast = 1.0\n" };
const GLOBAL: Spec = Spec { name: "global", version: 1, defaults: "[global]\nepochs = 50\nlr = 0.01\n" };
const ATTEND: Spec = Spec { name: "attend", version: 1, defaults: "[attend]\nthreshold = 0.7\n" };

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn common(folder: &Path, args: &[&str]) -> Common {
    let mut all = vec!["stage", "--artifacts-dir", folder.to_str().unwrap()];
    all.extend(args);
    Args::parse_from(all).common
}

/// A stage that writes its configuration and the contents of its input.
fn go(spec: &Spec, folder: &Path, upstream: Option<&str>, args: &[&str]) -> anyhow::Result<Outcome> {
    let mut run = Run::open(spec, &common(folder, args))?;
    let mut text = run.config::<toml::Table>()?.to_string() + &run.seed().to_string();
    if let Some(upstream) = upstream {
        let input = run.input(upstream, &["data"])?;
        text += &fs::read_to_string(input.file("data.txt"))?;
    }
    match run.plan()? {
        Plan::Stop(outcome) => return Ok(outcome),
        Plan::Go => {}
    }
    let work = run.begin()?;
    fs::write(work.out().join("data.txt"), text)?;
    Ok(work.publish(serde_json::json!({}))?)
}

fn all(folder: &Path, args: &[&str]) -> anyhow::Result<[Outcome; 3]> {
    let prep = go(&PREP, folder, None, args)?;
    let global = go(&GLOBAL, folder, Some("prep"), args)?;
    Ok([prep, global, go(&ATTEND, folder, Some("global"), args)?])
}

fn failure(result: anyhow::Result<impl std::fmt::Debug>) -> String {
    format!("{:#}", result.expect_err("expected a failure"))
}

use Outcome::{Current, Done, Nothing};

#[test]
fn a_stage_reruns_when_what_it_depends_on_changed() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| all(folder.path(), args).unwrap();
    assert_eq!(run(&[]), [Done, Done, Done]);
    assert_eq!(run(&[]), [Current, Current, Current]);
    assert_eq!(run(&["--set", "attend.threshold=0.6"]), [Current, Current, Done]);
    assert_eq!(run(&["--set", "attend.threshold=0.6", "--dry-run"]), [Current, Current, Current]);
    assert_eq!(run(&["--dry-run"]), [Current, Current, Nothing]);
    assert_eq!(run(&["--set", "global.epochs=3", "--device", "cpu"]), [Current, Done, Done]);
    assert_eq!(run(&["--set", "global.epochs=3", "--seed", "2"]), [Done, Done, Done]);
    assert_eq!(run(&["--set", "global.epochs=3", "--seed", "2", "--force"]), [Done, Done, Done]);
}

#[test]
fn another_run_shares_by_reference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    all(path, &[]).unwrap();
    let args = ["--run", "tau", "--base", "default", "--set", "attend.threshold=0.9"];
    assert_eq!(go(&ATTEND, path, Some("global"), &args).unwrap(), Done);
    assert_eq!(go(&ATTEND, path, Some("global"), &args).unwrap(), Current);
    assert!(!path.join("tau/global").exists());
}

#[test]
fn inputs_missing_edited_or_stale_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(failure(go(&ATTEND, path, Some("global"), &[])).contains("needs global"));
    all(path, &[]).unwrap();

    let data = path.join("default/prep/data.txt");
    let good = fs::read(&data).unwrap();
    fs::write(&data, b"edited by hand").unwrap();
    let message = failure(go(&GLOBAL, path, Some("prep"), &[]));
    assert!(message.contains("data.txt") && message.contains("BLAKE3"), "{message}");
    fs::write(&data, good).unwrap(); // another time of change, the same contents
    assert_eq!(go(&GLOBAL, path, Some("prep"), &[]).unwrap(), Current);

    go(&PREP, path, None, &["--set", "prep.size=128"]).unwrap();
    let message = failure(go(&ATTEND, path, Some("global"), &[]));
    assert!(message.contains("global is stale"), "{message}");
}

#[test]
fn wrong_configuration_names_key_value_and_origin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    fs::write(&file, "[attend]\nthreshhold = 0.5\n").unwrap();
    let file = file.to_str().unwrap();
    let refused = |args: &[&str]| failure(go(&ATTEND, folder.path(), None, args));

    let message = refused(&["--config", file]);
    assert!(message.contains("attend.threshhold = 0.5") && message.contains("mine.toml"), "{message}");
    assert!(message.contains("expected one of threshold"), "{message}");
    assert!(refused(&["--set", "nonsense.x=1"]).contains("unknown section nonsense"));
    assert!(refused(&["--set", "threshold"]).contains("STAGE.KEY=VALUE"));
    assert!(refused(&["--config", "/nowhere.toml"]).contains("/nowhere.toml"));
    assert!(refused(&["--run", "../up"]).contains("../up"));
    // Sections of other stages are theirs to check.
    assert_eq!(go(&PREP, folder.path(), None, &["--config", file]).unwrap(), Done);
}

#[test]
fn values_of_another_type_name_the_key() {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Config {
        threshold: f64,
    }
    let folder = tempfile::tempdir().unwrap();
    let open = |value: &str| {
        let set = format!("attend.threshold={value}");
        Run::open(&ATTEND, &common(folder.path(), &["--set", &set])).unwrap().config::<Config>()
    };
    assert!(open("1").is_ok());
    let message = open("high").unwrap_err().to_string();
    assert!(message.contains("threshold") && message.contains("high"), "{message}");
}

#[test]
fn a_second_process_is_told_who_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let first = Run::open(&PREP, &common(folder.path(), &[])).unwrap();
    let work = first.begin().unwrap();
    let second = Run::open(&PREP, &common(folder.path(), &[])).unwrap();
    let message = second.begin().unwrap_err().to_string();
    assert!(message.contains("another run of prep") && message.contains(&std::process::id().to_string()));
    drop(work);
    assert!(second.begin().is_ok());
}

#[test]
fn checkpoints_outlive_an_interruption_and_other_keys_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let open = |args: &[&str]| Run::open(&PREP, &common(folder.path(), args)).unwrap();
    let run = open(&[]);
    let work = run.begin().unwrap();
    fs::write(work.scratch().join("checkpoint"), "epoch 1").unwrap();
    fs::write(work.out().join("half"), "written").unwrap();
    drop(work);
    let work = run.begin().unwrap();
    assert!(work.scratch().join("checkpoint").exists());
    assert!(!work.out().join("half").exists());
    let checkpoint = work.scratch().join("checkpoint");
    drop(work);
    drop(open(&["--seed", "2"]).begin().unwrap());
    assert!(!checkpoint.exists());
}

#[test]
fn a_newer_manifest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    go(&PREP, folder.path(), None, &[]).unwrap();
    let path = folder.path().join("default/prep/manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"format_version\": 1", "\"format_version\": 99");
    fs::write(&path, text).unwrap();
    assert!(failure(go(&PREP, folder.path(), None, &[])).contains("format 99"));
}
