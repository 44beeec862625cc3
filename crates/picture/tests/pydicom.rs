//! DICOM and JPEG against pydicom and Pillow; `dicom/make.py` made the fixtures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use picture::{Format, Radiograph};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom")
}

fn decoded(file: &str) -> Radiograph {
    Radiograph::read(&folder().join(file)).unwrap_or_else(|error| panic!("{error}"))
}

/// Largest difference from the expected image, in grey levels.
fn farthest(file: &str, expected: &str) -> u8 {
    let (image, expected) = (decoded(file).image, decoded(expected).image);
    assert_eq!((image.width, image.height), (expected.width, expected.height), "{file}");
    image.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// The largest difference of each file whose name ends so, from `{name}{suffix}.png`.
fn differences(extension: &str, suffix: &str) -> BTreeMap<String, u8> {
    let names = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stems = names.filter_map(|name| name.strip_suffix(extension).map(str::to_owned));
    stems.map(|stem| (stem.clone(), farthest(&format!("{stem}{extension}"), &format!("{stem}{suffix}.png")))).collect()
}

/// Codecs that round on their own: JPEG's transform, JPEG 2000 with loss, YCbCr.
const INEXACT: [&str; 3] = ["8bit_jpeg", "12bit_j2k_lossy", "ybr_jpeg"];

#[test]
fn dicom_files_are_as_pydicom_shows_them() {
    let found = differences(".dcm", "");
    assert_eq!(found.len(), 42);
    let wrong: Vec<_> = found.iter().filter(|(name, by)| **by > u8::from(INEXACT.contains(&name.as_str()))).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn jpeg_files_are_as_pillow_shows_them() {
    let found = differences(".jpg", "_jpg");
    assert_eq!(found.len(), 7);
    assert!(found.values().all(|&by| by <= 1), "{found:?}");
    for (name, colourful) in [("grey", false), ("grey_progressive", false), ("grey_as_colour", false), ("colour", true)]
    {
        let about = decoded(&format!("{name}.jpg")).about;
        assert_eq!((about.format, about.dicom), (Format::Jpeg, None));
        assert_eq!(about.colour > 0.5, colourful, "{name}: {}", about.colour);
    }
}

#[test]
fn a_header_is_told() {
    let about = decoded("8bit_mono1.dcm").about;
    assert_eq!((about.format, about.colour), (Format::Dicom, 0.0));
    let dicom = about.dicom.unwrap();
    assert_eq!(dicom.transfer_syntax, "1.2.840.10008.1.2 (Implicit VR Little Endian)");
    assert_eq!(dicom.sop_class, "1.2.840.10008.5.1.4.1.1.1.1 (Digital X-Ray Image, For Presentation)");
    assert_eq!((dicom.photometric.as_str(), dicom.frames, dicom.bits_stored), ("MONOCHROME1", 1, 8));
    let texts =
        [dicom.modality, dicom.body_part, dicom.view_position, dicom.patient_id, dicom.patient_age, dicom.patient_sex];
    assert_eq!(texts.map(Option::unwrap), ["DX", "CHEST", "PA", "made", "058Y", "F"]);
    assert_eq!(dicom.study_description, None);
    assert_eq!(decoded("frames.dcm").about.dicom.unwrap().frames, 3);
    assert!(decoded("rgb.dcm").about.colour > 10.0);
    assert_eq!(decoded("ybr_jpeg.dcm").about.dicom.unwrap().photometric, "YBR_FULL_422");
}
