//! From colours to grey.

/// Takes RGB pixels one by one: gives their grey, and keeps the mean of their colourfulness.
#[derive(Debug, Default)]
pub(crate) struct Colours {
    /// Sum of max(R, G, B) - min(R, G, B).
    sum: u64,
    pixels: u64,
}

impl Colours {
    /// ITU-R 601 luma in Pillow's fixed point, (19595 R + 38470 G + 7471 B + 2^15) / 2^16, whose weights sum to 1: where
    /// R = G = B, as in NIH's few RGBA files, R stays as it is.
    pub(crate) fn grey(&mut self, rgb: [u8; 3]) -> u8 {
        let [r, g, b] = rgb.map(u32::from);
        self.sum += u64::from(r.max(g).max(b) - r.min(g).min(b));
        self.pixels += 1;
        ((19_595 * r + 38_470 * g + 7_471 * b + (1 << 15)) >> 16) as u8
    }

    /// Mean of max(R, G, B) - min(R, G, B), in grey levels; 0 without pixels.
    pub(crate) fn mean(&self) -> f32 {
        (self.sum as f64 / self.pixels.max(1) as f64) as f32
    }
}

/// Full-range YCbCr of ITU-R 601, as JPEG and DICOM's YBR_FULL have it, as RGB.
pub(crate) fn rgb_of_ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let [y, cb, cr] = [f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0];
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|value| value.round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greys_stay_and_colours_are_counted() {
        let mut colours = Colours::default();
        for value in 0..=255 {
            assert_eq!(colours.grey([value; 3]), value);
            assert_eq!(rgb_of_ycbcr([value, 128, 128]), [value; 3]);
        }
        assert_eq!(colours.mean(), 0.0);
        assert_eq!([[255, 0, 0], [0, 255, 0], [0, 0, 255]].map(|rgb| colours.grey(rgb)), [76, 150, 29]);
        assert_eq!(colours.mean(), 3.0 * 255.0 / 259.0);
        assert_eq!(rgb_of_ycbcr([76, 85, 255]), [254, 0, 0]);
    }
}
