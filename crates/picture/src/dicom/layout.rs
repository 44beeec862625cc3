//! How the pixels of a DICOM image are laid out (PS3.3, C.7.6.3).

use crate::dicom::set::DataSet;
use crate::dicom::tag;

/// The attributes that say how many bits lie where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Samples per pixel: 1 for grey, 3 for colour.
    pub(crate) samples: u32,
    pub(crate) photometric: String,
    /// Bits of a sample as it is stored uncompressed: 8 or 16.
    pub(crate) allocated: u32,
    /// Bits of its value.
    pub(crate) stored: u32,
    /// Where the value ends, counted from the least significant bit.
    pub(crate) high: u32,
    pub(crate) signed: bool,
    /// Colours lie plane by plane, not pixel by pixel.
    pub(crate) planar: bool,
    pub(crate) frames: u32,
}

impl Layout {
    /// Reads the attributes and checks that they fit together; what is wrong, in words.
    pub(crate) fn read(set: &DataSet<'_>) -> Result<Layout, String> {
        let required = |tag| set.word(tag).map(u32::from).ok_or_else(|| format!("it has no {}", tag::name(tag)));
        let allocated = required(tag::BITS_ALLOCATED)?;
        let stored = set.word(tag::BITS_STORED).map_or(allocated, u32::from);
        let frames = set.number(tag::FRAMES)?.unwrap_or(1.0);
        let layout = Layout {
            width: required(tag::COLUMNS)?,
            height: required(tag::ROWS)?,
            samples: set.word(tag::SAMPLES_PER_PIXEL).map_or(1, u32::from),
            photometric: set
                .text(tag::PHOTOMETRIC)
                .ok_or_else(|| format!("it has no {}", tag::name(tag::PHOTOMETRIC)))?,
            allocated,
            stored,
            high: set.word(tag::HIGH_BIT).map_or(stored.saturating_sub(1), u32::from),
            signed: set.word(tag::PIXEL_REPRESENTATION) == Some(1),
            planar: set.word(tag::PLANAR) == Some(1),
            frames: frames as u32,
        };
        let Layout { width, height, stored, high, .. } = layout;
        if width == 0 || height == 0 || frames < 1.0 {
            return Err(format!("{width} x {height} px in {frames} frames"));
        }
        if stored == 0 || high < stored - 1 || (matches!(allocated, 8 | 16) && high >= allocated) {
            return Err(format!("{stored} bits stored up to bit {high}, of {allocated} allocated"));
        }
        Ok(layout)
    }

    /// Pixels of a frame.
    pub(crate) fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Bytes of an uncompressed frame.
    pub(crate) fn bytes(&self) -> usize {
        self.pixels() * self.samples as usize * (self.allocated as usize / 8)
    }
}
