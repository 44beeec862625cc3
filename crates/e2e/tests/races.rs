//! Processes that compute the same results at the same time, force them anew and clean up behind each other: none ever
//! publishes anything but what it would have published alone.
//!
//! `just torture` does more rounds than the usual few.

#![allow(clippy::print_stdout)] // `--nocapture` shows the figures

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{Pipeline, Random, STAGES, contents, rounds};

/// What may stop a stage while others are at work, each with a hint what to do; anything else is a fault.
const EXCUSES: [&str; 5] = [
    "another process makes this result",
    "was replaced or changed while it was in use",
    "is stale",
    "which has not run in run",
    "which is gone",
];

fn args<'a>(run: &'a str, setting: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--run", run, "--set", setting], more].concat()
}

#[test]
fn stages_that_run_side_by_side_never_publish_anything_else() {
    let pipeline = Pipeline::new();
    let runs = [("a", "attend.threshold=0.5"), ("b", "attend.threshold=0.6")];
    let expected = runs.map(|(run, setting)| {
        pipeline.all(&args(run, setting, &[]));
        STAGES.map(|stage| contents(&pipeline.published(run, stage)))
    });
    let done = AtomicBool::new(false);
    let count = rounds(8);
    let outcomes = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (pipeline, runs) = (&pipeline, &runs);
                scope.spawn(move || {
                    let mut random = Random(worker);
                    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
                    for _ in 0..count {
                        let (run, setting) = runs[random.below(2)];
                        let stage = STAGES[random.below(STAGES.len())];
                        let more: &[&str] = if random.below(2) == 0 { &["--force"] } else { &[] };
                        let ran = pipeline.stage(stage, &args(run, setting, more));
                        let excuse = EXCUSES.into_iter().find(|excuse| ran.stderr.contains(excuse));
                        let outcome = match (ran.code, excuse) {
                            (0, _) => "done",
                            (1 | 3, Some(excuse)) => excuse,
                            _ => panic!("{ran}"),
                        };
                        *outcomes.entry(outcome).or_default() += 1;
                    }
                    outcomes
                })
            })
            .collect();
        let cleaner = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let ran = pipeline.store(&["gc", "--keep-days", "0"]);
                assert!(ran.code == 0 || ran.stderr.contains("a stage is at work"), "{ran}");
            }
        });
        let outcomes: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        cleaner.join().unwrap();
        outcomes
    });
    for ((run, setting), expected) in runs.into_iter().zip(&expected) {
        for (stage, expected) in STAGES.iter().zip(expected) {
            pipeline.stage(stage, &args(run, setting, &["--verify"])).expect(0);
            assert!(contents(&pipeline.published(run, stage)) == *expected, "{run}/{stage}");
        }
    }
    println!("{outcomes:?}");
}
