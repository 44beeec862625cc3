//! Images: files, and coded frames in a DICOM file that is right.

use std::path::Path;

use picture::{Grey, Radiograph};

use crate::files;

#[path = "../../picture/tests/common/mod.rs"]
mod dicom;

/// The most pixels: enough for every path, few enough for a thousand inputs a second.
const MOST: u64 = 1 << 20;

/// A file of any kind, told by its contents.
pub(crate) fn any(bytes: &[u8]) -> bool {
    let Ok(Radiograph { mut image, .. }) = Radiograph::decode_within("input", bytes, MOST) else { return false };
    let pixels = u64::from(image.width) * u64::from(image.height);
    assert_eq!(pixels, image.pixels.len() as u64, "{} x {} px", image.width, image.height);
    assert!(pixels <= MOST);
    image.contrast(1.5);
    assert_eq!(image.square(32).pixels.len(), 32 * 32);
    true
}

/// A PNG file whose chunks get the checksums that they should have.
pub(crate) fn png(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut at = 8;
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let end = at.saturating_add(8).saturating_add(u32::from_be_bytes(*head) as usize);
        let Some(whole) = bytes.get(at + 4..end) else { break };
        let sum = crc.checksum(whole).to_be_bytes();
        if let Some(place) = bytes.get_mut(end..end + 4) {
            place.copy_from_slice(&sum);
        }
        at = end + 4;
    }
    if let Ok(stored) = Grey::decode_stored("input", &bytes) {
        assert_eq!(stored.width, stored.height);
    }
    any(&bytes)
}

/// A frame coded in JPEG-LS; see [`coded`].
pub(crate) fn jpegls(bytes: &[u8]) -> bool {
    coded(bytes, "1.2.840.10008.1.2.4.80")
}

/// A frame coded in JPEG 2000; see [`coded`].
pub(crate) fn jpeg2000(bytes: &[u8]) -> bool {
    coded(bytes, "1.2.840.10008.1.2.4.90")
}

/// A frame coded in lossless JPEG; see [`coded`].
pub(crate) fn lossless_jpeg(bytes: &[u8]) -> bool {
    coded(bytes, "1.2.840.10008.1.2.4.70")
}

/// Rows and columns, each less one, whether there are 16 bits, and whether there is colour, a byte each; then a frame.
fn coded(bytes: &[u8], transfer_syntax: &str) -> bool {
    let Some(([rows, columns, deep, colour], frame)) = bytes.split_first_chunk() else { return false };
    let bits = if deep % 2 == 1 { 16 } else { 8 };
    let layout = dicom::Layout {
        rows: u16::from(*rows) + 1,
        columns: u16::from(*columns) + 1,
        samples: if colour % 2 == 1 { 3 } else { 1 },
        photometric: if colour % 2 == 1 { "RGB" } else { "MONOCHROME2" },
        allocated: bits,
        stored: bits,
        frames: "1",
    };
    any(&layout.coded(transfer_syntax, frame))
}

/// The fixtures of the image codec whose names have this end.
fn fixtures(end: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../picture/tests/dicom");
    files(&folder).into_iter().filter(|(name, _)| name.ends_with(end)).collect()
}

pub(crate) fn png_seeds() -> Vec<Vec<u8>> {
    use png::{BitDepth, ColorType};
    let mut seeds = Vec::new();
    for (colour, depth) in [
        (ColorType::Grayscale, BitDepth::One),
        (ColorType::Grayscale, BitDepth::Four),
        (ColorType::Grayscale, BitDepth::Eight),
        (ColorType::Grayscale, BitDepth::Sixteen),
        (ColorType::GrayscaleAlpha, BitDepth::Eight),
        (ColorType::Rgb, BitDepth::Eight),
        (ColorType::Rgba, BitDepth::Sixteen),
        (ColorType::Indexed, BitDepth::Two),
        (ColorType::Indexed, BitDepth::Eight),
    ] {
        for compression in [png::Compression::NoCompression, png::Compression::Balanced] {
            let side = 8;
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, side, side);
            encoder.set_color(colour);
            encoder.set_depth(depth);
            encoder.set_compression(compression);
            if colour == ColorType::Indexed {
                encoder.set_palette(vec![0, 0, 0, 9, 9, 9, 200, 100, 50, 255, 255, 255]);
                encoder.set_trns(vec![0, 255]);
            }
            let row = (colour.samples() * depth as usize * side as usize).div_ceil(8);
            let data: Vec<u8> = (0..row * side as usize).map(|i| (i % 4) as u8).collect();
            let mut writer = encoder.write_header().expect("a header");
            writer.write_image_data(&data).expect("pixels");
            writer.finish().expect("an end");
            seeds.push(bytes);
        }
    }
    let small = |(_, bytes): (String, Vec<u8>)| (bytes.len() < 1000).then_some(bytes);
    seeds.extend(fixtures(".png").into_iter().filter_map(small).take(4));
    seeds
}

pub(crate) fn jpeg_seeds() -> Vec<Vec<u8>> {
    fixtures(".jpg").into_iter().map(|(_, bytes)| bytes).collect()
}

pub(crate) fn dicom_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = fixtures(".dcm").into_iter().map(|(_, bytes)| bytes).collect();
    let small = dicom::SMALL;
    seeds.push(small.file(&[1, 2, 3, 4]));
    seeds.push(small.data_set(&dicom::element(0x7fe0, 0x10, "OW", &[1, 2, 3, 4])));
    seeds
}

pub(crate) fn jpegls_seeds() -> Vec<Vec<u8>> {
    frames(&["jpegls.dcm", "near.dcm"], &[0xff, 0xd8, 0xff])
}

pub(crate) fn jpeg2000_seeds() -> Vec<Vec<u8>> {
    frames(&["j2k.dcm", "j2k_lossy.dcm"], &[0xff, 0x4f, 0xff, 0x51])
}

pub(crate) fn lossless_jpeg_seeds() -> Vec<Vec<u8>> {
    frames(&["lossless.dcm"], &[0xff, 0xd8, 0xff])
}

/// The coded frames of fixtures, found by how they begin, with their layout before them.
fn frames(ends: &[&str], start: &[u8]) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (name, bytes) in ends.iter().flat_map(|end| fixtures(end)) {
        let decoded = Radiograph::decode(&name, &bytes).expect("a fixture is right").image;
        let at = bytes.windows(start.len()).position(|window| window == start).expect("a fixture has a frame");
        let layout = [
            (decoded.height - 1) as u8,
            (decoded.width - 1) as u8,
            u8::from(!name.starts_with('8') && !name.starts_with("rct") && !name.starts_with("runs")),
            u8::from(name.starts_with("rct")),
        ];
        seeds.push([&layout[..], &bytes[at..]].concat());
    }
    seeds
}
