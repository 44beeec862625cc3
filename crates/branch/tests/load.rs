//! Loading images, and the digest of what a training learns from.

use std::path::{Path, PathBuf};

use branch::{Error, Images, Originals, Room};
use cxr::{ImageRecord, Labels, Split, SplitKind};
use picture::Grey;
use tables::images::{Facts, Row, Writer};

const SIDE: u32 = 40;

/// A table of one split: an image per grey value and label.
fn table(folder: &Path, split: Split, images: &[(u8, &str)]) -> PathBuf {
    table_from(folder, split, 10 * split as usize, images)
}

/// As [`table`], of images whose numbers begin at `first`.
fn table_from(folder: &Path, split: Split, first: usize, images: &[(u8, &str)]) -> PathBuf {
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
            image_id: format!("{:08}_000.png", first + index),
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
            path: format!("images_001.tar.gz/images/{index}.png"),
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
    load_with(images, limit, 0)
}

fn load_with(images: [&[(u8, &str)]; 3], limit: Option<usize>, memory_mb: usize) -> Images {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = Split::ALL
        .into_iter()
        .zip(images)
        .filter(|(_, images)| !images.is_empty())
        .map(|(split, images)| table(folder.path(), split, images))
        .collect();
    let rows = tables::images::rows(&files).unwrap();
    assert_eq!(rows, images.map(<[_]>::len));
    branch::images(&files, limit, Room { memory_mb, folder: folder.path() }).unwrap()
}

#[test]
fn images_are_loaded_by_split() {
    let train = [(10, "Mass"), (20, "No Finding"), (30, "Mass|Hernia")];
    let images = load([&train, &[(40, "Hernia")], &[]], None);
    assert_eq!((images.len(), images.size()), (4, SIDE as usize));
    let of_train = images.of(Split::Train);
    assert_eq!(of_train.image(2).unwrap(), [30; 1600].as_slice());
    assert_eq!(of_train.labels()[2], Labels::parse("Mass|Hernia").unwrap());
    assert_eq!(images.keys(Split::Validation)[0].image_id, "00000010_000.png");
    assert!(images.of(Split::Test).is_empty());

    let few = load([&train, &[(40, "Hernia")], &[]], Some(2));
    assert_eq!((few.len(), few.of(Split::Train).len()), (3, 2));
}

/// Images of 1600 bytes, as many as take more than a megabyte.
#[test]
fn images_that_do_not_fit_are_the_same_from_a_file() {
    let many: Vec<(u8, &str)> = (0..700).map(|index| ((index % 251) as u8, "Mass")).collect();
    let images = [many.as_slice(), &many[..3], &many[..2]];
    let [memory, disk] = [2, 1].map(|memory_mb| load_with(images, None, memory_mb));
    assert!(memory.of(Split::Train).pixels().is_some() && disk.of(Split::Train).pixels().is_none());
    assert_eq!(memory.digest(&Split::ALL).unwrap(), disk.digest(&Split::ALL).unwrap());
    for split in Split::ALL {
        assert_eq!(memory.keys(split), disk.keys(split));
        let last = memory.of(split).len() - 1;
        assert_eq!(memory.of(split).image(last).unwrap(), disk.of(split).image(last).unwrap());
    }
}

#[test]
fn a_folder_that_cannot_hold_images_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let many: Vec<(u8, &str)> = vec![(7, "Mass"); 700];
    let files = [table(folder.path(), Split::Train, &many)];
    let gone = folder.path().join("gone");
    let error = branch::images(&files, None, Room { memory_mb: 1, folder: &gone }).err().unwrap();
    assert!(error.to_string().starts_with(&format!("0.0 GB of images in {}", gone.display())), "{error}");
}

#[test]
fn the_digest_is_of_what_a_training_learns_from() {
    let digest = |train: (u8, &str), validation: (u8, &str), test: (u8, &str)| {
        load([&[train], &[validation], &[test]], None).digest(&[Split::Train, Split::Validation]).unwrap()
    };
    let (train, validation, test) = ((1, "Mass"), (2, "Mass"), (3, "Mass"));
    let expected = digest(train, validation, test);
    assert_eq!(digest(train, validation, test), expected);
    assert_eq!(digest(train, validation, (4, "Hernia")), expected, "test images are not learnt from");
    assert_ne!(digest((4, "Mass"), validation, test), expected);
    assert_ne!(digest(train, (2, "Hernia"), test), expected);
}

/// A split, the number of its first image, and its images: a grey value and their findings.
type Table<'a> = (Split, usize, &'a [(u8, &'a str)]);

/// Features of a frozen network are kept by it: another split or other labels of the same images are no other pixels.
#[test]
fn the_digest_of_pixels_knows_no_labels_and_no_split() {
    let digest = |tables: &[Table<'_>]| {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> =
            tables.iter().map(|&(split, first, images)| table_from(folder.path(), split, first, images)).collect();
        branch::images(&files, None, Room { memory_mb: 0, folder: folder.path() }).unwrap().pixels_digest().unwrap()
    };
    let (train, validation, test) = (Split::Train, Split::Validation, Split::Test);
    let expected = digest(&[(train, 0, &[(1, "Mass"), (2, "Mass")]), (test, 2, &[(3, "Mass")])]);
    assert_eq!(digest(&[(train, 0, &[(1, "Hernia"), (2, "Mass")]), (test, 2, &[(3, "No Finding")])]), expected);
    assert_eq!(digest(&[(train, 1, &[(2, "Mass"), (3, "Mass")]), (validation, 0, &[(1, "Mass")])]), expected);
    for other in [
        digest(&[(train, 0, &[(1, "Mass"), (2, "Mass")]), (test, 2, &[(4, "Mass")])]),
        digest(&[(train, 0, &[(1, "Mass"), (2, "Mass")]), (test, 3, &[(3, "Mass")])]),
        digest(&[(train, 0, &[(1, "Mass"), (2, "Mass")])]),
    ] {
        assert_ne!(other, expected);
    }
}

/// Images cannot be read one by one from an archive: said at once, and not after an hour of heat maps.
#[test]
fn originals_inside_an_archive_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = [table(folder.path(), Split::Train, &[(7, "Mass"), (8, "Mass")])];
    let root = folder.path().join("raw");
    let archive = root.join("images_001.tar.gz");
    let open = |root: &Path| Originals::new(root.to_owned(), &files);
    assert!(matches!(open(&root), Err(Error::NoOriginals { .. })));
    fs_err::create_dir_all(&archive).unwrap();
    open(&root).unwrap();
    fs_err::remove_dir(&archive).unwrap();
    fs_err::write(&archive, "").unwrap();
    assert!(matches!(open(&root), Err(Error::Packed { archive: named, .. }) if named == archive));
    // Who cuts from prepared images needs no raw folder.
    open(Path::new("")).unwrap();
}
