//! Pictures.

use fs_err as fs;
use picture::Grey;

use crate::make::{Case, IMAGES, names, noise};

/// A PNG file of 16-bit grey values.
fn deep(values: &[u16], width: u32) -> Vec<u8> {
    // The stored form is the only one that our encoder writes, so that this one is put together here.
    let mut raw = Vec::new();
    for row in values.chunks(width as usize) {
        raw.push(0);
        raw.extend(row.iter().flat_map(|value| value.to_be_bytes()));
    }
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zlib, &raw).unwrap();
    let height = values.len() as u32 / width;
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[16, 0, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", zlib.finish().unwrap()), (b"IEND", Vec::new())] {
        let body = [&kind[..], &data].concat();
        file.extend((data.len() as u32).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        file.extend(body);
        file.extend(crc.sum().to_be_bytes());
    }
    file
}

#[test]
fn twelve_bits_that_were_stored_in_sixteen_are_noticed_and_stretched() {
    // python-pillow/Pillow#3011 and #2574, girder/large_image#246.
    let case = Case::new();
    let grey = noise(1);
    let shallow: Vec<u16> = grey.pixels.iter().map(|&value| u16::from(value) * 16).collect();
    let whole: Vec<u16> = grey.pixels.iter().map(|&value| u16::from(value) * 257).collect();
    let names = names();
    for name in &names[..3] {
        case.write(&format!("{IMAGES}/{name}"), &deep(&shallow, 32));
    }
    case.write(&format!("{IMAGES}/{}", names[3]), &deep(&whole, 32));
    let pixels = |row: &tables::images::Row| Grey::decode_stored("x", &row.png).unwrap();
    let (rows, log) = case.good(&["prep.size=32"]);
    assert!(log.contains("3 images are nearly black: their files have 16 bits, their values at most 12"), "{log}");
    assert!(log.contains("grey levels of 256. `--set prep.depth=12` stretches them"), "{log}");
    assert!(pixels(&rows[0]).pixels.iter().all(|&value| value <= 16));
    assert_eq!(pixels(&rows[3]), grey);

    let (rows, log) = case.good(&["prep.size=32", "prep.depth=12"]);
    assert!(!log.contains("nearly black"), "{log}");
    for row in &rows[..4] {
        let stored = pixels(row).pixels;
        assert!(stored.iter().zip(&grey.pixels).all(|(a, b)| a.abs_diff(*b) <= 1));
    }
}

#[test]
fn pictures_of_any_size_become_squares() {
    let case = Case::new();
    let names = names();
    for (name, (width, height)) in names.iter().zip([(1, 1), (3, 200), (64, 48)]) {
        let pixels = (0..width * height).map(|i| (i * 7) as u8).collect();
        case.write(&format!("{IMAGES}/{name}"), &Grey { width, height, pixels }.encode());
    }
    let (rows, _) = case.good(&[]);
    assert_eq!((rows[1].source_width_px, rows[1].source_height_px, rows[1].width_px), (3, 200, 48));
}

#[test]
fn a_picture_that_takes_more_memory_than_there_is_is_named() {
    let case = Case::new();
    let side = 4000;
    let large = Grey { width: side, height: side, pixels: vec![9; (side * side) as usize] };
    case.write(&format!("{IMAGES}/00000002_000.png"), &large.encode());
    let said = case.bad(2, &["prep.memory_mb=16"]);
    assert!(said.contains("00000002_000.png: decoding it takes") && said.contains("prep.memory_mb = 16"), "{said}");
    case.good(&["prep.memory_mb=64"]);
}

#[test]
fn a_picture_that_was_replaced_is_noticed_and_a_date_is_not() {
    let case = Case::new();
    case.good(&[]);
    let file = case.path(IMAGES).join("00000001_000.png");
    fs::File::options().append(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(case.prep(&[]).current());
    case.write(&format!("{IMAGES}/00000002_000.png"), &noise(99).encode());
    assert!(!case.prep(&[]).expect(0).current());
}

#[test]
fn no_training_starts_again_for_what_changed_no_picture() {
    // treeverse/dvc#10347, emanuega/MERlin#44: other times, another folder, `raw/`, an option without effect.
    let case = Case::new();
    let stage = |stage: &str, set: &[&str]| {
        let set = ["global.epochs=1"].iter().chain(set).flat_map(|setting| ["--set", setting]);
        case.pipeline.stage(stage, &set.collect::<Vec<_>>()).expect(0)
    };
    stage("prep", &["prep.root=raw"]);
    stage("global", &[]);
    for name in names() {
        let file = fs::File::options().append(true).open(case.path(IMAGES).join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    for root in ["raw", "raw/", "elsewhere"] {
        if root == "elsewhere" {
            fs::rename(case.path("raw"), case.path(root)).unwrap();
        }
        stage("prep", &[&format!("prep.root={root}")]);
        assert!(stage("global", &[]).current(), "{root}");
    }
    stage("prep", &["prep.root=elsewhere", "prep.missing=skip", "prep.memory_mb=100"]);
    assert!(stage("global", &[]).current());
}
