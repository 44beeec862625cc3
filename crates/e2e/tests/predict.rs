//! `predict` as its users meet it: on a trained run, on an exported model, on whatever a department's share has.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, LargeStringArray, RecordBatch};
use e2e::{Pipeline, Ran, STAGES, contents, edit};
use parquet::arrow::ArrowWriter;
use picture::{Grey, Radiograph};

#[path = "predict/answers.rs"]
mod answers;
#[path = "predict/elsewhere.rs"]
mod elsewhere;
#[path = "predict/files.rs"]
mod files;
#[path = "predict/share.rs"]
mod share;

use answers::{Answer, of_csv, of_json, of_parquet, published};

/// A pipeline whose run `default` is trained, with these settings too.
fn trained(settings: &[&str]) -> Pipeline {
    let pipeline = Pipeline::new();
    for stage in &STAGES[..STAGES.len() - 1] {
        pipeline.stage(stage, settings).expect(0);
    }
    pipeline
}

/// A trained run and its model, exported to `model`.
fn exported(settings: &[&str]) -> Pipeline {
    let pipeline = trained(settings);
    pipeline.stage("report", settings).expect(0);
    pipeline.stage("predict", &[settings, &["export", "model"]].concat()).expect(0);
    pipeline
}

/// `predict` with these arguments and files, which may have any name.
fn predict(pipeline: &Pipeline, args: &[&str], files: &[PathBuf]) -> Ran {
    let mut command = pipeline.command("predict", args);
    command.args(files);
    pipeline.run(command)
}

/// What is said of an image, whatever it is called.
fn unnamed(answers: &[Answer]) -> Vec<Answer> {
    answers.iter().map(|answer| Answer { image: String::new(), ..answer.clone() }).collect()
}

/// A foundation model's answers are those of the features that were computed once; and a model's folder holds all of it.
#[test]
fn a_foundation_models_answers_are_the_predictions() {
    const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../nets/tests/parity/dinov2/model.safetensors");
    let [of_global, of_local] = ["global", "local"].map(|branch| format!("{branch}.init=pretrained:{WEIGHTS}"));
    let values = [
        &*of_global,
        "global.backbone=dinov2-tiny",
        "global.pool=class",
        "global.crop=42",
        &*of_local,
        "local.backbone=dinov2-tiny",
        "local.pool=avg",
        "local.crop=28",
    ];
    let settings: Vec<&str> = values.into_iter().flat_map(|value| ["--set", value]).collect();
    let pipeline = exported(&settings);
    let published = published(&pipeline);
    let files: Vec<PathBuf> = published.values().map(|published| published.path.clone()).collect();
    let asked = ["--no-gate", "--format", "json", "--model", "model"];
    let json = of_json(&predict(&pipeline, &asked, &files).expect(0).stdout);
    assert_eq!(json.len(), files.len());
    for (answer, published) in json.iter().zip(published.values()) {
        assert_eq!(
            (&answer.probabilities, &answer.box_px),
            (&published.probabilities, &published.box_px),
            "{answer:?}"
        );
    }
    let onnx = pipeline.stage("predict", &[&settings[..], &["export", "--onnx", "other"]].concat()).expect(2);
    assert!(onnx.stderr.contains("foundation models are not written as ONNX"), "{onnx}");
    assert!(!pipeline.path().join("other").exists(), "{onnx}");
}

/// The weights files of the stages, and of the exported model, say which views are averaged.
#[test]
fn answers_are_the_predictions_bit_for_bit_with_test_time_augmentation() {
    let settings = ["--set", "global.tta=ten-crop", "--set", "local.tta=flip"];
    let plain = trained(&[]);
    let without = published(&plain);
    let pipeline = exported(&settings);
    let published = published(&pipeline);
    let files: Vec<PathBuf> = published.values().map(|published| published.path.clone()).collect();
    for whose in [&settings[..], &["--model", "model"]] {
        let args = [whose, &["--no-gate", "--format", "json"]].concat();
        let json = of_json(&predict(&pipeline, &args, &files).expect(0).stdout);
        assert_eq!(json.len(), files.len());
        for (answer, published) in json.iter().zip(published.values()) {
            assert_eq!(answer.probabilities, published.probabilities, "{args:?}");
        }
    }
    let differ = published.values().zip(without.values()).filter(|(a, b)| a.probabilities != b.probabilities);
    assert_eq!(differ.count(), files.len());
    let card = fs_err::read_to_string(pipeline.path().join("model/README.md")).unwrap();
    assert!(card.contains("test-time augmentation: global ten-crop, local flip"), "{card}");

    // The same training as without: only the scoring differs.
    let trainings = |pipeline: &Pipeline| {
        let entries = fs_err::read_dir(pipeline.path().join("artifacts/store/training")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (plain, with) = (trainings(&plain), trainings(&pipeline));
    assert_eq!(plain.iter().filter(|name| with.contains(name)).count(), 2, "{plain:?} {with:?}"); // global, local
}

#[test]
fn answers_are_the_predictions_bit_for_bit() {
    let pipeline = trained(&[]);
    let published = published(&pipeline);
    let files: Vec<PathBuf> = published.values().map(|published| published.path.clone()).collect();
    let json = of_json(&predict(&pipeline, &["--no-gate", "--format", "json"], &files).expect(0).stdout);
    assert_eq!(json.len(), files.len());
    for ((answer, published), file) in json.iter().zip(published.values()).zip(&files) {
        assert_eq!(answer.image, file.to_string_lossy());
        assert_eq!(
            (&answer.probabilities, &answer.box_px),
            (&published.probabilities, &published.box_px),
            "{answer:?}"
        );
        assert!(answer.novelty.is_some() && answer.verdicts.is_empty());
    }
    assert!(json.iter().any(|answer| answer.calls.contains(&Some(true))), "a finding is called");

    // In every format the same, in any order, number and on any number of threads, from a list, and where the gate is heeded.
    let csv = predict(&pipeline, &["--no-gate", "--format", "csv"], &files).expect(0);
    assert_eq!(of_csv(&csv.stdout), json);
    let to_file =
        predict(&pipeline, &["--no-gate", "--format", "parquet", "--out", "answers.parquet"], &files).expect(0);
    assert_eq!(to_file.stdout, "");
    assert_eq!(of_parquet(&pipeline.path().join("answers.parquet")), json);
    let reversed: Vec<PathBuf> = files.iter().rev().cloned().collect();
    for threads in ["1", "2"] {
        let mut command = pipeline.command("predict", &["--no-gate", "--format", "json", "--out", "answers.jsonl"]);
        pipeline.run({
            command.args(&reversed).env("RAYON_NUM_THREADS", threads);
            command
        });
        let mut answers = of_json(&fs_err::read_to_string(pipeline.path().join("answers.jsonl")).unwrap());
        answers.reverse();
        assert_eq!(answers, json, "{threads} threads");
    }
    for (file, expected) in files.iter().zip(&json).step_by(7) {
        let alone = predict(&pipeline, &["--no-gate", "--format", "json"], std::slice::from_ref(file)).expect(0);
        assert_eq!(of_json(&alone.stdout), std::slice::from_ref(expected));
    }
    let list: String = files.iter().map(|file| format!("{}\r\n", file.display())).collect();
    fs_err::write(pipeline.path().join("list"), list).unwrap();
    let mut command = pipeline.command("predict", &["--format", "json", "-"]);
    command.stdin(fs_err::File::open(pipeline.path().join("list")).unwrap().into_parts().0);
    let gated = of_json(&pipeline.run(command).expect(0).stdout);
    for (gated, all) in gated.iter().zip(&json) {
        match &gated.refused {
            Some(reason) => assert!(reason == "novel" || reason == "inverted", "{gated:?}"),
            None => assert_eq!(gated, all),
        }
        assert_eq!((&gated.refused, gated.novelty), (&all.refused, all.novelty));
    }
    // A limit at the median of these images' novelty refuses those above it, and no other.
    let mut novelties: Vec<f32> = json.iter().filter_map(|answer| answer.novelty).collect();
    novelties.sort_by(f32::total_cmp);
    let limit = novelties[files.len() / 2];
    let set = format!("predict.max_novelty={limit}");
    let gated = of_json(&predict(&pipeline, &["--set", &set, "--format", "json"], &files).expect(0).stdout);
    for (gated, all) in gated.iter().zip(&json) {
        assert_eq!(gated.novelty, all.novelty);
        assert_eq!(gated.refused.is_some(), all.novelty > Some(limit), "{limit}: {gated:?}");
    }
    assert!(gated.iter().filter(|answer| answer.refused.is_none()).count() > files.len() / 2);

    // Prep's own table, and a table of paths as polars writes it, relative to its folder.
    let table = pipeline.published("default", "prep").join("images/test-00000-of-00001.parquet");
    let from_table = of_json(&predict(&pipeline, &["--no-gate", "--format", "json"], &[table]).expect(0).stdout);
    let probabilities =
        |answers: &[Answer]| answers.iter().map(|answer| answer.probabilities.clone()).collect::<Vec<_>>();
    assert_eq!(probabilities(&from_table), probabilities(&json));
    let named: Vec<PathBuf> = (0..3).map(|n| PathBuf::from(format!("table/deep/{n}.png"))).collect();
    fs_err::create_dir_all(pipeline.path().join("table/deep")).unwrap();
    for (from, to) in files.iter().zip(&named) {
        fs_err::copy(from, pipeline.path().join(to)).unwrap();
    }
    paths_table(&pipeline.path().join("table/paths.parquet"), &["deep/0.png", "deep/1.png", "deep/2.png", "none.png"]);
    let ran = predict(&pipeline, &["--no-gate", "--format", "json"], &["table/paths.parquet".into()]).expect(4);
    assert_eq!(unnamed(&of_json(&ran.stdout)), unnamed(&json[..3]), "{ran}");
    assert!(ran.stderr.contains("bad file: table/none.png: No such file"), "{ran}");
}

/// Settings under which an image, its crop and its region are made in other ways than by default.
const OTHERWISE: [&str; 12] = [
    "--set",
    "prep.contrast=1.3",
    "--set",
    "attend.source=original",
    "--set",
    "attend.contrast=0.8",
    "--set",
    "attend.threshold=otsu",
    "--set",
    "attend.size=64",
    "--set",
    "local.crop=56",
];

#[test]
fn answers_and_evaluations_are_the_predictions_however_crops_are_made() {
    let pipeline = exported(&OTHERWISE);
    let published = published(&pipeline);
    let files: Vec<PathBuf> = published.values().map(|published| published.path.clone()).collect();
    let json =
        of_json(&predict(&pipeline, &["--no-gate", "--format", "json", "--model", "model"], &files).expect(0).stdout);
    for (answer, published) in json.iter().zip(published.values()) {
        assert_eq!(
            (&answer.probabilities, &answer.box_px),
            (&published.probabilities, &published.box_px),
            "{answer:?}"
        );
    }
    // The model on its own test images, in a run that trained nothing.
    let mirror = [&OTHERWISE[..], &["--run", "mirror"]].concat();
    for stage in ["phantom", "prep"] {
        pipeline.stage(stage, &mirror).expect(0);
    }
    let ran = pipeline.stage("predict", &[&mirror[..], &["evaluate", "--model", "model"]].concat()).expect(0);
    assert!(ran.stderr.contains("images of the splits train and validation are left out"), "{ran}");
    let evaluated = pipeline.published("mirror", "evaluate");
    for branch in ["global", "local", "fusion"] {
        let test = |path: PathBuf| {
            let rows = tables::predictions::read(&path.join("predictions.parquet")).unwrap();
            rows.into_iter().filter(|row| row.key.split == cxr::Split::Test).collect::<Vec<_>>()
        };
        assert_eq!(test(evaluated.join(branch)), test(pipeline.published("default", branch)), "{branch}");
    }
    let regions = |folder: PathBuf| {
        let files = contents(&folder).into_keys().filter(|name| name.to_string_lossy().starts_with("regions"));
        let files: Vec<PathBuf> = files.map(|name| folder.join(name)).collect();
        let mut rows = Vec::new();
        tables::regions::read(&files, |row| {
            rows.extend((row.key.split == cxr::Split::Test).then_some(row));
            Ok::<_, tables::Error>(())
        })
        .unwrap();
        rows
    };
    assert!(regions(evaluated) == regions(pipeline.published("default", "attend")));
}

/// A table with one column of paths, large text as polars writes it.
fn paths_table(path: &Path, names: &[&str]) {
    let column: ArrayRef = Arc::new(LargeStringArray::from(names.to_vec()));
    let batch = RecordBatch::try_from_iter([("path", column)]).unwrap();
    let (file, _) = fs_err::File::create(path).unwrap().into_parts();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_model_is_made_once_and_is_stale_with_its_stages() {
    let pipeline = trained(&[]);
    let image = published(&pipeline).into_values().next().unwrap().path;
    let ask = |args: &[&str]| predict(&pipeline, args, std::slice::from_ref(&image));
    let first = ask(&[]).expect(0);
    assert!(!first.current() && first.stderr.contains("fits thresholds and novelty"), "{first}");
    let again = ask(&[]).expect(0);
    assert!(again.current() && !again.stderr.contains("fits thresholds"), "{again}");
    assert_eq!(again.stdout, first.stdout);
    let other = ask(&["--set", "predict.criterion=f1"]).expect(0);
    assert!(other.stderr.contains("predict.criterion"), "{other}");
    assert!(ask(&[]).expect(0).current());

    // Nothing is made where nothing is asked for.
    let dry = predict(&pipeline, &["--dry-run", "--set", "predict.min_levels=2"], &[]).expect(0);
    assert!(dry.stdout.is_empty() && dry.stderr.contains("predict.min_levels"), "{dry}");

    // The stages behind a changed one come first.
    let tau = ["--set", "attend.threshold=0.5"];
    for (stage, next) in [("attend", "local"), ("local", "fusion")] {
        pipeline.stage(stage, &tau).expect(0);
        let stale = ask(&tau).expect(3);
        assert!(stale.stdout.is_empty() && stale.stderr.contains(&format!("run just {next}")), "{stale}");
    }
    pipeline.stage("fusion", &tau).expect(0);
    let new = ask(&tau).expect(0);
    assert!(!new.current() && new.stdout != first.stdout, "{new}");
}

#[test]
fn an_exported_model_needs_nothing_else_and_is_whole_or_refused() {
    let pipeline = exported(&[]);
    let published = published(&pipeline);
    let files: Vec<PathBuf> = published.values().map(|published| published.path.clone()).collect();
    let of_run = predict(&pipeline, &["--format", "json"], &files).expect(0);

    // Moved to where nothing else is, and its slash is no part of its name.
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("moved");
    pipeline.stage("predict", &["export", "second/", "--references", "0"]).expect(0);
    assert!(pipeline.path().join("second/config.json").exists());
    let moved = Command::new("mv").arg(pipeline.path().join("model")).arg(&model).status().unwrap();
    assert!(moved.success());
    let alone = |args: &[&str], files: &[PathBuf]| {
        let mut command = Command::new(e2e::binaries().join("predict"));
        command.current_dir(place.path()).args(args).args(files).env("NO_COLOR", "1").env("RAYON_NUM_THREADS", "2");
        pipeline.run(command)
    };
    let tested = alone(&["selftest", "--model", "moved"], &[]).expect(0);
    assert_eq!(tested.stdout, "equal: 240 numbers of 4 reference images, bit for bit\n", "{tested}");
    let of_model = alone(&["--model", "moved", "--format", "json"], &files).expect(0);
    assert_eq!(of_model.stdout, of_run.stdout);
    assert!(!place.path().join("artifacts").exists(), "a model needs no artifacts");
    let second = pipeline.path().join("second").display().to_string();
    let nothing = alone(&["selftest", "--model", &second], &[]).expect(0);
    assert!(nothing.stdout.starts_with("nothing compared"), "{nothing}");

    // A changed byte anywhere is found and named.
    let refused = |name: &str, code: i32, expected: &str| {
        let ran = alone(&["--model", "moved"], &files[..1]).expect(code);
        assert!(ran.stdout.is_empty() && ran.stderr.contains(&format!("moved/{name}: ")), "{ran}");
        assert!(ran.stderr.contains(expected), "{ran}");
    };
    let digested = contents(&model)
        .into_iter()
        .filter(|(name, _)| name.extension().is_some_and(|ending| ending == "json" || ending == "safetensors"));
    let digested: Vec<(PathBuf, Vec<u8>)> = digested.collect();
    assert_eq!(digested.len(), 7);
    for (name, bytes) in &digested {
        let path = model.join(name);
        for at in [0, bytes.len() / 3, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            edit(&path, &changed);
            refused(name.to_str().unwrap(), 4, if *name == Path::new("config.json") { "" } else { "changed since" });
        }
        fs_err::remove_file(&path).unwrap();
        refused(name.to_str().unwrap(), 3, "no such file");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        refused(name.to_str().unwrap(), 3, "no regular file");
        fs_err::remove_file(&path).unwrap();
        fs_err::write(&path, bytes).unwrap();
    }
    // A number in config.json that somebody adjusted, another version, other findings.
    let config = model.join("config.json");
    let text = fs_err::read_to_string(&config).unwrap();
    for (from, to, expected) in [
        ("\"max_novelty\": 99.5", "\"max_novelty\": 99.9", "changed since the model was made"),
        ("\"format_version\": 1", "\"format_version\": 3", "format_version 3; expected \"ag-cnn\", 1 or 2"),
        ("\"model_type\": \"ag-cnn\"", "\"model_type\": \"vit\"", "it is \"vit\""),
        ("\"0\": \"atelectasis\"", "\"0\": \"fracture\"", "changed since the model was made"),
    ] {
        assert!(text.contains(from), "{text}");
        edit(&config, text.replace(from, to).as_bytes());
        refused("config.json", 4, expected);
    }
    edit(&config, text.as_bytes());

    // References that say something else, or are gone.
    let expected = model.join("reference/expected.jsonl");
    let lines = fs_err::read_to_string(&expected).unwrap();
    edit(&expected, lines.replacen("\"atelectasis\":0.", "\"atelectasis\":1.", 1).as_bytes());
    let different = alone(&["selftest", "--model", "moved"], &[]).expect(4);
    assert!(different.stdout.starts_with("different: 1.png"), "{different}");
    edit(&expected, lines.replacen("1.png", "../1.png", 1).as_bytes());
    alone(&["selftest", "--model", "moved"], &[]).expect(2);
    edit(&expected, lines.as_bytes());
    fs_err::remove_file(model.join("reference/1.png")).unwrap();
    let gone = alone(&["selftest", "--model", "moved"], &[]).expect(3);
    assert!(gone.stderr.contains("reference/1.png: No such file"), "{gone}");
}

#[test]
fn pictures_and_verdicts_come_where_they_are_asked_for() {
    let pipeline = trained(&[]);
    let files: Vec<PathBuf> = published(&pipeline).into_values().map(|published| published.path).collect();
    let asked = ["--no-gate", "--abstain", "0.4", "--format"];
    let ran = predict(&pipeline, &[&asked[..], &["json", "--overlay", "pictures"]].concat(), &files).expect(0);
    let json = of_json(&ran.stdout);
    let pictures = contents(&pipeline.path().join("pictures"));
    assert_eq!(pictures.len(), files.len());
    for (name, bytes) in pictures {
        let picture = Radiograph::decode("picture", &bytes).unwrap().image;
        assert!(picture.width > picture.height && picture.height >= 48, "{name:?}");
    }
    let csv = predict(&pipeline, &[&asked[..], &["csv"]].concat(), &files).expect(0);
    assert_eq!(of_csv(&csv.stdout), json);
    predict(&pipeline, &[&asked[..], &["parquet", "--out", "answers.parquet"]].concat(), &files).expect(0);
    assert_eq!(of_parquet(&pipeline.path().join("answers.parquet")), json);
    let mut seen = String::new();
    for verdict in json.iter().flat_map(|answer| &answer.verdicts) {
        let _ = write!(seen, "{} ", verdict.as_deref().unwrap_or("null"));
    }
    for verdict in ["present", "absent", "abstain", "null"] {
        assert!(seen.contains(verdict), "{verdict}: {seen}");
    }
    assert!(json.iter().all(|answer| answer.verdicts.len() == 15));
    // A reader that has seen enough (`| head`) is no failure.
    for format in ["csv", "json", "table"] {
        let mut command = pipeline.command("predict", &["--no-gate", "--format", format]);
        let mut child = command.args(&files).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success() && !said.contains("error"), "{format}: {said}");
    }
    // Of one image all is said.
    let one = predict(&pipeline, &["--no-gate", "--abstain", "0.1"], &files[..1]).expect(0).stdout;
    assert!(one.contains("attended region: x ") && one.contains("abstains") && one.contains("Cardiomegaly"), "{one}");
}

/// A training long enough that the network tells a radiograph from its negative.
const LONGER: [&str; 8] = [
    "--set",
    "phantom.patients=120",
    "--set",
    "global.epochs=12",
    "--set",
    "local.epochs=1",
    "--set",
    "fusion.epochs=1",
];

#[test]
fn what_is_unlike_the_training_images_is_refused() {
    let pipeline = trained(&LONGER);
    let files: Vec<PathBuf> = published(&pipeline).into_values().map(|published| published.path).collect();
    let folder = pipeline.path().join("odd");
    fs_err::create_dir(&folder).unwrap();
    let write = |name: &str, image: Grey| {
        let path = folder.join(name);
        fs_err::write(&path, image.encode()).unwrap();
        path
    };
    let ask = |files: &[PathBuf]| {
        of_json(&predict(&pipeline, &[&LONGER[..], &["--format", "json"]].concat(), files).expect(0).stdout)
    };
    let mut accepted = ask(&files);
    accepted.retain(|answer| answer.refused.is_none());
    assert!(accepted.len() * 10 >= files.len() * 9, "{} of {} test images are accepted", accepted.len(), files.len());
    let inverted: Vec<PathBuf> = accepted[..20]
        .iter()
        .enumerate()
        .map(|(number, answer)| {
            let mut image = Radiograph::read(Path::new(&answer.image)).unwrap().image;
            image.pixels.iter_mut().for_each(|value| *value = 255 - *value);
            write(&format!("inverted-{number:02}.png"), image)
        })
        .collect();
    let refused: Vec<Option<String>> = ask(&inverted).into_iter().map(|answer| answer.refused).collect();
    let named = refused.iter().filter(|reason| reason.as_deref() == Some("inverted")).count();
    assert_eq!(named, 20, "{refused:?}");

    let square = |pixel: &dyn Fn(u32, u32) -> u8| Grey {
        width: 128,
        height: 128,
        pixels: (0..128 * 128).map(|i| pixel(i % 128, i / 128)).collect(),
    };
    let noise = |x: u32, y: u32| ((x * 7919 + y * 104_729).wrapping_mul(2_654_435_761) >> 24) as u8;
    let letters = |x: u32, y: u32| {
        let ink = y % 12 > 4 && (x / 2 * 31 + y / 12 * 17 + y / 3 * 5).is_multiple_of(3);
        if ink { 20 + (x % 16) as u8 } else { 235 + (y % 16) as u8 }
    };
    let odd = [
        write("noise.png", square(&noise)),
        write("letters.png", square(&letters)),
        write("blank.png", square(&|_, _| 128)),
        write("levels.png", square(&|x, _| (x / 32 * 60) as u8)),
        write("small.png", square(&|x, y| (x + y) as u8).square(40)),
    ];
    let asked = ask(&odd);
    let reasons: Vec<&str> = asked.iter().map(|answer| answer.refused.as_deref().unwrap_or("")).collect();
    assert!(["novel", "inverted"].contains(&reasons[0]) && ["novel", "inverted"].contains(&reasons[1]), "{reasons:?}");
    assert_eq!(reasons[2..], ["blank", "few_levels", "too_small"]);
    assert!(asked.iter().all(|answer| answer.probabilities == vec![None; 45]), "a refused image is not asked about");
}
