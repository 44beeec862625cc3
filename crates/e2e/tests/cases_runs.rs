//! What people ran into in other repositories while they ran such a pipeline, and what this one does. Each test names the
//! case it is of, T (training) or R (results), and where it was reported.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Pipeline, Ran, STAGES, contents};
use fs_err as fs;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};

/// The synthetic dataset as a user's folder `raw`, which tests may change.
fn with_raw() -> Pipeline {
    let pipeline = Pipeline::new();
    pipeline.stage("phantom", &["--set", "phantom.patients=30"]).expect(0);
    for (name, bytes) in contents(&pipeline.published("default", "phantom")) {
        let path = pipeline.path().join("raw").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    pipeline
}

/// Its test or training list, or its table of labels.
fn text(pipeline: &Pipeline, name: &str) -> String {
    fs::read_to_string(pipeline.path().join("raw").join(name)).unwrap()
}

const RAW: [&str; 2] = ["--set", "prep.root=raw"];
const TABLE: &str = "Data_Entry_2017_v2020.csv";

/// Everything but the phantom, of a folder `raw`.
fn all(pipeline: &Pipeline, args: &[&str]) {
    let args = [&RAW, args].concat();
    STAGES[1..].iter().for_each(|stage| drop(pipeline.stage(stage, &args).expect(0)));
}

fn prepared() -> Pipeline {
    let pipeline = with_raw();
    pipeline.stage("prep", &RAW).expect(0);
    pipeline
}

/// It failed as a user should see it: with that exit code, the words, no panic.
#[track_caller]
fn says(ran: Ran, code: i32, words: &[&str]) -> Ran {
    let ran = ran.expect(code);
    assert!(words.iter().all(|words| ran.stderr.contains(words)), "expected {words:?}\n{ran}");
    assert!(!ran.stderr.contains("panicked"), "{ran}");
    ran
}

/// A shell that changes limits, then runs a stage.
fn limited(pipeline: &Pipeline, limits: &str, stage: &str, args: &[&str]) -> Ran {
    let inner = pipeline.command(stage, args);
    let mut command = Command::new("sh");
    command.current_dir(pipeline.path()).args(["-c", &format!("{limits}; exec \"$@\""), "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env("NO_COLOR", "1").env("RAYON_NUM_THREADS", "2");
    pipeline.run(command)
}

// T02, T16: wkentaro/pytorch-fcn#17
#[test]
fn a_learning_rate_that_is_too_high_is_said_once() {
    let pipeline = prepared();
    let args = ["--set", "global.lr=10", "--set", "global.momentum=0.999", "--set", "global.epochs=12"];
    let ran = pipeline.stage("global", &args);
    assert!([0, 1].contains(&ran.code), "{ran}");
    assert_eq!(ran.stderr.matches("the training diverges: validation loss").count(), 1, "{ran}");
}

// T04: arnoweng/CheXNet#29
#[test]
fn a_device_that_is_not_there_is_refused() {
    let pipeline = prepared();
    for device in ["gpu", "CPU", "cuda:99"] {
        let ran = pipeline.stage("global", &["--device", device]);
        says(ran, 2, &[device]);
    }
}

// T08: PyTorch's DataLoader hangs with few files or one core
#[test]
fn few_open_files_and_one_thread_give_the_same_bytes() {
    let pipeline = prepared();
    pipeline.stage("global", &[]).expect(0);
    let before = contents(&pipeline.published("default", "global"));
    let limits = "ulimit -n 24; export RAYON_NUM_THREADS=1";
    limited(&pipeline, limits, "prep", &["--set", "prep.root=raw", "--force"]).expect(0);
    limited(&pipeline, limits, "global", &["--force"]).expect(0);
    assert!(before == contents(&pipeline.published("default", "global")));
    limited(&pipeline, limits, "attend", &[]).expect(0);
}

// T09, T12: arnoweng/CheXNet#27, junyanz/pytorch-CycleGAN-and-pix2pix#350
#[test]
fn a_smaller_evaluation_batch_trains_nothing_again() {
    let pipeline = prepared();
    let long = ["--set", "global.epochs=40", "--set", "global.checkpoint_minutes=0"];
    let (code, _) = pipeline.interrupted_at("global", &long, "epoch 3/40");
    assert_eq!(code, 130);
    let other = [&long[..], &["--set", "global.eval_batch=4"]].concat();
    let ran = says(pipeline.stage("global", &other), 0, &["continues after epoch"]);
    assert!(!ran.stderr.contains("epoch 1/40"), "{ran}");
    assert!(pipeline.stage("global", &long).expect(0).current());
}

// T10
#[test]
fn the_original_images_are_needed_only_where_they_are_read() {
    let pipeline = prepared();
    pipeline.stage("global", &[]).expect(0);
    fs::rename(pipeline.path().join("raw"), pipeline.path().join("gone")).unwrap();
    says(pipeline.stage("attend", &["--set", "attend.source=original"]), 3, &["hint:"]);
    pipeline.stage("attend", &[]).expect(0);
}

// T15
#[test]
fn images_smaller_than_the_crop_are_refused() {
    let pipeline = with_raw();
    pipeline.stage("prep", &["--set", "prep.root=raw", "--set", "prep.size=40"]).expect(0);
    says(pipeline.stage("global", &["--set", "global.crop=48"]), 2, &["crop = 48", "at most 40", "hint:"]);
}

// T18, T25, R10
#[test]
fn nothing_at_all_is_refused_and_one_is_enough() {
    let pipeline = with_raw();
    says(pipeline.stage("prep", &["--set", "prep.root=raw", "--limit", "0"]), 2, &["--limit", "at least 1"]);
    let pipeline = with_raw();
    for set in ["global.epochs=0", "global.batch=0", "global.eval_batch=0"] {
        let key = set.trim_end_matches("=0");
        says(pipeline.stage("global", &["--set", set, "--dry-run"]), 2, &[key, "0"]);
    }
    for draws in ["1", "39"] {
        let set = format!("report.draws={draws}");
        says(pipeline.stage("report", &["--set", &set]), 2, &["report.draws", "at least 40"]);
    }
    all(&pipeline, &["--limit", "2"]);
    pipeline.stage("report", &["--set", "report.draws=0", "--set", "report.cases=0", "--limit", "2"]).expect(0);
}

// T19
#[test]
fn artifacts_may_be_a_link_and_a_configuration_may_come_from_windows() {
    let pipeline = with_raw();
    fs::rename(pipeline.path().join("artifacts"), pipeline.path().join("disk")).unwrap();
    fs::os::unix::fs::symlink("disk", pipeline.path().join("artifacts")).unwrap();
    fs::write(pipeline.path().join("c.toml"), "\u{feff}[prep]\r\nroot = \"raw\"\r\nsize = 48\r\n").unwrap();
    pipeline.stage("prep", &["--config", "c.toml"]).expect(0);
    pipeline.stage("global", &["--config", "c.toml"]).expect(0);
    pipeline.stage("global", &["--config", "c.toml", "--force"]).expect(0);
}

// R03
#[test]
fn a_test_split_of_one_patient_or_one_image_has_a_report() {
    let pipeline = with_raw();
    let list = text(&pipeline, "test_list.txt");
    let first = list.lines().next().unwrap();
    let patient = first.split('_').next().unwrap();
    let of_patient: Vec<&str> = list.lines().filter(|line| line.starts_with(patient)).collect();
    for (run, names) in [("patient", of_patient), ("image", vec![first])] {
        fs::write(pipeline.path().join("raw").join(format!("{run}.txt")), names.join("\n")).unwrap();
        let set = format!("prep.test_list={run}.txt");
        all(&pipeline, &["--run", run, "--set", &set]);
    }
}

// R04
#[test]
fn an_image_is_shown_by_its_path_or_without_its_ending() {
    let pipeline = with_raw();
    all(&pipeline, &[]);
    let name = text(&pipeline, "test_list.txt").lines().next().unwrap().to_owned();
    let stem = name.trim_end_matches(".png");
    for asked in [&name, stem, &format!("raw/images_001/images/{name}")] {
        let ran = pipeline.stage("report", &["show", asked]).expect(0);
        assert!(ran.stdout.contains(&name), "{ran}");
    }
    for asked in ["99999999_000.png", "", "99999999_000"] {
        says(pipeline.stage("report", &["show", asked]), 4, &["no such image", "hint:"]);
    }
}

// R05
#[test]
fn stages_in_the_wrong_order_and_typos_have_their_exit_codes() {
    let pipeline = Pipeline::new();
    says(pipeline.stage("global", &[]), 3, &["just prep"]);
    says(pipeline.stage("report", &[]), 3, &["just"]);
    says(pipeline.stage("prep", &["--set", "prep.root=nowhere"]), 3, &["nowhere"]);
    for (args, words) in [
        (["--set", "prep.sise=48"], "prep.sise"),
        (["--set", "prepare.size=48"], "prepare"),
        (["--set", "size=48"], "STAGE.KEY=VALUE"),
        (["--set", "prep.size=big"], "prep.size"),
        (["--run", "my run"], "my run"),
        (["--config", "none.toml"], "none.toml"),
    ] {
        says(pipeline.stage("prep", &args), 2, &[words]);
    }
}

// R08
#[test]
fn no_age_sex_or_view_anywhere_still_has_a_report() {
    let pipeline = with_raw();
    let table = text(&pipeline, TABLE);
    let without = table.lines().enumerate().map(|(row, line)| {
        let cells = line.split(',').enumerate();
        let cells = cells.map(|(column, cell)| if row > 0 && (4..7).contains(&column) { "" } else { cell });
        cells.collect::<Vec<_>>().join(",") + "\n"
    });
    fs::write(pipeline.path().join("raw").join(TABLE), without.collect::<String>()).unwrap();
    all(&pipeline, &[]);
}

// R09
#[test]
fn runs_without_common_images_and_runs_that_are_not_there_are_not_compared() {
    let pipeline = with_raw();
    all(&pipeline, &[]);
    let list = text(&pipeline, "test_list.txt");
    let lines: Vec<&str> = list.lines().collect();
    let patient = |line: &str| line.split('_').next().unwrap().to_owned();
    let (first, last): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| patient(line) == patient(lines[0]));
    for (run, names) in [("a", first), ("b", last)] {
        fs::write(pipeline.path().join("raw").join(format!("{run}.txt")), names.join("\n")).unwrap();
        all(&pipeline, &["--run", run, "--set", &format!("prep.test_list={run}.txt")]);
    }
    says(pipeline.stage("report", &["compare", "a", "b"]), 4, &["a", "b"]);
    says(pipeline.stage("report", &["compare", "default", "nope"]), 3, &["nope"]);
    says(pipeline.stage("report", &["sweep", "x", "y"]), 3, &["x"]);
}

#[test]
fn a_full_disk_is_no_bad_data_and_is_named_once() {
    let pipeline = Pipeline::new();
    pipeline.all(&[]);
    for stage in STAGES {
        // A limit on the size of files stands for the disk: whatever is larger than 8 kB cannot be written.
        let ran = limited(&pipeline, "trap '' XFSZ; ulimit -f 16", stage, &["--force"]);
        let ran = says(ran, 1, &["File too large"]);
        let error = ran.stderr.split("error:").nth(1).unwrap();
        assert_eq!(error.matches(".partial/").count(), 1, "{ran}");
    }
    assert_eq!(pipeline.all(&[]), Vec::<&str>::new());
}

#[test]
fn pipes_devices_and_folders_are_no_input() {
    let pipeline = prepared();
    let at = |name: &str| pipeline.path().join(name);
    mkfifoat(CWD, at("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    mkfifoat(CWD, at("pipe.toml"), Mode::RUSR | Mode::WUSR).unwrap();
    let start = Instant::now();
    for bad in ["pipe", "/dev/zero", "raw"] {
        let init = format!("global.init=imagenet:{bad}");
        let ran = pipeline.stage("global", &["--set", "global.backbone=resnet18", "--set", &init]);
        assert!(
            ran.code > 0 && ran.code < 5 && (ran.stderr.contains("regular file") || ran.stderr.contains("a folder")),
            "{ran}"
        );
        let list = format!("prep.test_list={}", at(bad).display());
        let ran = pipeline.stage("prep", &["--set", "prep.root=raw", "--set", &list]);
        assert!(ran.code > 0 && ran.code < 5, "{ran}");
    }
    says(pipeline.stage("prep", &["--config", "pipe.toml"]), 2, &["pipe.toml: a named pipe"]);
    says(pipeline.stage("prep", &["--config", "/dev/zero"]), 2, &["/dev/zero: a device"]);
    let ran = pipeline.store(&["find", "pipe"]);
    assert!(ran.code > 0 && ran.stderr.contains("a named pipe"), "{ran}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn a_command_line_that_is_not_utf_8_publishes() {
    let pipeline = with_raw();
    let folder = OsStr::from_bytes(b"b\xff\x1b[31m");
    let mut command = pipeline.command("prep", &RAW);
    command.arg("--artifacts-dir").arg(folder);
    pipeline.run(command).expect(0);
    assert!(pipeline.path().join(Path::new(folder)).join("default/prep/manifest.json").is_file());
    let mut command = pipeline.command("global", &[]);
    command.arg("--artifacts-dir").arg(folder);
    let ran = pipeline.run(command).expect(0);
    assert!(!ran.stderr.contains('\x1b'), "{ran}");
}

#[test]
fn names_of_files_do_not_command_the_terminal() {
    let pipeline = with_raw();
    let bad = "\x1b]0;title\x07\u{9b}2Jx.png";
    let raw = pipeline.path().join("raw");
    fs::write(raw.join("images_001/images").join(bad), b"\x89PNG\r\n\x1a\nno more").unwrap();
    let (table, list) = (text(&pipeline, TABLE), text(&pipeline, "test_list.txt"));
    let row = table.lines().last().unwrap();
    let more = row.replace(row.split(',').next().unwrap(), bad);
    fs::write(raw.join(TABLE), table.clone() + &more + "\n").unwrap();
    fs::write(raw.join("test_list.txt"), list + bad + "\n").unwrap();
    let skip = [&RAW[..], &["--set", "prep.corrupt=skip"]].concat();
    for (args, named) in [(&RAW[..], true), (&skip, true), (&["--set", "prep.root=raw/\x1b[31m\r"], false)] {
        let ran = pipeline.stage("prep", args);
        let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!ran.stderr.contains(obeyed) && (!named || ran.stderr.contains("2Jx.png")), "{:?}", ran.stderr);
    }
}

#[test]
fn a_signal_ends_a_stage_that_waits() {
    let pipeline = prepared();
    let mut command = pipeline.command("global", &["--set", "global.epochs=4000"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let start = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
