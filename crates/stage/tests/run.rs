//! A stage's promises, by tiny stages in a temporary folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stage::inventory::{Kind, inventory, remove};
use stage::{Begin, Common, Fail, Outcome, Run, Section, Settings, Spec, Step};

const ABOUT: &str = "A stage\n\nReads and writes.";
const PREP: Spec = Spec {
    name: "prep",
    version: 1,
    seeded: false,
    defaults: "[prep]\nsize = 256\ncontrast = 1.0\nroot = \"raw\"\n",
    about: ABOUT,
};
const GLOBAL: Spec = Spec {
    name: "global",
    version: 1,
    seeded: true,
    defaults: "[global]\nepochs = 50\nlr = 0.01\neval_batch = 32\n",
    about: ABOUT,
};
const ATTEND: Spec =
    Spec { name: "attend", version: 1, seeded: false, defaults: "[attend]\nthreshold = 0.7\n", about: ABOUT };

#[derive(Serialize, Deserialize)]
struct Prep {
    size: u32,
    contrast: f64,
    root: String,
}

impl Settings for Prep {
    const EXECUTION: &'static [&'static str] = &["root"];

    fn check(&self, section: Section) -> Result<(), Fail> {
        section.within("size", self.size, 16..=2048)
    }
}

#[derive(Serialize, Deserialize)]
struct Global {
    epochs: usize,
    lr: f64,
    eval_batch: usize,
}

impl Settings for Global {
    const EXECUTION: &'static [&'static str] = &["eval_batch"];

    fn check(&self, _: Section) -> Result<(), Fail> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Attend {
    threshold: f64,
}

impl Settings for Attend {
    const EXECUTION: &'static [&'static str] = &[];

    fn check(&self, _: Section) -> Result<(), Fail> {
        Ok(())
    }
}

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

/// Publishes `text` as `data.txt`.
fn publish(run: &Run, text: &str) -> Result<Outcome, Fail> {
    publish_with(run, || Ok(text.to_owned()))
}

/// As [`publish`]; the text is made where it is needed.
fn publish_with(run: &Run, text: impl FnOnce() -> Result<String, Fail>) -> Result<Outcome, Fail> {
    let work = match run.begin()? {
        Begin::Stop(outcome) => return Ok(outcome),
        Begin::Work(work) => work,
    };
    fs_err::write(work.out().join("data.txt"), text()?)?;
    work.publish(json!({"headline": "1 text"}))
}

/// prep writes its size; `root` and `contrast` leave no trace in it.
fn prep(folder: &Path, args: &[&str]) -> Result<Outcome, Fail> {
    let (run, config) = Run::open::<Prep>(&PREP, &common(folder, args))?;
    publish(&run, &config.size.to_string())
}

/// global writes its epochs, the seed and its input.
fn global(folder: &Path, args: &[&str]) -> Result<Outcome, Fail> {
    let (mut run, config) = Run::open::<Global>(&GLOBAL, &common(folder, args))?;
    let input = run.input("prep", &["data"])?;
    publish_with(&run, || {
        let text = fs_err::read_to_string(input.file("data.txt")?)?;
        Ok(format!("{} {} {text}", config.epochs, run.seed()))
    })
}

fn attend(folder: &Path, args: &[&str]) -> Result<Outcome, Fail> {
    let (mut run, config) = Run::open::<Attend>(&ATTEND, &common(folder, args))?;
    let input = run.input("global", &["data"])?;
    publish_with(&run, || {
        let text = fs_err::read_to_string(input.file("data.txt")?)?;
        Ok(format!("{} {text}", config.threshold))
    })
}

fn all(folder: &Path, args: &[&str]) -> [Outcome; 3] {
    [prep(folder, args), global(folder, args), attend(folder, args)].map(Result::unwrap)
}

fn failure(result: Result<impl std::fmt::Debug, Fail>) -> String {
    result.expect_err("expected a failure").to_string()
}

/// What the run's link points to.
fn target(folder: &Path, run: &str, stage: &str) -> PathBuf {
    fs_err::read_link(folder.join(run).join(stage)).unwrap()
}

/// Changes a published file, which is read-only.
fn edit(path: &Path, text: &str) {
    fs_err::remove_file(path).unwrap();
    fs_err::write(path, text).unwrap();
}

use Outcome::{Current, Done, Nothing};

#[test]
fn a_stage_computes_what_the_store_lacks_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| all(folder.path(), args);
    assert_eq!(run(&[]), [Done, Done, Done]);
    assert_eq!(run(&[]), [Current, Current, Current]);
    let there = ["--set", "attend.threshold=0.6"];
    assert_eq!(run(&there), [Current, Current, Done]);
    assert_eq!(run(&[&there[..], &["--dry-run"]].concat()), [Current, Current, Current]);
    // Back: the earlier result is still there.
    assert_eq!(run(&["--dry-run"]), [Current, Current, Nothing]);
    assert_eq!(run(&[]), [Current, Current, Current]);
    assert!(fs_err::read_to_string(folder.path().join("default/attend/data.txt")).unwrap().starts_with("0.7"));
    // A quick look harms nothing either.
    assert_eq!(run(&["--limit", "8"]), [Done, Done, Done]);
    assert_eq!(run(&[]), [Current, Current, Current]);
}

#[test]
fn a_key_means_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| all(folder.path(), args);
    run(&[]);
    // Other spellings of a value, settings of execution, devices.
    for same in ["prep.contrast=1", "prep.root=elsewhere", "global.eval_batch=1"] {
        assert_eq!(run(&["--set", same]), [Current, Current, Current], "{same}");
    }
    assert_eq!(run(&["--device", "cpu", "--verify"]), [Current, Current, Current]);
    // A seed concerns the stage that uses one; what stands on it follows where the contents differ.
    assert_eq!(run(&["--seed", "2"]), [Current, Done, Done]);
    // Another key with the same contents: what stands on them is current.
    assert_eq!(run(&["--set", "prep.contrast=1.5"]), [Done, Current, Current]);
    assert_eq!(run(&["--set", "global.lr=0.1"]), [Current, Done, Current]);
}

#[test]
fn runs_share_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    all(path, &[]);
    let args = ["--run", "tau", "--set", "attend.threshold=0.9"];
    assert_eq!(all(path, &args), [Current, Current, Done]);
    assert_eq!(all(path, &args), [Current, Current, Current]);
    for stage in ["prep", "global"] {
        assert_eq!(target(path, "tau", stage), target(path, "default", stage));
    }
    assert!(target(path, "tau", "attend").starts_with("../store/attend"), "a relative link into the store");
}

#[test]
fn inputs_missing_edited_or_stale_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(failure(attend(path, &[])).contains("needs global"));
    all(path, &[]);

    let data = path.join("default/prep/data.txt");
    edit(&data, "edited by hand");
    let message = failure(global(path, &[]));
    assert!(message.contains("data.txt") && message.contains("BLAKE3"), "{message}");
    edit(&data, "256"); // another time of change, the same contents
    assert_eq!(global(path, &[]).unwrap(), Current);

    // The same size, other contents, found by its date; the same date too, found by --verify.
    let time = fs_err::metadata(&data).unwrap().modified().unwrap();
    edit(&data, "257");
    assert!(failure(global(path, &[])).contains("was changed"));
    assert_eq!(prep(path, &[]).unwrap(), Done, "made again");
    let good = fs_err::metadata(&data).unwrap().modified().unwrap();
    assert_ne!(time, good);
    edit(&data, "258");
    fs_err::OpenOptions::new().append(true).open(&data).unwrap().file().set_modified(good).unwrap();
    assert_eq!(prep(path, &[]).unwrap(), Current);
    assert_eq!(prep(path, &["--verify"]).unwrap(), Done);
    assert_eq!(fs_err::read_to_string(&data).unwrap(), "256");

    prep(path, &["--set", "prep.size=128"]).unwrap();
    let message = failure(attend(path, &[]));
    assert!(message.contains("global is stale"), "{message}");
}

#[test]
fn wrong_configuration_names_key_value_and_origin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    fs_err::write(&file, "[attend]\nthreshhold = 0.5\n").unwrap();
    let file = file.to_str().unwrap();
    let refused = |args: &[&str]| failure(attend(folder.path(), args));

    let message = refused(&["--config", file]);
    assert!(message.contains("attend.threshhold = 0.5") && message.contains("mine.toml"), "{message}");
    assert!(message.contains("expected one of threshold"), "{message}");
    assert!(refused(&["--set", "nonsense.x=1"]).contains("unknown section nonsense"));
    assert!(refused(&["--set", "threshold"]).contains("STAGE.KEY=VALUE"));
    assert!(refused(&["--config", "/nowhere.toml"]).contains("/nowhere.toml"));
    assert!(refused(&["--run", "../up"]).contains("../up"));
    assert!(refused(&["--run", "store"]).contains("store"));
    let message = refused(&["--set", "attend.threshold=high"]);
    assert!(message.contains("threshold") && message.contains("high"), "{message}");
    // A key of another stage's section is found out by every stage, before hours of work; its value by that stage.
    assert!(failure(prep(folder.path(), &["--config", file])).contains("attend.threshhold = 0.5"));
    assert_eq!(prep(folder.path(), &["--set", "attend.threshold=high"]).unwrap(), Done);
    assert!(failure(prep(folder.path(), &["--set", "prep.size=7"])).contains("prep.size = 7, expected 16 to 2048"));
}

#[test]
fn a_second_process_is_told_who_holds_the_lock_and_then_takes_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let open = |args: &[&str]| Run::open::<Prep>(&PREP, &common(folder.path(), args)).unwrap().0;
    let (first, second) = (open(&[]), open(&["--run", "other"]));
    let Begin::Work(work) = first.begin().unwrap() else { panic!("nothing is in the store") };
    let message = second.begin().unwrap_err().to_string();
    assert!(message.contains("another process") && message.contains(&std::process::id().to_string()), "{message}");
    // Another key is not in the way.
    assert!(matches!(open(&["--set", "prep.size=32"]).begin().unwrap(), Begin::Work(_)));
    fs_err::write(work.out().join("data.txt"), "256").unwrap();
    work.publish(json!({})).unwrap();
    assert!(matches!(second.begin().unwrap(), Begin::Stop(Current)));
}

#[test]
fn checkpoints_outlive_interruptions_and_other_keys() {
    let folder = tempfile::tempdir().unwrap();
    let open = |args: &[&str]| Run::open::<Prep>(&PREP, &common(folder.path(), args)).unwrap().0;
    let begin = |run: &Run, check: &dyn Fn(&stage::Work)| match run.begin().unwrap() {
        Begin::Work(work) => check(&work),
        Begin::Stop(outcome) => panic!("{outcome:?}"),
    };
    let run = open(&[]);
    begin(&run, &|work| {
        fs_err::write(work.scratch().join("checkpoint"), "epoch 1").unwrap();
        fs_err::write(work.out().join("half"), "written").unwrap();
    });
    begin(&open(&["--limit", "3"]), &|_| {});
    begin(&run, &|work| {
        assert!(work.scratch().join("checkpoint").exists());
        assert!(!work.out().join("half").exists());
    });
    let left = inventory(folder.path()).unwrap().items;
    assert_eq!(left.iter().map(|item| item.kind).collect::<Vec<_>>(), [Kind::Partial], "work without checkpoints goes");
}

#[test]
fn a_step_is_shared_by_results_with_different_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Whether the step was computed.
    let go = |args: &[&str]| -> bool {
        let (run, _) = Run::open::<Global>(&GLOBAL, &common(path, args)).unwrap();
        let Begin::Work(mut work) = run.begin().unwrap() else { panic!("nothing is in the store") };
        let (step, computed) = match run.step("training", &"ab".repeat(16), json!({})).unwrap() {
            Step::Done(input) => (input, false),
            Step::Work(work) => {
                fs_err::write(work.out().join("weights"), "trained").unwrap();
                (work.finish(json!({})).unwrap(), true)
            }
        };
        work.take(&step, "weights").unwrap();
        work.publish(json!({})).unwrap();
        computed
    };
    assert!(go(&[]));
    assert!(!go(&["--seed", "2"]));
    let weights = path.join("default/global/weights");
    assert_eq!(fs_err::read_to_string(&weights).unwrap(), "trained");
    // A clean-up keeps the step that linked results hold on to, and removes what no run links to.
    let names = || -> Vec<String> {
        let items = inventory(path).unwrap().items;
        items.iter().map(|item| format!("{} {:?} {}", item.stage, item.kind, item.reached)).collect()
    };
    let mut held = names();
    held.sort();
    assert_eq!(held, ["global Result false", "global Result true", "training Result true"]);
    remove(path, Duration::ZERO).unwrap();
    assert_eq!(names(), ["global Result true", "training Result true"]);
    // A damaged step is made again.
    edit(&path.join("store/training").join("ab".repeat(16)).join("weights"), "trainde");
    assert!(go(&["--seed", "3"]));
    assert_eq!(fs_err::read_to_string(weights).unwrap(), "trained");
}

#[test]
fn force_computes_again_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let put = |text: &str, args: &[&str]| {
        let (run, _) = Run::open::<Prep>(&PREP, &common(path, args)).unwrap();
        publish(&run, text).unwrap()
    };
    assert_eq!(put("one", &[]), Done);
    assert_eq!(put("one", &["--force"]), Done);
    assert_eq!(inventory(path).unwrap().items.len(), 1, "the same contents stay");
    assert_eq!(put("two", &["--force"]), Done);
    let kinds: Vec<Kind> = inventory(path).unwrap().items.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, [Kind::Result, Kind::Leftover]);
    assert_eq!(fs_err::read_to_string(path.join("default/prep/data.txt")).unwrap(), "two");
}

#[test]
fn a_clean_up_keeps_what_is_young_linked_or_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    all(path, &[]);
    all(path, &["--limit", "8"]);
    all(path, &[]);
    let count = || inventory(path).unwrap().items.len();
    assert_eq!(count(), 6);
    remove(path, Duration::from_secs(86_400)).unwrap();
    assert_eq!(count(), 6);
    let (run, _) = Run::open::<Prep>(&PREP, &common(path, &["--set", "prep.size=64"])).unwrap();
    let Begin::Work(work) = run.begin().unwrap() else { panic!("nothing is in the store") };
    fs_err::write(work.scratch().join("checkpoint"), "epoch 1").unwrap();
    assert!(failure(remove(path, Duration::ZERO)).contains("a stage is at work"));
    drop(work);
    drop(run);
    remove(path, Duration::ZERO).unwrap();
    assert_eq!(count(), 3);
    assert_eq!(all(path, &[]), [Current, Current, Current]);
    // A copied table says where it comes from.
    let copy = path.join("copy.txt");
    fs_err::copy(path.join("default/prep/data.txt"), &copy).unwrap();
    let found = inventory(path).unwrap();
    let found: Vec<_> = found.find(&copy).unwrap().into_iter().map(|(item, name)| (item.stage.clone(), name)).collect();
    assert_eq!(found, [("prep".to_owned(), "data.txt".to_owned())]);
}

#[test]
fn folders_of_version_0_1_are_named_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let old = path.join("default/prep/manifest.json");
    fs_err::create_dir_all(old.parent().unwrap()).unwrap();
    fs_err::write(&old, "{\"format_version\": 1}").unwrap();
    for message in [failure(prep(path, &[])), failure(global(path, &[]))] {
        assert!(message.contains("default/prep is a folder") && message.contains("0.1"), "{message}");
    }
    assert_eq!(inventory(path).unwrap().old, [("default".to_owned(), "prep".to_owned())]);
    assert!(old.exists());
    assert_eq!(prep(path, &["--run", "new"]).unwrap(), Done);
}

#[test]
fn what_cannot_be_published_is_found_out_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("artifacts");
    let elsewhere = folder.path().join("elsewhere/deep");
    fs_err::create_dir_all(&elsewhere).unwrap();
    fs_err::create_dir_all(&path).unwrap();
    // From a run's folder that is a link to another place, ../store is not the store.
    fs_err::os::unix::fs::symlink(&elsewhere, path.join("moved")).unwrap();
    let (run, _) = Run::open::<Prep>(&PREP, &common(&path, &["--run", "moved"])).unwrap();
    assert!(failure(run.begin()).contains("could not be published"));
}

/// Changes the bytes of a published file; its size and date stay, as where a disk loses a bit.
fn rot(path: &Path, text: &str) {
    let time = fs_err::metadata(path).unwrap().modified().unwrap();
    edit(path, text);
    fs_err::OpenOptions::new().append(true).open(path).unwrap().file().set_modified(time).unwrap();
}

#[test]
fn a_bit_that_flips_is_found_by_who_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    all(path, &[]);
    rot(&path.join("default/prep/data.txt"), "257");
    assert_eq!(global(path, &[]).unwrap(), Current, "nothing is read");
    let fail = global(path, &["--set", "global.epochs=9"]).unwrap_err();
    let text = format!("{fail:?}");
    assert!(text.contains("data.txt is damaged: BLAKE3") && text.contains("code: 4"), "{text}");
    assert!(text.contains("just prep --verify"), "{text}");
    assert_eq!(prep(path, &["--verify"]).unwrap(), Done);
    assert_eq!(global(path, &["--set", "global.epochs=9"]).unwrap(), Done);
}

#[test]
fn nothing_is_published_from_files_that_were_replaced_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    all(path, &[]);
    let (mut run, _) = Run::open::<Global>(&GLOBAL, &common(path, &["--set", "global.epochs=9"])).unwrap();
    let input = run.input("prep", &["data"]).unwrap();
    let Begin::Work(work) = run.begin().unwrap() else { panic!("9 epochs are not in the store") };
    input.file("data.txt").unwrap();
    let other = |text: &str| {
        let (run, _) = Run::open::<Prep>(&PREP, &common(path, &["--force"])).unwrap();
        publish(&run, text).unwrap()
    };
    assert_eq!(other("257"), Done);
    fs_err::write(work.out().join("data.txt"), "made of 256").unwrap();
    let message = failure(work.publish(json!({})));
    assert!(message.contains("prep") && message.contains("was replaced or changed while it was in use"), "{message}");
    assert_eq!(global(path, &["--set", "global.epochs=9"]).unwrap(), Done, "and goes on with what is there now");
    let made = fs_err::read_to_string(path.join("default/global/data.txt")).unwrap();
    assert!(made.ends_with("257"), "{made}");
}

/// Writes a manifest whose own digest is right.
fn forge(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut manifest: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
    change(&mut manifest);
    manifest.as_object_mut().unwrap().remove("blake3");
    manifest["blake3"] = json!(stage::digest(&manifest));
    edit(path, &manifest.to_string());
}

#[test]
fn a_manifest_is_believed_only_where_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let manifest = path.join("default/prep/manifest.json");
    let flipped = |text: String| text.replacen("256", "257", 1);
    let cut = |text: String| text[..text.len() / 2].to_owned();
    let named =
        |name: &'static str| move |path: &Path| forge(path, |manifest| manifest["outputs"][0]["name"] = json!(name));
    type Edit<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);
    let edits: [Edit; 9] = [
        ("edited or damaged", Box::new(|path| edit(path, &flipped(fs_err::read_to_string(path).unwrap())))),
        ("not a manifest", Box::new(|path| edit(path, &cut(fs_err::read_to_string(path).unwrap())))),
        (
            "not UTF-8 text",
            Box::new(|path| {
                fs_err::remove_file(path).unwrap();
                fs_err::write(path, [0xff, 0xfe]).unwrap();
            }),
        ),
        ("unknown field", Box::new(|path| forge(path, |manifest| manifest["more"] = json!(1)))),
        ("format 99", Box::new(|path| forge(path, |manifest| manifest["format_version"] = json!(99)))),
        ("expected that of the folder", Box::new(|path| forge(path, |manifest| manifest["key"] = json!("0")))),
        ("\"../data.txt\"", Box::new(named("../data.txt"))),
        ("\"/etc/hostname\"", Box::new(named("/etc/hostname"))),
        ("\"a/../../x\"", Box::new(named("a/../../x"))),
    ];
    for (expected, edit) in edits {
        all(path, &[]);
        edit(&manifest);
        let fail = global(path, &[]).unwrap_err();
        assert!(fail.to_string().contains(expected), "{expected}: {fail}");
        assert!(format!("{fail:?}").contains("code: 4"), "{fail:?}");
        assert_eq!(prep(path, &[]).unwrap(), Done, "{expected}: made again");
    }
    assert_eq!(all(path, &[]), [Current, Current, Current]);
}

#[test]
fn a_link_in_the_place_of_an_output_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    all(path, &[]);
    let data = path.join("default/prep/data.txt");
    fs_err::rename(&data, path.join("elsewhere.txt")).unwrap();
    fs_err::os::unix::fs::symlink(path.join("elsewhere.txt"), &data).unwrap();
    let message = failure(global(path, &["--set", "global.epochs=9"]));
    assert!(message.contains("no regular file"), "{message}");
    assert_eq!(prep(path, &[]).unwrap(), Done);
    assert_eq!(global(path, &["--set", "global.epochs=9"]).unwrap(), Done);
}

/// `global` is made from `prep`, whose manifest says that it is made from `global`.
#[test]
fn inputs_in_a_circle_end_in_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    all(path, &[]);
    forge(&path.join("default/prep/manifest.json"), |manifest| {
        manifest["inputs"] = json!([{ "stage": "global", "key": "0", "files": { "data.txt": "0" } }]);
    });
    let message = failure(attend(path, &["--set", "attend.threshold=0.9"]));
    assert!(message.contains("prep") && message.contains("cannot be made from global"), "{message}");
    assert_eq!(prep(path, &["--force"]).unwrap(), Done);
    assert_eq!(attend(path, &["--set", "attend.threshold=0.9"]).unwrap(), Done);
}

#[test]
fn digests_of_raw_data_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let open = |args: &[&str]| Run::open::<Prep>(&PREP, &common(folder.path(), args)).unwrap().0;
    let (quick, digest) = ("1".repeat(64), "2".repeat(64));
    let never = || -> Result<String, Fail> { panic!("computed although it was remembered, or in a dry run") };
    assert_eq!(open(&["--dry-run"]).remembered(&quick, never).unwrap(), quick);
    assert_eq!(open(&[]).remembered(&quick, || Ok::<_, Fail>(digest.clone())).unwrap(), digest);
    assert_eq!(open(&[]).remembered(&quick, never).unwrap(), digest);
}

#[test]
fn a_check_says_nothing_and_a_plan_goes_on_without_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Before anything has run: a failure; in a plan, the end with exit code 0.
    assert!(global(folder, &[]).is_err());
    for args in [["--dry-run"], ["--check"]] {
        assert_eq!(prep(folder, &args).unwrap(), Outcome::Nothing);
        let ended = global(folder, &args).unwrap_err();
        assert!(format!("{ended:?}").contains("code: 0"), "{ended:?}");
    }
    assert!(!folder.join("default").exists());
    // After it: a check computes nothing either.
    prep(folder, &[]).unwrap();
    assert_eq!(global(folder, &["--check"]).unwrap(), Outcome::Nothing);
    assert!(!folder.join("default/global").exists());
    // A key of any section, a value of the own one, and what another stage would have.
    let refused = failure(prep(folder, &["--check", "--set", "report.drawz=1"]));
    assert!(refused.contains("unknown key report.drawz = 1 in --set report.drawz=1"), "{refused}");
    assert!(failure(prep(folder, &["--check", "--set", "prep.size=1"])).contains("prep.size = 1"));
    let (run, _) = Run::open::<Global>(&GLOBAL, &common(folder, &["--set", "attend.size=99"])).unwrap();
    let planned = |name| run.planned(name).and_then(|value| value.as_integer());
    assert_eq!((planned("attend.size"), planned("prep.size"), planned("prep.sizes")), (Some(99), Some(256), None));
}
