//! Stages divided into shards, as a scheduler runs them: whatever their number and their order, killed, repeated, at the same
//! time or damaged in between, what is published in the end has the bytes of an undivided run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Pipeline, Ran, contents, edit};
use fs_err as fs;

/// Enough images that seven shards have some each, whose preparation takes a moment.
const PHANTOM: [&str; 4] = ["--set", "phantom.patients=150", "--set", "phantom.size=384"];
/// Small batches, between which shares end.
const BATCHES: [&str; 2] = ["--set", "attend.eval_batch=8"];

/// One stage, or subcommand, with all its arguments.
#[derive(Clone)]
struct Stage<'a> {
    program: &'a str,
    name: &'a str,
    args: Vec<&'a str>,
    run: &'a str,
}

impl Stage<'_> {
    fn command(&self, pipeline: &Pipeline, more: &[&str]) -> Command {
        pipeline.command(self.program, &[&self.args[..], more].concat())
    }

    fn ran(&self, pipeline: &Pipeline, more: &[&str]) -> Ran {
        pipeline.run(self.command(pipeline, more))
    }

    fn shard(&self, pipeline: &Pipeline, index: usize, count: usize) -> Ran {
        self.ran(pipeline, &["--shard", &format!("{index}/{count}")]).expect(0)
    }

    /// What the shards have kept, by name.
    fn kept(&self, pipeline: &Pipeline) -> Vec<PathBuf> {
        let folder = pipeline.path().join("artifacts/store").join(self.name);
        let folders = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let partial = folders.filter(|path| path.extension().is_some_and(|extension| extension == "partial"));
        let mut files: Vec<PathBuf> = partial
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                !name.starts_with('.') && (name.ends_with(".parquet") || name.ends_with(".safetensors"))
            })
            .collect();
        files.sort();
        files
    }

    /// The published files, and the key.
    fn published(&self, pipeline: &Pipeline) -> (std::collections::BTreeMap<PathBuf, Vec<u8>>, PathBuf) {
        let link = pipeline.published(self.run, self.name);
        (contents(&link), fs::read_link(&link).unwrap())
    }
}

/// A copy of a pipeline as it is, links and all.
fn copy(pipeline: &Pipeline) -> Pipeline {
    let copy = Pipeline::new();
    for name in fs::read_dir(pipeline.path()).unwrap().map(|entry| entry.unwrap().file_name()) {
        let from = pipeline.path().join(&name);
        let copied = Command::new("cp").arg("-a").arg(from).arg(copy.path()).status().unwrap();
        assert!(copied.success(), "{name:?}");
    }
    copy
}

/// Starts a shard and kills it (SIGKILL) as soon as it has kept something, or after that time; whether it was still at work.
fn killed(pipeline: &Pipeline, stage: &Stage, (index, count): (usize, usize), after: Duration) -> bool {
    let before = stage.kept(pipeline).len();
    let mut command = stage.command(pipeline, &["--shard", &format!("{index}/{count}")]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() && stage.kept(pipeline).len() == before && started.elapsed() < after {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

/// In 1, 3 and 7 shards: in reverse order, one killed and repeated. `prep` is killed when it has kept something; passes of
/// networks keep what they have computed every five minutes, so they are killed after longer and longer times.
fn divided(before: &Pipeline, stage: &Stage) {
    let whole = copy(before);
    let clock = Instant::now();
    stage.ran(&whole, &[]).expect(0);
    let eighth = clock.elapsed() / 8;
    let whole = stage.published(&whole);
    let mut kills = 0;
    for count in [1, 3, 7] {
        let pipeline = copy(before);
        if stage.name == "prep" {
            kills += usize::from((0..count).any(|index| killed(&pipeline, stage, (index, count), Duration::MAX)));
        } else {
            kills += (1..=8).take_while(|&eighths| killed(&pipeline, stage, (0, count), eighth * eighths)).count();
        }
        for index in (0..count).rev() {
            let ran = stage.shard(&pipeline, index, count);
            let all = ran.stderr.contains("and so are all others");
            assert!(all || index > 0, "{ran}");
        }
        let kept = fs::metadata(&stage.kept(&pipeline)[0]).unwrap().modified().unwrap();
        stage.shard(&pipeline, 0, count);
        assert_eq!(fs::metadata(&stage.kept(&pipeline)[0]).unwrap().modified().unwrap(), kept, "written again");
        let ran = stage.ran(&pipeline, &["--merge"]).expect(0);
        assert!(stage.published(&pipeline) == whole, "{count} shards: other bytes\n{ran}");
        // Nothing is left, and a shard that comes late has nothing to do.
        assert_eq!(stage.kept(&pipeline).len(), 0, "{ran}");
        assert!(stage.shard(&pipeline, count - 1, count).current(), "{ran}");
        assert_eq!(stage.kept(&pipeline).len(), 0, "{ran}");
    }
    assert!(kills > 0, "every shard was done before it could be killed");
}

/// Shards of different numbers, damaged and missing ones, and all at once.
fn disturbed(before: &Pipeline, stage: &Stage) {
    let whole = copy(before);
    stage.ran(&whole, &[]).expect(0);
    let whole = stage.published(&whole);

    // What is missing is named, and computed without --merge; what is there is taken over, whatever the number was.
    let pipeline = copy(before);
    let none = stage.ran(&pipeline, &["--merge"]).expect(3);
    assert!(none.stderr.contains(&format!("no shard of {} has run", stage.name)), "{none}");
    stage.shard(&pipeline, 1, 3);
    stage.shard(&pipeline, 4, 5);
    let missing = stage.ran(&pipeline, &["--merge"]).expect(3);
    assert!(missing.stderr.contains(&format!("of 5 shards of {} are missing: 0/5", stage.name)), "{missing}");
    assert!(missing.stderr.contains("--shard I/N for them"), "{missing}");
    let ran = stage.ran(&pipeline, &[]).expect(0);
    assert!(ran.stderr.contains("continues after") || ran.stderr.contains("were prepared before"), "{ran}");
    assert!(stage.published(&pipeline) == whole, "{ran}");

    // A flipped bit is found, its shard named and made again.
    let pipeline = copy(before);
    (0..2).for_each(|index| drop(stage.shard(&pipeline, index, 2)));
    let damaged = &stage.kept(&pipeline)[0];
    let mut bytes = fs::read(damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    edit(damaged, &bytes);
    let refused = stage.ran(&pipeline, &["--merge"]).expect(3);
    let named =
        |index: usize| refused.stderr.contains(&format!("1 of 2 shards of {} are missing: {index}/2", stage.name));
    assert!(named(0) || named(1), "{refused}");
    stage.shard(&pipeline, usize::from(named(1)), 2);
    let ran = stage.ran(&pipeline, &["--merge"]).expect(0);
    assert!(stage.published(&pipeline) == whole, "{ran}");

    // All at once, two of them twice, and nobody waits.
    let pipeline = copy(before);
    let shards = ["0/4", "1/4", "2/4", "3/4", "1/4", "2/4"];
    let children: Vec<_> = shards
        .iter()
        .map(|shard| stage.command(&pipeline, &["--shard", shard]).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let ran = stage.ran(&pipeline, &["--merge"]).expect(0);
    assert!(stage.published(&pipeline) == whole, "{ran}");
}

/// A pipeline whose phantom is another folder of files, as prep meets NIH's.
fn files() -> (Pipeline, String) {
    let pipeline = Pipeline::new();
    pipeline.stage("phantom", &[&PHANTOM[..], &["--run", "source"]].concat()).expect(0);
    let phantom = fs::canonicalize(pipeline.published("source", "phantom")).unwrap();
    fs::rename(phantom, pipeline.path().join("raw")).unwrap();
    fs::remove_dir_all(pipeline.path().join("artifacts")).unwrap();
    (pipeline, "prep.root=raw".to_owned())
}

#[test]
fn prep_in_shards_publishes_the_bytes_of_one_run() {
    let (pipeline, root) = files();
    let args = vec!["--set", &root, "--set", "prep.size=96"];
    let prep = Stage { program: "prep", name: "prep", args, run: "default" };
    divided(&pipeline, &prep);
    disturbed(&pipeline, &prep);
}

#[test]
fn what_shards_have_read_is_not_read_again() {
    let (pipeline, root) = files();
    let args = vec!["--set", &root, "--set", "prep.corrupt=skip"];
    let prep = Stage { program: "prep", name: "prep", args, run: "default" };
    let images = pipeline.path().join("raw/images_001/images");
    let first = fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    edit(&first, b"no image");
    let whole = copy(&pipeline);
    prep.ran(&whole, &[]).expect(0);
    (0..2).for_each(|index| drop(prep.shard(&pipeline, index, 2)));
    // The merge needs no image but the damaged one, which has no row that says its contents.
    let aside = pipeline.path().join("aside");
    fs::rename(&images, &aside).unwrap();
    fs::create_dir(&images).unwrap();
    for entry in fs::read_dir(&aside).unwrap() {
        let path = entry.unwrap().path();
        let stub = images.join(path.file_name().unwrap());
        if path.file_name() == first.file_name() {
            fs::rename(&path, &stub).unwrap();
            continue;
        }
        // Another file with the size and the date of the image.
        let about = fs::metadata(&path).unwrap();
        let file = fs::File::create(&stub).unwrap();
        file.set_len(about.len()).unwrap();
        file.into_file().set_modified(about.modified().unwrap()).unwrap();
    }
    prep.ran(&pipeline, &["--merge"]).expect(0);
    assert!(prep.published(&pipeline) == prep.published(&whole));
}

#[test]
fn attend_in_shards_publishes_the_bytes_of_one_run() {
    let pipeline = Pipeline::new();
    let settings = [&PHANTOM[..], &BATCHES, &["--set", "global.epochs=1"]].concat();
    for stage in ["phantom", "prep", "global"] {
        pipeline.stage(stage, &settings).expect(0);
    }
    let attend = Stage { program: "attend", name: "attend", args: settings, run: "default" };
    divided(&pipeline, &attend);
    disturbed(&pipeline, &attend);
    // Another threshold needs no network, and so no shards.
    attend.ran(&pipeline, &[]).expect(0);
    let args = [&attend.args[..], &["--set", "attend.threshold=0.5"]].concat();
    let ran = Stage { args, ..attend }.shard(&pipeline, 1, 3);
    assert!(ran.stderr.contains("heat maps that the store has") && ran.stderr.contains("all others"), "{ran}");
}

#[test]
fn an_evaluation_in_shards_publishes_the_bytes_of_one_run() {
    let pipeline = Pipeline::new();
    for stage in e2e::STAGES {
        pipeline.stage(stage, &["--set", "global.epochs=1", "--set", "local.epochs=1"]).expect(0);
    }
    pipeline.stage("predict", &["export", "model"]).expect(0);
    let elsewhere =
        [&PHANTOM[..], &["--run", "elsewhere", "--set", "prep.split=test", "--set", "phantom.seed=2"]].concat();
    for stage in ["phantom", "prep"] {
        pipeline.stage(stage, &elsewhere).expect(0);
    }
    let args = [&elsewhere[..], &["evaluate", "--model", "model"]].concat();
    let evaluate = Stage { program: "predict", name: "evaluate", args, run: "elsewhere" };
    divided(&pipeline, &evaluate);
    disturbed(&pipeline, &evaluate);
}

/// A frozen trunk's features are a result of their own, which the stage makes first.
#[test]
fn features_in_shards_are_those_of_one_run() {
    const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../nets/tests/parity/dinov2/model.safetensors");
    let init = format!("global.init=pretrained:{WEIGHTS}");
    let values = [&*init, "global.backbone=dinov2-tiny", "global.pool=class", "global.crop=42", "global.eval_batch=8"];
    let settings: Vec<&str> = values.into_iter().flat_map(|value| ["--set", value]).collect();
    let pipeline = Pipeline::new();
    for stage in ["phantom", "prep"] {
        pipeline.stage(stage, &settings).expect(0);
    }
    let global = Stage { program: "global", name: "global", args: settings, run: "default" };
    let whole = copy(&pipeline);
    global.ran(&whole, &[]).expect(0);
    let missing = global.ran(&pipeline, &["--merge"]).expect(3);
    assert!(missing.stderr.contains("no shard of global has run"), "{missing}");
    (0..3).rev().for_each(|index| drop(global.shard(&pipeline, index, 3)));
    let ran = global.ran(&pipeline, &["--merge"]).expect(0);
    assert!(ran.stderr.contains("0 images in"), "{ran}");
    assert!(global.published(&pipeline) == global.published(&whole), "{ran}");
    // Another recipe has the features already.
    let args = [&global.args[..], &["--set", "global.epochs=2"]].concat();
    let ran = Stage { args, ..global }.shard(&pipeline, 1, 3);
    assert!(ran.stderr.contains("the features are in the store"), "{ran}");
}

#[test]
fn shards_are_refused_where_they_mean_nothing() {
    let pipeline = Pipeline::new();
    let said = |stage: &str, args: &[&str]| pipeline.stage(stage, args).expect(2).stderr;
    assert!(said("prep", &["--shard", "3/3"]).contains("expected 0/3 to 2/3: shards are counted from 0"));
    assert!(said("prep", &["--shard", "0/3", "--merge"]).contains("--shard and --merge do not go together"));
    assert!(said("attend", &["--shard", "0/3", "--force"]).contains("--shard and --force do not go together"));
    for stage in ["phantom", "prep"] {
        pipeline.stage(stage, &[]).expect(0);
    }
    assert!(said("global", &["--shard", "0/3"]).contains("global trains mini, which is not divided into shards"));
    assert!(said("fusion", &["--shard", "0/3"]).contains("unexpected argument '--shard'"));
}

#[test]
#[ignore = "needs NIH's files: just test-nih"]
fn nihs_images_in_shards() {
    let root = std::env::var("AGCNN_NIH").expect("AGCNN_NIH names the folder with NIH's files");
    assert!(Path::new(&root).is_dir(), "{root}");
    let root = format!("prep.root={root}");
    let args =
        vec!["--set", &root, "--set", "prep.missing=skip", "--set", "prep.split=random", "--set", "prep.size=256"];
    let prep = Stage { program: "prep", name: "prep", args, run: "default" };
    divided(&Pipeline::new(), &prep);
}
