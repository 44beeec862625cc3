//! Stages killed and interrupted at random moments, all of them, again and again: they end with the same bytes, and
//! nothing that was published is ever missing in between.
//!
//! `just torture` does more rounds than the usual few.

#![allow(clippy::print_stdout)] // `--nocapture` shows the figures

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{Pipeline, Random, STAGES, contents, rounds};
use rustix::process::{Pid, Signal, kill_process};

/// Long enough that most of the time is training.
const LONG: [&str; 6] =
    ["--set", "global.epochs=12", "--set", "local.epochs=12", "--set", "global.checkpoint_minutes=0"];
/// The second half of a life: a change after everything was published.
const CHANGED: [&str; 2] = ["--set", "attend.threshold=0.5"];

/// Reads all links of a folder over and over: what was there once must stay there, whole.
struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Reader {
    fn start(artifacts: PathBuf) -> Reader {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&reads));
        let thread = std::thread::spawn(move || {
            let mut published = [false; STAGES.len()];
            let mut missing = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for (stage, published) in STAGES.iter().zip(&mut published) {
                    let folder = artifacts.join("default").join(stage);
                    match whole(&folder) {
                        Ok(()) => *published = true,
                        Err(error) if *published => missing.push(format!("{stage}: {error}")),
                        Err(_) => {}
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            missing
        });
        Reader { stop, reads, thread }
    }

    /// What was missing at any time, and how often it was looked.
    fn finish(self) -> (Vec<String>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        (self.thread.join().unwrap(), self.reads.load(Ordering::Relaxed))
    }
}

/// The link leads to a manifest, and every file it names is there with its size.
fn whole(link: &Path) -> Result<(), String> {
    // One look at where the link leads: a reader that holds a path into the store is not concerned by a new link.
    let folder = fs_err::canonicalize(link).map_err(|error| error.to_string())?;
    let text = fs_err::read_to_string(folder.join("manifest.json")).map_err(|error| error.to_string())?;
    let manifest: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    for file in manifest["outputs"].as_array().into_iter().flatten() {
        let path = folder.join(file["name"].as_str().unwrap_or_default());
        let size = fs_err::metadata(&path).map_err(|error| error.to_string())?.len();
        if Some(size) != file["bytes"].as_u64() {
            return Err(format!("{} has {size} bytes", path.display()));
        }
    }
    Ok(())
}

/// What one process did that was ended by `signal` after `delay`, if it had not ended by itself.
struct Ended {
    signalled: bool,
    code: Option<i32>,
    /// From the signal to the end.
    after: Duration,
}

fn end(pipeline: &Pipeline, stage: &str, args: &[&str], signal: Signal, delay: Duration) -> Ended {
    let mut command = pipeline.command(stage, args);
    let log = fs_err::File::create(pipeline.path().join("last.log")).unwrap();
    command.stdout(Stdio::null()).stderr(log.into_file());
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    let mut running = true;
    while running && started.elapsed() < delay {
        std::thread::sleep(Duration::from_millis(1).min(delay));
        running = child.try_wait().unwrap().is_none();
    }
    let signalled = Instant::now();
    if running {
        kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
    }
    let code = child.wait().unwrap().code();
    Ended { signalled: running, code, after: signalled.elapsed() }
}

/// Every file of every stage.
type Bytes = Vec<BTreeMap<PathBuf, Vec<u8>>>;

/// Seconds that each stage takes, and the bytes of a run that nothing disturbed: as it is, and after the change.
fn undisturbed() -> (BTreeMap<&'static str, f64>, [Bytes; 2]) {
    let pipeline = Pipeline::new();
    let mut seconds = BTreeMap::new();
    let all = [LONG.to_vec(), [&LONG[..], &CHANGED].concat()].map(|args| {
        for stage in STAGES {
            let since = Instant::now();
            pipeline.stage(stage, &args).expect(0);
            let took = since.elapsed().as_secs_f64();
            seconds.entry(stage).and_modify(|old: &mut f64| *old = old.max(took)).or_insert(took);
        }
        STAGES.map(|stage| contents(&pipeline.published("default", stage))).into()
    });
    (seconds, all)
}

/// Lives of a pipeline, each from nothing to the changed run, in which processes are ended until there were `rounds`.
fn lives(signal: Signal, rounds: usize, mut check: impl FnMut(&Ended, &str)) {
    let (seconds, expected) = undisturbed();
    let mut random = Random(20_180_129); // the day on which the paper appeared
    let (mut ended, mut reads) = (0, 0);
    while ended < rounds {
        let pipeline = Pipeline::new();
        let reader = Reader::start(pipeline.path().join("artifacts"));
        for (args, expected) in [LONG.to_vec(), [&LONG[..], &CHANGED].concat()].iter().zip(&expected) {
            for stage in STAGES {
                loop {
                    let delay = Duration::from_secs_f64(random.next() * 1.2 * seconds[stage]);
                    let done = end(&pipeline, stage, args, signal, delay);
                    check(&done, stage);
                    if !done.signalled || done.code == Some(0) {
                        let said = || fs_err::read_to_string(pipeline.path().join("last.log")).unwrap();
                        assert_eq!(done.code, Some(0), "{stage} after {ended} rounds: {}", said());
                        break;
                    }
                    ended += 1;
                }
            }
            for (stage, expected) in STAGES.iter().zip(expected) {
                let got = contents(&pipeline.published("default", stage));
                assert!(got == *expected, "{stage} has other bytes than undisturbed, after {ended} rounds");
            }
        }
        let (missing, looked) = reader.finish();
        assert!(missing.is_empty(), "{missing:?}");
        reads += looked;
    }
    println!("{ended} processes ended, {reads} looks at links");
}

#[test]
fn killed_at_random_moments_all_stages_end_with_the_same_bytes() {
    lives(Signal::KILL, rounds(12), |_, _| {});
}

#[test]
fn interrupted_at_random_moments_all_stages_exit_at_once_and_end_with_the_same_bytes() {
    let mut longest = Duration::ZERO;
    lives(Signal::INT, rounds(12), |ended, stage| {
        if ended.signalled {
            // None: the signal came before the process could hear it, and ended it as it does any other.
            assert!([Some(130), Some(0), None].contains(&ended.code), "{stage}: {:?}", ended.code);
            longest = longest.max(ended.after);
        }
    });
    println!("the longest took {} ms to stop", longest.as_millis());
}

/// How many images were done, and how many there are, as a stage says that goes on.
fn continued(said: &str) -> (usize, usize) {
    let (_, text) = said.split_once("continues after ").unwrap_or_else(|| panic!("{said}"));
    let numbers: Vec<usize> = text.split(' ').take(3).filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [done, count] => (done, count),
        _ => panic!("{said}"),
    }
}

#[test]
fn passes_over_all_images_go_on_where_they_were_interrupted() {
    // Large images in small batches, so that the signal comes before the last one.
    let args = ["prep.size=128", "global.crop=128", "global.epochs=1", "global.eval_batch=1", "attend.eval_batch=8"];
    let args = args.map(|setting| ["--set", setting]).concat();
    let [whole, again] = [Pipeline::new(), Pipeline::new()];
    for pipeline in [&whole, &again] {
        for stage in ["phantom", "prep", "global"] {
            pipeline.stage(stage, &args).expect(0);
        }
    }
    whole.stage("attend", &args).expect(0);
    let same = |stage| contents(&whole.published("default", stage)) == contents(&again.published("default", stage));

    // Scores, of a training that is there.
    let forced = [&args[..], &["--force"]].concat();
    let (code, said) = again.interrupted_at("global", &forced, "the training is in the store");
    assert_eq!(code, 130, "{said}");
    let ran = again.stage("global", &forced).expect(0);
    let (done, count) = continued(&ran.stderr);
    assert!(done < count, "{ran}");
    assert!(same("global"), "other bytes");

    // Heat maps, batch by batch until all are there: the last of them are of images with boxes.
    let (code, said) = again.interrupted_at("attend", &args, "heat maps of");
    assert_eq!(code, 130, "{said}");
    let mut steps: Vec<(usize, usize)> = Vec::new();
    while steps.last().is_none_or(|&(done, count)| done < count) {
        let (code, said) = again.interrupted_at("attend", &args, "continues after");
        steps.push(continued(&said));
        assert!([130, 0].contains(&code), "{said}");
        if code == 0 {
            break;
        }
    }
    assert!(steps[0].0 < steps[0].1 && steps.is_sorted_by(|a, b| a.0 < b.0), "{steps:?}");
    again.stage("attend", &args).expect(0);
    assert!(same("attend"), "other bytes");
}
