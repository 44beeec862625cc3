//! Files of images, right and wrong.

use picture::Grey;

/// A bright spot on a ramp, as a PNG file; the seed moves it.
pub fn png(seed: u32) -> Vec<u8> {
    let (width, height) = (96, 80);
    let (left, top) = ((seed * 37 % 70 + 10) as f32, (seed * 53 % 50 + 10) as f32);
    let value = |i: u32| {
        let (x, y) = ((i % width) as f32, (i / width) as f32);
        let near = (-((x - left).powi(2) + (y - top).powi(2)) / 200.0).exp();
        (x + 140.0 * near) as u8
    };
    Grey { width, height, pixels: (0..width * height).map(value).collect() }.encode()
}

/// An image of one grey, which the gate refuses.
pub fn blank() -> Vec<u8> {
    Grey { width: 96, height: 80, pixels: vec![100; 96 * 80] }.encode()
}

/// CRC-32 of a PNG chunk (ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A PNG file whose header claims another size, bit depth and colour type, with a right checksum.
pub fn claims(width: u32, height: u32, depth: u8, colour: u8) -> Vec<u8> {
    let mut bytes = png(1);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    (bytes[24], bytes[25]) = (depth, colour);
    let crc = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// An element of a DICOM data set, Explicit VR Little Endian.
fn element(tag: [u16; 2], vr: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = tag.into_iter().flat_map(u16::to_le_bytes).collect();
    bytes.extend(vr.as_bytes());
    let len = value.len() + value.len() % 2;
    match vr {
        "OW" | "OB" => bytes.extend([&[0; 2], &(len as u32).to_le_bytes()[..]].concat()),
        _ => bytes.extend((len as u16).to_le_bytes()),
    }
    bytes.extend(value);
    bytes.resize(bytes.len() + value.len() % 2, 0);
    bytes
}

/// An 8-bit DICOM image of 64 x 48 px in that transfer syntax, as long as it claims to be uncompressed.
pub fn dicom(transfer_syntax: &str, pixels: bool) -> Vec<u8> {
    let short = |value: u16| value.to_le_bytes();
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM");
    bytes.extend(element([2, 0x10], "UI", transfer_syntax.as_bytes()));
    bytes.extend(element([8, 0x16], "UI", b"1.2.840.10008.5.1.4.1.1.1.1"));
    bytes.extend(element([8, 0x60], "CS", b"DX"));
    if pixels {
        bytes.extend(element([0x28, 2], "US", &short(1)));
        bytes.extend(element([0x28, 4], "CS", b"MONOCHROME2"));
        for (element_number, value) in [(0x10, 48), (0x11, 64), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)] {
            bytes.extend(element([0x28, element_number], "US", &short(value)));
        }
        let pixels: Vec<u8> = (0..64 * 48_u32).map(|i| (i % 64 * 3 + i / 64) as u8).collect();
        bytes.extend(element([0x7fe0, 0x10], "OW", &pixels));
    }
    bytes
}

/// Explicit VR Little Endian.
pub const PLAIN: &str = "1.2.840.10008.1.2.1";
/// MPEG-4, which is not decoded.
pub const VIDEO: &str = "1.2.840.10008.1.2.4.102";
