//! Memory and time at any size, and what a training that went wrong does to the figures.
//!
//! `AGCNN_IMAGES=25596 AGCNN_DRAWS=2000 cargo test -p report --test scale -- --nocapture` is NIH's official test list.

#![allow(clippy::print_stdout)] // `--nocapture` shows the figures

mod scene;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cxr::Split;
use scene::{Report, Scene};
use tables::epochs;

/// The number that a variable of the environment has, or a usual one.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A PNG as large as one of 256 px: a text that no decoder reads stands before its end.
fn padded(png: &[u8]) -> Vec<u8> {
    let text = vec![b'a'; 60_000];
    let body = [&b"tEXt"[..], &text].concat();
    let end = png.len() - 12;
    // Checksums of texts are not looked at.
    [&png[..end], &(text.len() as u32).to_be_bytes(), &body, &[0; 4], &png[end..]].concat()
}

/// Runs the report; returns the most memory that it had in RAM, bytes, and how long it took.
fn measured(report: &Report, draws: usize) -> (u64, Duration) {
    let start = Instant::now();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("report"))
        .current_dir(report.folder.path())
        .args(["--set", &format!("report.draws={draws}")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = loop {
        let about = fs_err::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = about.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).map_or(peak, |kb: u64| kb << 10);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
    (peak, start.elapsed())
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_of_any_size_takes_little_memory() {
    let (images, draws) = (number("AGCNN_IMAGES", 600), number("AGCNN_DRAWS", 100));
    let report = Report::new();
    let mut scene = Scene::new(3 * images, 14);
    let test = |split: Split| split == Split::Test;
    scene.images.iter_mut().filter(|row| test(row.split)).for_each(|row| row.png = padded(&row.png));
    scene.regions.iter_mut().filter(|row| test(row.key.split)).for_each(|row| row.crop_png = padded(&row.crop_png));
    scene.publish(&report.artifacts(), "default", 0.7);
    drop(scene);
    let (peak, time) = measured(&report, draws);
    println!("{images} test images, {draws} draws: {} MB, {:.1} s", peak >> 20, time.as_secs_f64());
    assert!(peak < 1_500 << 20, "{} MB", peak >> 20);
}

#[test]
fn trainings_that_exploded_are_drawn_and_said() {
    let report = Report::new();
    let mut scene = Scene::new(120, 3);
    let row = |epoch: u32, loss: f64| epochs::Row {
        epoch,
        lr: 10.0,
        train_loss: loss,
        validation_loss: Some(loss),
        validation_auroc: Some(0.5),
        best: epoch == 1,
    };
    let exploded = |last: f64| vec![row(1, 0.7), row(2, 1e5), row(3, last)];
    scene.epochs = [exploded(1e38), exploded(f64::MAX), (1..=5000).map(|epoch| row(epoch * 800_000, 0.2)).collect()];
    scene.publish(&report.artifacts(), "default", 0.7);
    let start = Instant::now();
    let (code, _, stderr) = report.run(&[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let out = report.artifacts().join("default/report");
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    for said in ["the validation loss of global was 1.0000e5 after epoch 2", "the validation loss of local was"] {
        assert!(page.contains(said), "{said}");
    }
    assert!(!page.contains("the validation loss of fusion was"));
    assert!(fs_err::metadata(out.join("figures/training.svg")).unwrap().len() < 4 << 20);
}
