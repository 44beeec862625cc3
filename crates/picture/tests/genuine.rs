//! Radiographs of real devices, as DICOM.

use std::path::{Path, PathBuf};

use picture::{Format, Grey, Radiograph};

/// The folder with the files, which `just test-dicom` names.
fn folder() -> PathBuf {
    std::env::var_os("AGCNN_DICOM").expect("AGCNN_DICOM names the folder with the files").into()
}

fn decoded(folder: &Path, name: &str) -> Radiograph {
    let decoded = Radiograph::read(&folder.join(name)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((decoded.about.format, decoded.about.colour), (Format::Dicom, 0.0));
    decoded
}

/// Mean and largest difference, in grey levels.
fn difference(a: &Grey, b: &Grey) -> (f64, u8) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let differences = || a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = differences().map(u64::from).sum();
    (sum as f64 / a.pixels.len() as f64, differences().max().unwrap())
}

/// The image with half the width and height: means of four, as the halved files were made.
fn halved(grey: &Grey) -> Grey {
    let (width, height) = (grey.width / 2, grey.height / 2);
    let at = |x: u32, y: u32| u32::from(grey.pixels[(y * grey.width + x) as usize]);
    let mean = |x: u32, y: u32| {
        ((at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) + at(2 * x + 1, 2 * y + 1) + 2) / 4) as u8
    };
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| mean(x, y))).collect();
    Grey { width, height, pixels }
}

#[test]
#[ignore = "needs real DICOM files: just test-dicom"]
fn dicom_one_radiograph_in_four_files() {
    let folder = folder();
    let genuine = decoded(&folder, "RG1_chest_mono1_15bit_jpegls_near.dcm");
    let mono1 = decoded(&folder, "derived_RG1_half_mono1_15bit_implicitLE.dcm");
    let mono2 = decoded(&folder, "derived_RG1_half_mono2_15bit_explicitLE.dcm");
    let bits12 = decoded(&folder, "derived_RG1_half_mono2_12bit_explicitLE.dcm");
    // Measured: 0.009, 0.026, 0.146. A window's half step (C.11.2.1.2), 12 bits, and the rounding of 8 bits before halving.
    for (other, most) in [(&mono2.image, 0.02), (&bits12.image, 0.05), (&halved(&genuine.image), 0.2)] {
        let (mean, largest) = difference(&mono1.image, other);
        assert!(mean < most && largest <= 1, "{mean} {largest}");
    }
    let about = genuine.about.dicom.unwrap();
    assert_eq!((genuine.image.width, genuine.image.height), (1841, 1955));
    assert_eq!(about.transfer_syntax, "1.2.840.10008.1.2.4.81 (JPEG-LS Near-Lossless)");
    let texts = [about.modality, about.body_part, about.view_position].map(Option::unwrap);
    assert_eq!(texts, ["CR", "CHEST", "PA"]);
    assert_eq!((about.photometric.as_str(), about.bits_stored, about.frames), ("MONOCHROME1", 15, 1));
}

#[test]
#[ignore = "needs real DICOM files: just test-dicom"]
fn dicom_of_8_bits_stays_as_it_is() {
    let path = folder().join("nih_00000001_000_google_mono2_8bit_implicitLE.dcm");
    let bytes = picture::read(&path).unwrap();
    let image = Radiograph::decode("nih", &bytes).unwrap().image;
    assert_eq!((image.width, image.height), (1024, 1024));
    // Uncompressed pixels are the last element, of 2^20 bytes.
    let start = bytes.windows(8).position(|eight| eight == [0xe0, 0x7f, 0x10, 0, 0, 0, 0x10, 0]).unwrap() + 8;
    assert!(image.pixels == bytes[start..start + (1 << 20)]);
}
