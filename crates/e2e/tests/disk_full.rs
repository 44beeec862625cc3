//! A disk that is full, anywhere in the work: the stage fails, what was published stays, and with room it goes on.
//!
//! `just torture` tries more limits than the usual few.

use std::process::Command;

use e2e::{Pipeline, Random, STAGES, binaries, contents, rounds};

/// A limit on the size of files stands for the disk: no file can be written beyond `kib`.
fn limited(pipeline: &Pipeline, kib: usize, stage: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" --config tiny.toml --force", 2 * kib);
    command.current_dir(pipeline.path()).args(["-c", &script]).arg(binaries().join(stage));
    command.env("RAYON_NUM_THREADS", "2").env("NO_COLOR", "1");
    command
}

#[test]
fn a_full_disk_loses_nothing() {
    let pipeline = Pipeline::new();
    pipeline.all(&[]);
    let expected = STAGES.map(|stage| contents(&pipeline.published("default", stage)));
    let mut random = Random(28);
    for round in 0..rounds(8) {
        let index = random.below(STAGES.len());
        let largest = expected[index].values().map(|bytes| bytes.len() / 1024 + 2).max().unwrap_or(1);
        let ran = pipeline.run(limited(&pipeline, random.below(largest + largest / 4), STAGES[index]));
        assert!(ran.code == 0 || (ran.code == 1 && ran.stderr.contains("File too large")), "round {round}: {ran}");
        for (stage, expected) in STAGES.iter().zip(&expected) {
            assert!(contents(&pipeline.published("default", stage)) == *expected, "round {round}: {stage}\n{ran}");
        }
        let ran = pipeline.stage(STAGES[index], &["--force"]).expect(0);
        assert!(contents(&pipeline.published("default", STAGES[index])) == expected[index], "round {round}: {ran}");
    }
}
