//! Folders as users have them: NIH's complete tables without pictures, a part of the archives, and broken ones.

mod common;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use common::{config, dataset, nih_folder, small};
use cxr::SplitKind;
use fs_err as fs;
use labels::nih;
use prep::config::OnProblem;
use prep::{Config, Error};
use stage::Problem;

fn said(root: &Path, config: &Config) -> String {
    let error = dataset(root, config).and_then(|dataset| dataset.take(config.missing, None).map(drop)).unwrap_err();
    error.to_string().replace(&root.display().to_string(), "ROOT")
}

#[test]
#[ignore = "needs NIH's files: just test-nih"]
fn nihs_complete_tables() {
    let root = nih_folder();
    let dataset = dataset(&root, &config(SplitKind::Official)).unwrap();
    let summary = &dataset.summary;
    assert_eq!((summary.rows, summary.patients, summary.impossible_ages), (112_120, 30_805, 0));
    assert_eq!((summary.boxes, summary.boxed_images, summary.foreign_boxes), (984, 880, 0));
    let [train, validation, test] = summary.splits;
    assert_eq!((train.images + validation.images, test.images), (86_524, 25_596));
    assert_eq!((train.patients + validation.patients, test.patients), (28_008, 2_797));
    assert!(validation.images.abs_diff(11_212) < 100, "{}", validation.images);
    assert_eq!(summary.known_as, Some("NIH's complete lists, 86,524 / 25,596"));
    // v2020 labels; the 2017 table has 477 and 9,912.
    assert_eq!((test.positives[6], test.positives[14]), (555, 9_861));
    assert_eq!(
        dataset
            .items
            .iter()
            .filter(|item| item.split != cxr::Split::Test)
            .filter(|item| !item.boxes.is_empty())
            .count(),
        0
    );
    insta::assert_snapshot!("nih_summary", summary);

    let taken = dataset.take(OnProblem::Skip, None).unwrap();
    assert_eq!(taken.len(), 1_187);
    let boxes: usize = taken.iter().map(|item| item.boxes.len()).sum();
    assert_eq!(boxes, 46);
    let paths: Vec<&str> = taken.iter().filter_map(|item| item.file.as_ref()).map(|file| file.path.as_str()).collect();
    assert!(paths.iter().all(|path| path.starts_with("images_00") && path.contains("/images/")));
    let limited = dataset.take(OnProblem::Skip, Some(7)).unwrap();
    assert_eq!(limited.len(), 21);
    assert_ne!(dataset.quick_fingerprint(&limited), dataset.quick_fingerprint(&taken));
}

#[test]
#[ignore = "needs NIH's files: just test-nih"]
fn nihs_table_in_the_other_splits() {
    let root = nih_folder();
    let random = dataset(&root, &config(SplitKind::Random)).unwrap();
    let [train, validation, test] = random.summary.splits;
    assert_eq!([train.patients, validation.patients, test.patients], [21_563, 3_081, 6_161]);
    let paper = dataset(&root, &config(SplitKind::Paper)).unwrap();
    assert_eq!(paper.summary.splits.map(|counts| counts.images), [78_484, 11_212, 22_424]);
    assert_eq!(paper.summary.shared_patients, 9_674);
}

#[test]
#[ignore = "needs NIH's files: just test-nih"]
fn variants_found_in_the_wild() {
    let root = nih_folder();
    let full = nih::entries(
        Path::new("v2020"),
        &fs::read(root.join("Data_Entry_2017_v2020.csv")).unwrap(),
        &config(SplitKind::Official).reading(),
    )
    .unwrap();
    let boxes = nih::boxes(Path::new("boxes"), &fs::read(root.join("BBox_List_2017.csv")).unwrap()).unwrap();
    let (mut tables, mut lists) = (0, 0);
    for entry in fs::read_dir(root.join("variants")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        if name.starts_with("BBox") {
            lists += 1;
            let variant = nih::boxes(&path, &bytes).unwrap();
            assert_eq!(variant.len(), 984, "{name}");
            for ((id, ours), (other, theirs)) in boxes.iter().zip(&variant) {
                assert_eq!((id, ours.finding), (other, theirs.finding), "{name}");
                assert!(ours.bbox.iou(&theirs.bbox) > 0.999, "{name} {id}");
            }
        } else {
            tables += 1;
            let variant = nih::entries(&path, &bytes, &config(SplitKind::Official).reading()).unwrap();
            for record in &variant.records {
                let ours = full.records.iter().find(|ours| ours.image_id == record.image_id).unwrap();
                assert_eq!(
                    (ours.patient_id, ours.sex, ours.view_position),
                    (record.patient_id, record.sex, record.view_position),
                    "{name}"
                );
            }
        }
    }
    assert_eq!((tables, lists), (3, 2));
}

#[test]
fn a_small_folder_in_every_split() {
    let folder = small();
    for kind in [SplitKind::Official, SplitKind::Random, SplitKind::Paper] {
        let dataset = dataset(folder.path(), &config(kind)).unwrap();
        let summary = &dataset.summary;
        assert_eq!((summary.images(), summary.present()), (20, 20));
        assert_eq!((summary.boxes, summary.foreign_boxes), (1, 1));
        assert!(summary.splits.iter().all(|counts| counts.images > 0), "{kind:?}");
        let taken = dataset.take(OnProblem::Error, Some(2)).unwrap();
        assert!(taken.len() <= 6 && taken.is_sorted_by_key(|item| &item.record.image_id));
    }
    // In one folder, and flat, as others keep them.
    for place in ["images", ""] {
        let folder = small();
        let place = folder.path().join(place);
        fs::create_dir_all(&place).unwrap();
        for entry in fs::read_dir(folder.path().join("images_001/images")).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), place.join(entry.file_name())).unwrap();
        }
        let dataset = dataset(folder.path(), &config(SplitKind::Official)).unwrap();
        assert_eq!(dataset.summary.present(), 20, "{}", place.display());
    }
}

/// The quick and the thorough fingerprint of what `prep` would take from a folder.
fn fingerprints(root: &Path) -> (String, String) {
    let config = config(SplitKind::Official);
    let dataset = dataset(root, &config).unwrap();
    let taken = dataset.take(config.missing, None).unwrap();
    let mut read = 0;
    let contents = dataset.contents_fingerprint(&taken, &HashMap::new(), &mut |files| {
        read += files;
        ControlFlow::Continue(())
    });
    assert_eq!(read, taken.len());
    (dataset.quick_fingerprint(&taken), contents.unwrap())
}

#[test]
fn fingerprints_see_contents_and_not_places() {
    let folder = small();
    let root = folder.path();
    let image = root.join("images_001/images/00000002_001.png");
    let (quick, contents) = fingerprints(root);
    assert_eq!(fingerprints(root), (quick.clone(), contents.clone()));
    assert_eq!(fingerprints(&root.join("")), (quick.clone(), contents.clone()));

    // Copied elsewhere, in another order: other dates, the same contents.
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("a").join("copy");
    fs::create_dir_all(copy.join("images_001/images")).unwrap();
    let mut names: Vec<_> = fs::read_dir(image.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names.iter().rev() {
        fs::copy(image.parent().unwrap().join(name), copy.join("images_001/images").join(name)).unwrap();
    }
    for name in ["Data_Entry_2017.csv", "BBox_List_2017.csv", "train_val_list.txt", "test_list.txt"] {
        fs::copy(root.join(name), copy.join(name)).unwrap();
    }
    let copied = fingerprints(&copy);
    assert!(copied.0 != quick && copied.1 == contents);

    // Touched: the same.
    let bytes = fs::read(&image).unwrap();
    let touched = fs::File::options().append(true).open(&image).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    let after = fingerprints(root);
    assert!(after.0 != quick && after.1 == contents);

    // Another pixel, at the same size and date: only the thorough one sees it.
    fs::write(&image, fs::read(root.join("images_001/images/00000002_000.png")).unwrap()).unwrap();
    assert_eq!(fs::metadata(&image).unwrap().len(), bytes.len() as u64);
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    let changed = fingerprints(root);
    assert!(changed.0 == after.0 && changed.1 != contents);

    // A text file, with the image as it was.
    fs::write(&image, &bytes).unwrap();
    assert_eq!(fingerprints(root).1, contents);
    fs::write(root.join("BBox_List_2017.csv"), "Image Index,Finding Label,Bbox [x,y,w,h],,,\n").unwrap();
    let other = fingerprints(root);
    assert!(other.0 != after.0 && other.1 != contents);

    let dataset = dataset(root, &config(SplitKind::Official)).unwrap();
    let taken = dataset.take(OnProblem::Error, None).unwrap();
    let stopped = dataset.contents_fingerprint(&taken, &HashMap::new(), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Interrupted)));
}

#[test]
fn the_split_has_a_seed_of_its_own() {
    let folder = small();
    let splits = |split_seed| {
        let config = Config { split_seed, ..config(SplitKind::Random) };
        dataset(folder.path(), &config).unwrap().items.into_iter().map(|item| item.split).collect::<Vec<_>>()
    };
    assert_eq!(splits(1), splits(1));
    assert!((2..5).any(|seed| splits(seed) != splits(1)));
}

#[test]
fn a_validation_list_is_a_part_of_train_val() {
    let folder = small();
    fs::write(folder.path().join("va.txt"), "00000002_000.png\n00000006_000.png\n").unwrap();
    let config = Config { validation_list: "va.txt".into(), ..config(SplitKind::Official) };
    let error = dataset(folder.path(), &config).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("1 of the 2 images in"), "{error}");
    assert!(error.to_string().ends_with("the first: 00000006_000.png"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn lists_with_labels_and_an_exact_validation_list() {
    let folder = small();
    let root = folder.path();
    let flags = |id: &str, mass| format!("{id} 0 0 {mass} 0 {mass} 0 0 0 0 0 0 0 0 0\n");
    fs::write(root.join("tr.txt"), flags("00000001_000.png", 1) + &flags("00000001_001.png", 1)).unwrap();
    fs::write(root.join("va.txt"), "00000002_000.png").unwrap();
    fs::write(root.join("te.txt"), "00000003_000.png").unwrap();
    let lists = Config {
        train_list: "tr.txt".into(),
        validation_list: "va.txt".into(),
        test_list: "te.txt".into(),
        ..config(SplitKind::Files)
    };
    let summary = dataset(root, &lists).unwrap().summary;
    assert_eq!(summary.splits.map(|counts| counts.images), [2, 1, 1]);
    assert_eq!((summary.unlisted, summary.relabelled), (16, 1));

    fs::write(root.join("va.txt"), "00000002_000.png\n00000002_001.png\n").unwrap();
    let exact = Config { validation_list: "va.txt".into(), ..config(SplitKind::Official) };
    let summary = dataset(root, &exact).unwrap().summary;
    assert_eq!(summary.splits.map(|counts| counts.images), [8, 2, 10]);
}

#[test]
fn what_is_wrong_is_named() {
    let official = config(SplitKind::Official);
    let mut messages = Vec::new();
    let mut case = |change: &dyn Fn(&Path), config: &Config| {
        let folder = small();
        change(folder.path());
        messages.push(said(folder.path(), config));
    };
    let images = "images_001/images";
    case(&|root| fs::remove_dir_all(root).unwrap(), &official);
    case(&|root| fs::remove_file(root.join("Data_Entry_2017.csv")).unwrap(), &official);
    case(&|root| fs::remove_file(root.join("test_list.txt")).unwrap(), &official);
    case(&|_| {}, &Config { labels: "mine.csv".into(), ..official.clone() });
    case(&|root| fs::remove_dir_all(root.join(images)).unwrap(), &official);
    case(&|root| fs::remove_file(root.join(images).join("00000002_001.png")).unwrap(), &official);
    case(
        &|root| {
            fs::create_dir_all(root.join("images_002/images")).unwrap();
            let name = "00000002_001.png";
            fs::copy(root.join(images).join("00000002_000.png"), root.join("images_002/images").join(name)).unwrap();
        },
        &official,
    );
    case(
        &|root| {
            fs::write(root.join("train_val_list.txt"), "00000001_000.png\n00000006_000.png").unwrap();
            fs::write(root.join("test_list.txt"), "00000006_001.png\n00000007_000.png\n00000001_001.png\n").unwrap();
        },
        &Config { validation_fraction: 0.5, ..official.clone() },
    );
    case(&|root| fs::write(root.join("test_list.txt"), "00000001_000.png\n").unwrap(), &official);
    case(&|root| fs::write(root.join("test_list.txt"), "00000042_000.png\n").unwrap(), &official);
    case(
        &|root| {
            for i in 6..=10 {
                for j in 0..2 {
                    fs::remove_file(root.join(images).join(format!("{i:08}_{j:03}.png"))).unwrap();
                }
            }
        },
        &Config { missing: OnProblem::Skip, ..official.clone() },
    );
    insta::assert_snapshot!(messages.join("\n"));
}
