//! Files as departments have them.

use picture::Grey;

/// An element in Explicit VR Little Endian, padded to an even length.
fn element(group: u16, number: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let pad = if ["UI", "OB", "OW"].contains(&vr) { 0 } else { b' ' };
    let padded = value.len().next_multiple_of(2);
    let mut bytes = [&group.to_le_bytes()[..], &number.to_le_bytes(), vr.as_bytes()].concat();
    match vr {
        "OB" | "OW" => bytes.extend([&[0, 0][..], &(padded as u32).to_le_bytes()].concat()),
        _ => bytes.extend((padded as u16).to_le_bytes()),
    }
    bytes.extend(value);
    bytes.resize(bytes.len() + padded - value.len(), pad);
    bytes
}

fn part_10(sop_class: &str, data_set: &[Vec<u8>]) -> Vec<u8> {
    let meta = [element(2, 2, "UI", sop_class.as_bytes()), element(2, 0x10, "UI", b"1.2.840.10008.1.2.1")].concat();
    let len = element(2, 0, "UL", &(meta.len() as u32).to_le_bytes());
    [&[0; 128], &b"DICM"[..], &len, &meta, &data_set.concat()].concat()
}

/// What a DICOM image says beside its pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) modality: &'static str,
    pub(crate) body_part: &'static str,
    pub(crate) view: &'static str,
    pub(crate) frames: usize,
    pub(crate) monochrome1: bool,
}

/// A frontal chest radiograph.
pub(crate) const CHEST: Header =
    Header { modality: "DX", body_part: "CHEST", view: "PA", frames: 1, monochrome1: false };

/// A DICOM image of 12 bits in 16, Explicit VR Little Endian.
pub(crate) fn dicom(image: &Grey, header: Header) -> Vec<u8> {
    let us = |group, number, value: u16| element(group, number, "US", &value.to_le_bytes());
    let stored = |&value: &u8| {
        let value = u16::from(value) * 16;
        if header.monochrome1 { 4080 - value } else { value }.to_le_bytes()
    };
    let frame: Vec<u8> = image.pixels.iter().flat_map(stored).collect();
    let photometric = if header.monochrome1 { "MONOCHROME1" } else { "MONOCHROME2" };
    part_10(
        "1.2.840.10008.5.1.4.1.1.1.1",
        &[
            element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.1.1"),
            element(8, 0x60, "CS", header.modality.as_bytes()),
            element(0x18, 0x15, "CS", header.body_part.as_bytes()),
            element(0x18, 0x5101, "CS", header.view.as_bytes()),
            us(0x28, 2, 1),
            element(0x28, 4, "CS", photometric.as_bytes()),
            element(0x28, 8, "IS", header.frames.to_string().as_bytes()),
            us(0x28, 0x10, image.height as u16),
            us(0x28, 0x11, image.width as u16),
            us(0x28, 0x100, 16),
            us(0x28, 0x101, 12),
            us(0x28, 0x102, 11),
            us(0x28, 0x103, 0),
            element(0x7fe0, 0x10, "OW", &frame.repeat(header.frames)),
        ],
    )
}

/// A DICOM object without pixels, such as a report or a directory.
pub(crate) fn without_pixels(sop_class: &str, modality: &str) -> Vec<u8> {
    part_10(sop_class, &[element(8, 0x16, "UI", sop_class.as_bytes()), element(8, 0x60, "CS", modality.as_bytes())])
}
