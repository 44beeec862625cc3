//! DICOM and JPEG against pydicom and Pillow; `dicom/make.py` made the fixtures.

use std::path::{Path, PathBuf};

use fs_err as fs;
use picture::{Format, Radiograph};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom")
}

/// Largest difference from the expected image, in grey levels.
fn farthest(file: &str, expected: &str) -> u8 {
    let decoded = Radiograph::read(&folder().join(file)).unwrap_or_else(|error| panic!("{error}"));
    let expected = Radiograph::read(&folder().join(expected)).unwrap().image;
    assert_eq!((decoded.image.width, decoded.image.height), (expected.width, expected.height), "{file}");
    decoded.image.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn dicom_files_are_as_pydicom_shows_them() {
    let mut files = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".dcm") else { continue };
        files += 1;
        let expected = format!("{stem}.png");
        println!("{name} {}", farthest(&name, &expected));
    }
    assert_eq!(files, 41);
}
