//! Loading images, and the digest of what a training learns from.

use std::path::{Path, PathBuf};

use branch::Images;
use cxr::{ImageRecord, Labels, Split, SplitKind};
use picture::Grey;
use tables::images::{Facts, Row, Writer};

const SIDE: u32 = 5;

/// A table of one split: an image per grey value and label.
fn table(folder: &Path, split: Split, images: &[(u8, &str)]) -> PathBuf {
    let facts = Facts {
        size_px: SIDE,
        contrast: 1.0,
        depth: 16,
        split: SplitKind::Official,
        label_table: "Data_Entry_2017_v2020.csv".to_owned(),
        dataset: cxr::DatasetKind::Nih,
    };
    let mut writer = Writer::new(folder, split.name(), images.len(), "prep", facts);
    for (index, (grey, findings)) in images.iter().enumerate() {
        let record = ImageRecord {
            image_id: format!("{:08}_000.png", 10 * split as usize + index),
            patient_id: index as u32,
            follow_up: Some(0),
            age_years: None,
            sex: None,
            view_position: None,
            labels: Labels::parse(findings).unwrap(),
        };
        let image = Grey { width: SIDE, height: SIDE, pixels: vec![*grey; (SIDE * SIDE) as usize] };
        let [width_px, height_px, source_width_px, source_height_px] = [SIDE; 4];
        let row = Row {
            record,
            split,
            png: image.encode(),
            path: String::new(),
            source_blake3: "0".repeat(64),
            width_px,
            height_px,
            source_width_px,
            source_height_px,
            boxes: Vec::new(),
        };
        writer.write(row).unwrap();
    }
    let shards = writer.finish().unwrap();
    folder.join(shards.first().map_or("none", |shard| &shard.name))
}

fn load(images: [&[(u8, &str)]; 3], limit: Option<usize>) -> Images {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = Split::ALL
        .into_iter()
        .zip(images)
        .filter(|(_, images)| !images.is_empty())
        .map(|(split, images)| table(folder.path(), split, images))
        .collect();
    let rows = tables::images::rows(&files).unwrap();
    assert_eq!(rows, images.map(<[_]>::len));
    branch::images(&files, limit).unwrap()
}

#[test]
fn images_are_loaded_by_split_without_spare_memory() {
    let train = [(10, "Mass"), (20, "No Finding"), (30, "Mass|Hernia")];
    let images = load([&train, &[(40, "Hernia")], &[]], None);
    assert_eq!((images.len(), images.size()), (4, SIDE as usize));
    let of_train = images.of(Split::Train);
    assert_eq!(of_train.image(2), [30; 25]);
    assert_eq!(of_train.pixels.capacity(), 3 * 25);
    assert_eq!(of_train.labels[2], Labels::parse("Mass|Hernia").unwrap());
    assert_eq!(images.keys(Split::Validation)[0].image_id, "00000010_000.png");
    assert!(images.of(Split::Test).is_empty());

    let few = load([&train, &[(40, "Hernia")], &[]], Some(2));
    assert_eq!((few.len(), few.of(Split::Train).pixels.capacity()), (3, 2 * 25));
}

#[test]
fn the_digest_is_of_what_a_training_learns_from() {
    let digest = |train: (u8, &str), validation: (u8, &str), test: (u8, &str)| {
        load([&[train], &[validation], &[test]], None).digest(&[Split::Train, Split::Validation])
    };
    let (train, validation, test) = ((1, "Mass"), (2, "Mass"), (3, "Mass"));
    let expected = digest(train, validation, test);
    assert_eq!(digest(train, validation, test), expected);
    assert_eq!(digest(train, validation, (4, "Hernia")), expected, "test images are not learnt from");
    assert_ne!(digest((4, "Mass"), validation, test), expected);
    assert_ne!(digest(train, (2, "Hernia"), test), expected);
}
