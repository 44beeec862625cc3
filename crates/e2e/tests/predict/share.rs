//! A department's share: a folder with everything that is on one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Pipeline, Ran};
use picture::{Grey, Radiograph};

use crate::answers::{Answer, of_json, published};
use crate::files::{CHEST, Header, dicom, without_pixels};
use crate::{trained, unnamed};

/// The gate looks at headers and sizes only: the smallest JPEG of the codec's tests is let through, as is all that is odd.
const GATE: [&str; 4] = ["--set", "predict.min_side_px=32", "--set", "predict.max_novelty=100"];

/// `predict --format json FOLDER`, ended after a minute.
fn ask(pipeline: &Pipeline, folder: &Path) -> Ran {
    let mut command = Command::new("timeout");
    command.arg("60").arg(e2e::binaries().join("predict")).args(["--config", "tiny.toml", "--format", "json"]);
    command.args(GATE).arg(folder).current_dir(pipeline.path()).env("NO_COLOR", "1").env("RAYON_NUM_THREADS", "2");
    pipeline.run(command)
}

fn answers(ran: &Ran) -> Vec<Answer> {
    assert!(!ran.stderr.chars().any(|c| c.is_control() && c != '\n'), "{ran}");
    let mut answers = of_json(&ran.stdout);
    answers.sort_by(|a, b| a.image.cmp(&b.image));
    answers
}

/// Images that are answered, named by what they equal, and objects that are no images.
fn good_and_foreign(folder: &Path, image: &Grey) {
    fs_err::create_dir_all(folder.join("ward 3/Thoräx")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs_err::write(folder.join(name), bytes).unwrap();
    write("a.png", &image.encode());
    write("ward 3/b 1.PNG", &image.encode());
    write("ward 3/Thoräx/c\nnew\x1b[31mline.png", &image.encode());
    fs_err::write(folder.join(OsStr::from_bytes(b"d\xff\xfe.png")), image.encode()).unwrap();
    write("m1.dcm", &dicom(image, Header { monochrome1: true, ..CHEST }));
    write("m2", &dicom(image, CHEST));
    write("photo.jpg", include_bytes!("../../../picture/tests/dicom/grey.jpg"));
    write("DICOMDIR", &without_pixels("1.2.840.10008.1.3.10", "OT"));
    write("sr.dcm", &without_pixels("1.2.840.10008.5.1.4.1.1.88.11", "SR"));
    write("Thumbs.db", &[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, 0, 0]);
    write("letter.png", b"Dear colleague,\x1b[2J\nthank you for referring ...");
    write(".hidden.png", b"not looked at");
    crate::paths_table(&folder.join("labels.parquet"), &[]);
    let fifo = folder.join("pipe\x1b[0m.png");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let fifo = folder.join("pipe.parquet");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    symlink("..", folder.join("ward 3/up")).unwrap();
}

#[test]
fn a_departments_share_is_answered() {
    let pipeline = trained(&[]);
    let file = published(&pipeline).into_values().next().unwrap().path;
    // From 0 to 255, which a DICOM image without a window is shown at.
    let mut image = Radiograph::read(&file).unwrap().image;
    image.pixels[..2].copy_from_slice(&[0, 255]);
    let folder = pipeline.path().join("share");
    good_and_foreign(&folder, &image);
    // What is right and what is foreign is no failure.
    let ran = ask(&pipeline, &folder).expect(0);
    let clean = answers(&ran);
    let names: Vec<&str> =
        clean.iter().map(|answer| answer.image.trim_start_matches(folder.to_str().unwrap())).collect();
    let expected = [
        "/a.png",
        "/d\u{fffd}\u{fffd}.png",
        "/m1.dcm",
        "/m2",
        "/photo.jpg",
        "/ward 3/Thoräx/c\nnew\u{1b}[31mline.png",
        "/ward 3/b 1.PNG",
    ];
    assert_eq!(names, expected, "{ran}");
    assert!(clean.iter().all(|answer| answer.refused.is_none() && answer.probabilities.iter().all(Option::is_some)));
    let same = unnamed(&clean);
    let photo = same.iter().position(|answer| *answer != same[0]);
    assert_eq!(photo, Some(4), "PNG, MONOCHROME1 and MONOCHROME2 are one image, whatever they are called: {ran}");
    assert!(same[5..].iter().all(|answer| *answer == same[0]), "{ran}");
    assert!(ran.stderr.contains("7 images, 0 refused; 0 bad files, 6 files that are no images"), "{ran}");
    for foreign in ["DICOMDIR: no pixels", "sr.dcm: no pixels", "Thumbs.db: no PNG", "letter.png: no PNG"] {
        assert!(ran.stderr.contains(foreign), "{foreign}: {ran}");
    }
    assert!(ran.stderr.contains("pipe\\u{1b}[0m.png: no regular file"), "{ran}");

    bad(&folder, &image);
    let ran = ask(&pipeline, &folder).expect(4);
    let mixed = answers(&ran);
    let refused: Vec<(&str, &str)> = mixed
        .iter()
        .filter_map(|answer| Some((answer.image.rsplit('/').next().unwrap(), answer.refused.as_deref()?)))
        .collect();
    let expected = [
        ("abdomen.dcm", "body_part"),
        ("blank.png", "blank"),
        ("ct.dcm", "modality"),
        ("frames.dcm", "frames"),
        ("lateral.dcm", "lateral"),
        ("tiny.png", "too_small"),
    ];
    assert_eq!(refused, expected, "{ran}");
    let answered: Vec<Answer> = mixed.into_iter().filter(|answer| answer.refused.is_none()).collect();
    assert_eq!(answered, clean, "what is bad changes nothing for what is good");
    for named in [
        "empty.png: 0 bytes",
        "empty.dcm: 0 bytes",
        "half\\u{1b}[1m.png: not a readable PNG file",
        "half.dcm: not a readable DICOM file",
        "dangling.png: No such file",
        "loop.png: ",
        "half.parquet: ",
    ] {
        assert!(ran.stderr.contains(named), "{named}: {ran}");
    }
    assert!(ran.stderr.contains("; 7 bad files, 6 files that are no images"), "{ran}");
    assert!(ran.stderr.contains("hint: the other answers are complete"), "{ran}");
    locked(&pipeline, &folder, &image);
    // Answers may lie among the images.
    let out = folder.join("answers.parquet");
    let mut command = pipeline.command("predict", &["--format", "parquet", "--out"]);
    pipeline.run({
        command.args([&out, &folder.join("a.png")]);
        command
    });
    let ran = ask(&pipeline, &folder).expect(4);
    assert!(ran.stderr.contains("; 7 bad files, 7 files that are no images"), "{ran}");
    assert!(ran.stderr.contains("answers.parquet: expected table `pictures`, got `answers`"), "{ran}");

    // What is named is bad, whatever it is: the user expects an answer.
    let mut command = pipeline.command("predict", &GATE);
    command.args(["letter.png", "sr.dcm", "pipe\x1b[0m.png", "pipe.parquet", "a.png"].map(|name| folder.join(name)));
    let ran = pipeline.run(command).expect(4);
    assert!(ran.stderr.contains("1 images, 0 refused; 4 bad files"), "{ran}");
}

fn bad(folder: &Path, image: &Grey) {
    let write = |name: &str, bytes: &[u8]| fs_err::write(folder.join(name), bytes).unwrap();
    write("lateral.dcm", &dicom(image, Header { view: "LL", ..CHEST }));
    write("abdomen.dcm", &dicom(image, Header { body_part: "ABDOMEN", ..CHEST }));
    write("ct.dcm", &dicom(image, Header { modality: "CT", ..CHEST }));
    write("frames.dcm", &dicom(image, Header { frames: 2, ..CHEST }));
    write("blank.png", &Grey { width: 64, height: 64, pixels: vec![0; 64 * 64] }.encode());
    write("tiny.png", &image.square(20).encode());
    write("empty.png", b"");
    write("empty.dcm", b"");
    write("half\x1b[1m.png", &image.encode()[..1000]);
    let whole = dicom(image, CHEST);
    write("half.dcm", &whole[..whole.len() / 2]);
    write("half.parquet", b"PAR1 and then nothing");
    symlink("nowhere", folder.join("dangling.png")).unwrap();
    symlink("loop.png", folder.join("loop.png")).unwrap();
}

/// A folder that may not be read is bad: it may be full of images. Root reads it all the same.
fn locked(pipeline: &Pipeline, folder: &Path, image: &Grey) {
    let closed: PathBuf = folder.join("closed");
    fs_err::create_dir(&closed).unwrap();
    fs_err::write(closed.join("inside.png"), image.encode()).unwrap();
    let permit = |mode| fs_err::set_permissions(&closed, std::fs::Permissions::from_mode(mode)).unwrap();
    permit(0);
    let may_read = fs_err::read_dir(&closed).is_ok();
    let ran = ask(pipeline, folder);
    permit(0o700);
    let expected = if may_read { "7 bad files" } else { "8 bad files" };
    assert!(ran.code == 4 && ran.stderr.contains(expected), "{ran}");
    assert!(may_read || ran.stderr.contains("bad folder: "), "{ran}");
    fs_err::remove_dir_all(closed).unwrap();
}
