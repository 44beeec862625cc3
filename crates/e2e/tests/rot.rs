//! Bits that flip in what was published, anywhere: whoever reads the file says so and names it, and nothing else changes.
//!
//! `just torture` flips more of them than the usual few.

#![allow(clippy::print_stdout)] // `--nocapture` shows the figures

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use e2e::{Pipeline, Ran, Random, STAGES, contents, edit, rounds};

/// What reads a stage's files.
fn readers(stage: &str) -> &'static [&'static str] {
    match stage {
        "phantom" => &["prep"],
        "prep" => &["global", "attend", "report"],
        "global" => &["attend", "fusion", "report"],
        "attend" => &["local", "report"],
        "local" => &["fusion", "report"],
        "fusion" => &["report"],
        "training" => &["global", "local", "fusion"],
        _ => &[],
    }
}

/// Every file of every stage of the run, and what is in it.
struct Good {
    /// Stage, its folder in the store, files with `manifest.json`.
    stages: Vec<(String, PathBuf, Vec<PathBuf>)>,
    bytes: BTreeMap<&'static str, BTreeMap<PathBuf, Vec<u8>>>,
}

impl Good {
    fn of(pipeline: &Pipeline) -> Good {
        let mut folders: Vec<(String, PathBuf)> = STAGES
            .iter()
            .map(|stage| ((*stage).to_owned(), fs_err::canonicalize(pipeline.published("default", stage)).unwrap()))
            .collect();
        let trainings = fs_err::read_dir(pipeline.path().join("artifacts/store/training")).unwrap();
        folders.extend(trainings.map(|entry| ("training".to_owned(), entry.unwrap().path())));
        let stages = folders.into_iter().map(|(stage, folder)| {
            let mut files: Vec<PathBuf> = contents(&folder).into_keys().collect();
            files.push("manifest.json".into());
            (stage, folder, files)
        });
        let bytes = STAGES.iter().map(|&stage| (stage, contents(&pipeline.published("default", stage))));
        Good { stages: stages.collect(), bytes: bytes.collect() }
    }

    fn is(&self, pipeline: &Pipeline, stage: &str) -> bool {
        contents(&pipeline.published("default", stage)) == self.bytes[stage]
    }
}

/// Flips one bit; the file is the same one, of the same size, and of the same date where `dated` says so.
fn flip(path: &Path, random: &mut Random, dated: bool) {
    let mut bytes = fs_err::read(path).unwrap();
    let time = fs_err::metadata(path).unwrap().modified().unwrap();
    let at = random.below(bytes.len());
    bytes[at] ^= 1 << random.below(8);
    edit(path, &bytes);
    if dated {
        fs_err::OpenOptions::new().append(true).open(path).unwrap().file().set_modified(time).unwrap();
    }
}

#[test]
fn no_flipped_bit_changes_a_result_in_silence() {
    let pipeline = Pipeline::new();
    pipeline.all(&[]);
    let good = Good::of(&pipeline);
    let mut random = Random(42);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..rounds(8) {
        let (stage, folder, files) = &good.stages[random.below(good.stages.len())];
        let name = &files[random.below(files.len())];
        let dated = random.below(2) == 0;
        flip(&folder.join(name), &mut random, dated);
        let what = format!("round {round}: {stage}/{}, dated {dated}", name.display());
        let named = |ran: &Ran| ran.stderr.contains(&*name.to_string_lossy());

        // Whoever reads it computes what it would have computed, or says what is wrong.
        if let Some(reader) = readers(stage).get(random.below(readers(stage).len().max(1))) {
            let ran = pipeline.stage(reader, &["--force"]);
            let outcome = match ran.code {
                0 if good.is(&pipeline, reader) => "not needed, or made again",
                3 | 4 if named(&ran) => "named",
                _ => panic!("{what}: {reader}\n{ran}"),
            };
            *outcomes.entry(format!("{outcome} by who reads {stage}")).or_default() += 1;
        }
        // An edit is seen by its date, all else where contents are asked for; then it is as before.
        if stage != "training" {
            let ran = pipeline.stage(stage, if dated { &["--verify"] } else { &[] }).expect(0);
            assert!(good.is(&pipeline, stage), "{what}: not mended\n{ran}");
        }
        for stage in STAGES {
            let ran = pipeline.stage(stage, &["--verify"]).expect(0);
            assert!(good.is(&pipeline, stage), "{what}: {stage} has other bytes\n{ran}");
        }
    }
    println!("{outcomes:#?}");
}
