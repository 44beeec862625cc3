//! From images to shards and back.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{config, dataset, nih_folder, small};
use cxr::{BBox, Split, SplitKind};
use fs_err as fs;
use picture::{Grey, Radiograph};
use prep::config::OnProblem;
use prep::{Config, Error, Place, Written};
use tables::images;

const ALL: Option<usize> = None;

/// Prepares the folder `root`, and hands back what was said and the rows read from the shards.
fn prepared(root: &Path, config: &Config, limit: Option<usize>) -> Result<(Written, Vec<images::Row>), Error> {
    let (out, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dataset = dataset(root, config)?;
    let taken = dataset.take(config.missing, limit)?;
    let mut done = 0;
    let place = Place { stage: "prep", scratch: scratch.path(), out: out.path(), pieces: None };
    let written = prep::write(&dataset, &taken, config, place, &mut |n| {
        done += n;
        ControlFlow::Continue(())
    })?;
    assert_eq!(done, taken.len());
    let mut files: Vec<PathBuf> = fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(images::facts(&files).unwrap(), dataset.facts(config));
    assert_eq!(images::rows(&files).unwrap().map(|rows| rows as u64), written.images);
    let mut rows = Vec::new();
    images::read(&files, |row| -> Result<(), tables::Error> {
        rows.push(row);
        Ok(())
    })
    .unwrap();
    Ok((written, rows))
}

#[test]
fn rows_hold_the_image_and_its_box_in_the_stored_frame() {
    let folder = small();
    let config = Config { size: 32, ..config(SplitKind::Official) };
    let (written, rows) = prepared(folder.path(), &config, ALL).unwrap();
    assert_eq!(written.images.iter().sum::<u64>(), 20);
    assert_eq!(written.images[2], 10);
    let row = rows.iter().find(|row| row.record.image_id == "00000009_001.png").unwrap();
    assert_eq!((row.split, row.path.as_str()), (Split::Test, "images_001/images/00000009_001.png"));
    assert_eq!((row.width_px, row.height_px, row.source_width_px, row.source_height_px), (32, 32, 20, 20));
    let file = fs::read(folder.path().join(&row.path)).unwrap();
    assert_eq!(row.source_blake3, blake3::hash(&file).to_hex().to_string());
    assert_eq!(row.boxes[0].bbox, BBox::new(2.0, 4.0, 10.0, 20.0).unwrap());
    let grey = Grey::decode_stored("x", &row.png).unwrap();
    assert_eq!(grey, Grey { width: 32, height: 32, pixels: vec![170; 32 * 32] });
}

#[test]
fn damaged_images_stop_or_are_counted() {
    let folder = small();
    let images = folder.path().join("images_001/images");
    let damaged = images.join("00000002_001.png");
    let good = fs::read(&damaged).unwrap();
    let skip = Config { size: 16, corrupt: OnProblem::Skip, ..config(SplitKind::Official) };
    let stop = Config { corrupt: OnProblem::Error, ..skip.clone() };
    for bytes in [&good[..40], &[], b"<html>404</html>"] {
        fs::write(&damaged, bytes).unwrap();
        let error = prepared(folder.path(), &stop, ALL).unwrap_err().to_string();
        assert!(error.contains("00000002_001.png"), "{error}");
        let (written, rows) = prepared(folder.path(), &skip, ALL).unwrap();
        assert_eq!((written.images.iter().sum::<u64>(), written.found.corrupt, rows.len()), (19, 1, 19));
    }
    for patient in 6..=10 {
        for i in 0..2 {
            fs::write(images.join(format!("{patient:08}_{i:03}.png")), b"").unwrap();
        }
    }
    let error = prepared(folder.path(), &skip, ALL).unwrap_err().to_string();
    assert!(error.starts_with("every image in split test is damaged"), "{error}");
}

#[test]
fn stops_when_told() {
    let folder = small();
    let config = Config { size: 16, ..config(SplitKind::Official) };
    let dataset = dataset(folder.path(), &config).unwrap();
    let taken = dataset.take(OnProblem::Error, ALL).unwrap();
    let out = tempfile::tempdir().unwrap();
    let (scratch, out) = (&out.path().join("scratch"), &out.path().join("out"));
    let place = Place { stage: "prep", scratch, out, pieces: None };
    let stopped = prep::write(&dataset, &taken, &config, place, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Interrupted)));
}

#[test]
#[ignore = "needs NIH's files: just test-nih"]
fn nihs_grey_and_rgba_files() {
    let root = nih_folder();
    let config = Config { missing: OnProblem::Skip, size: 64, ..config(SplitKind::Random) };
    let (written, rows) = prepared(&root, &config, Some(60)).unwrap();
    assert_eq!(written.images, [60, 60, 60]);
    assert!(written.found.corrupt == 0);
    assert!(rows.iter().any(|row| row.source_width_px == 256));
    for row in rows {
        let grey = Grey::decode_stored("x", &row.png).unwrap();
        let (darkest, brightest) = (grey.pixels.iter().min().unwrap(), grey.pixels.iter().max().unwrap());
        assert!(brightest - darkest > 100, "{}", row.path);
    }
    // RGBA with R = G = B: the luma is the red channel itself.
    let mut rgba = 0;
    for entry in fs::read_dir(root.join("images_001/images")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        if bytes[25] == 6 {
            rgba += 1;
            let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            let grey = Radiograph::decode("x", &bytes).unwrap().image;
            assert!(grey.pixels.iter().zip(pixels.chunks_exact(4)).all(|(grey, pixel)| *grey == pixel[0]));
        }
    }
    assert_eq!(rgba, 9);
}
