//! DICOM files, written by hand.

/// An element in Explicit VR Little Endian, padded to an even length.
pub(crate) fn element(group: u16, number: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == "UI" || vr == "OB" { 0 } else { b' ' });
    }
    let mut bytes = head(group, number, vr, value.len() as u32);
    bytes.extend(value);
    bytes
}

/// Tag, value representation and length of an element, which may be untrue.
pub(crate) fn head(group: u16, number: u16, vr: &str, len: u32) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend(vr.as_bytes());
    if ["OB", "OW", "SQ", "UN"].contains(&vr) {
        bytes.extend([0, 0]);
        bytes.extend(len.to_le_bytes());
    } else {
        bytes.extend((len as u16).to_le_bytes());
    }
    bytes
}

pub(crate) fn us(group: u16, number: u16, value: u16) -> Vec<u8> {
    element(group, number, "US", &value.to_le_bytes())
}

/// Preamble, meta information with this transfer syntax, and the data set.
pub(crate) fn file(transfer_syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let meta = element(2, 0x10, "UI", transfer_syntax.as_bytes());
    let len = element(2, 0, "UL", &(meta.len() as u32).to_le_bytes());
    [&[0; 128], &b"DICM"[..], &len, &meta, data_set].concat()
}

/// What says the layout of the pixels.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
    pub(crate) samples: u16,
    pub(crate) photometric: &'static str,
    pub(crate) allocated: u16,
    pub(crate) stored: u16,
    pub(crate) frames: &'static str,
}

/// A grey image of 8 bits and 2 x 2 px.
pub(crate) const SMALL: Layout =
    Layout { rows: 2, columns: 2, samples: 1, photometric: "MONOCHROME2", allocated: 8, stored: 8, frames: "1" };

pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";

impl Layout {
    /// A data set with these pixels, which are an element or encapsulated.
    pub(crate) fn data_set(self, pixels: &[u8]) -> Vec<u8> {
        [
            element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.1"),
            us(0x28, 2, self.samples),
            element(0x28, 4, "CS", self.photometric.as_bytes()),
            element(0x28, 8, "IS", self.frames.as_bytes()),
            us(0x28, 0x10, self.rows),
            us(0x28, 0x11, self.columns),
            us(0x28, 0x100, self.allocated),
            us(0x28, 0x101, self.stored),
            us(0x28, 0x102, self.stored.wrapping_sub(1)),
            us(0x28, 0x103, 0),
            pixels.to_vec(),
        ]
        .concat()
    }

    /// A file with these bytes as pixels.
    pub(crate) fn file(self, pixels: &[u8]) -> Vec<u8> {
        file(EXPLICIT, &self.data_set(&element(0x7fe0, 0x10, "OW", pixels)))
    }

    /// A file with one encapsulated frame.
    pub(crate) fn coded(self, transfer_syntax: &str, frame: &[u8]) -> Vec<u8> {
        let mut pixels = head(0x7fe0, 0x10, "OB", u32::MAX);
        for item in [&[][..], frame] {
            pixels.extend([0xfe, 0xff, 0x00, 0xe0]);
            pixels.extend((item.len() as u32).to_le_bytes());
            pixels.extend(item);
        }
        pixels.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        file(transfer_syntax, &self.data_set(&pixels))
    }
}
