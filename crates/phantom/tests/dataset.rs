//! The generator's promises: the same seed, the same bytes; NIH's formats; a visible sign in every box.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use cxr::{Finding, Labels};
use phantom::config::{Config, Prevalence};
use phantom::radiograph::{Subject, render};
use phantom::{cohort, dataset};
use stage::Problem;

fn config() -> Config {
    Config { seed: 1, patients: 40, images_per_patient: 2.0, size: 64, prevalence: Prevalence::Balanced, contrast: 1.0 }
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs_err::read(&path).unwrap());
            }
        }
    }
    found
}

fn made(seed: u64, threads: usize) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let config = Config { seed, ..config() };
    let exams = cohort::draw(&config);
    pool.install(|| dataset::write(folder.path(), &exams, &config, &|| ControlFlow::Continue(()))).unwrap();
    files(folder.path())
}

#[test]
fn same_seed_same_bytes_on_any_number_of_threads() {
    let one = made(1, 1);
    assert!(one == made(1, 3));
    let other = made(2, 2);
    assert!(one["Data_Entry_2017_v2020.csv"] != other["Data_Entry_2017_v2020.csv"]);
}

#[test]
fn stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = dataset::write(folder.path(), &cohort::draw(&config()), &config(), &|| ControlFlow::Break(()));
    assert_eq!(stopped.unwrap_err().kind(), std::io::ErrorKind::Interrupted);
}

#[test]
fn the_files_are_nihs() {
    let files = made(1, 2);
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    let table = text("Data_Entry_2017_v2020.csv");
    assert!(
        table
            .starts_with("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,")
    );
    let boxes = text("BBox_List_2017.csv");
    assert!(boxes.starts_with("Image Index,Finding Label,Bbox [x,y,w,h],,,\n"));
    assert!(boxes.contains(",Infiltrate,") && !boxes.contains(",Infiltration,"));

    let images: Vec<&str> = table.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    let mut listed: Vec<String> = Vec::new();
    for list in ["train_val_list.txt", "test_list.txt"] {
        let list = text(list);
        assert!(!list.ends_with('\n'), "NIH's lists have no final newline");
        listed.extend(list.lines().map(str::to_owned));
    }
    listed.sort();
    assert_eq!(listed, images, "every image is in one list");
    assert!(images.iter().all(|image| files.contains_key(&format!("images_001/images/{image}"))));
}

#[test]
fn patients_are_in_one_list_and_come_back() {
    let exams = cohort::draw(&config());
    let mut lists: BTreeMap<u32, (bool, u32)> = BTreeMap::new();
    for exam in &exams {
        let (test, count) = lists.entry(exam.record.patient_id).or_insert((exam.test, 0));
        assert_eq!(*test, exam.test);
        assert_eq!(exam.record.follow_up, Some(*count), "follow-ups count from 0");
        *count += 1;
    }
    assert_eq!(lists.len(), 40);
    assert!(lists.values().any(|(_, count)| *count > 1));
    assert!(exams.iter().any(|exam| exam.record.labels.findings().count() > 1), "findings occur together");
}

#[test]
fn nihs_prevalences_are_as_rare_as_nihs() {
    let config = Config { patients: 5000, prevalence: Prevalence::Nih, ..config() };
    let exams = cohort::draw(&config);
    let share =
        |finding| exams.iter().filter(|exam| exam.record.labels.contains(finding)).count() as f64 / exams.len() as f64;
    // NIH: 19,894 and 227 of 112,120.
    assert!((0.12..0.24).contains(&share(Finding::Infiltration)), "{}", share(Finding::Infiltration));
    assert!((0.0005..0.006).contains(&share(Finding::Hernia)), "{}", share(Finding::Hernia));
}

/// Every finding is drawn where its box is, inside the image, and fades with the contrast.
#[test]
fn every_sign_is_visible_in_its_box() {
    let size = 256;
    for finding in Finding::ALL {
        let image = |labels: Labels, contrast: f32| {
            let subject = Subject { seed: 5, patient_id: 3, follow_up: 0, sex: None, view_position: None, labels };
            render(&subject, size, contrast)
        };
        let mut labels = Labels::default();
        labels.set(finding, Some(true));
        let (shown, healthy) = (image(labels, 1.0), image(Labels::default(), 1.0));
        assert!(healthy.boxes.is_empty());
        let signs: Vec<_> = shown.boxes.iter().filter(|sign| sign.finding == finding).collect();
        assert!(!signs.is_empty() && signs.len() == shown.boxes.len(), "{finding}: {:?}", shown.boxes);
        for sign in signs {
            let area = sign.bbox;
            assert!(area.x_min >= 0.0 && area.y_min >= 0.0, "{finding}: {area:?}");
            assert!(area.x_max <= size as f32 && area.y_max <= size as f32, "{finding}: {area:?}");
            assert!(area.width() >= 4.0 && area.height() >= 4.0, "{finding}: {area:?}");
            let inside = |index: usize| {
                let (x, y) = ((index % size) as f32, (index / size) as f32);
                x >= area.x_min && x < area.x_max && y >= area.y_min && y < area.y_max
            };
            let changed: Vec<f64> = (0..size * size)
                .filter(|&index| inside(index))
                .map(|index| (f64::from(shown.pixels[index]) - f64::from(healthy.pixels[index])).abs())
                .collect();
            let mean = changed.iter().sum::<f64>() / changed.len() as f64;
            assert!(mean > 3.0, "{finding}: mean change of {mean} grey values in {area:?}");
        }
    }
}
