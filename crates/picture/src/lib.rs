//! One picture: from any PNG file to a small square grey one, and back to a file.
//!
//! Grey values are 0 to 255, rows top to bottom, no padding. Files are not trusted: sizes are bounded before memory is
//! taken, and a damaged file is an error, never a panic or a half-grey picture.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use fast_image_resize as fir;

/// The most pixels a file may claim, 2^26: sixteen times NIH's original scans (about 3000 x 3000), and a bound on memory.
pub const MAX_PIXELS: u64 = 1 << 26;

/// A picture that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read at all.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is empty.
    #[error("{}: 0 bytes, expected a PNG file", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or no PNG file.
    #[error("{}: not a readable PNG file: {source}", path.display())]
    Png {
        /// The file.
        path: PathBuf,
        /// Why.
        source: png::DecodingError,
    },
    /// It is absurdly large.
    #[error("{}: claims {width} x {height} px, expected at most {MAX_PIXELS} px", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
    },
}

impl Error {
    /// Whether the file's contents are to blame, and not the disk or its permissions.
    pub fn is_corrupt(&self) -> bool {
        !matches!(self, Error::Read { .. })
    }
}

/// An 8-bit grey picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grey {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `height * width` grey values, row by row.
    pub pixels: Vec<u8>,
}

impl Grey {
    /// Reads a PNG file of any colour type and depth.
    ///
    /// Colour becomes ITU-R 601 luma in Pillow's fixed point (19595 R + 38470 G + 7471 B + 2^15) / 2^16, whose weights
    /// sum to 1: where R = G = B, as in NIH's few RGBA files, R stays as it is. Alpha is ignored. 16-bit values are
    /// divided by 257 and rounded; 1, 2 and 4 bits are stretched to 0..255.
    ///
    /// # Errors
    /// [`Error`], with the path.
    pub fn read(path: &Path) -> Result<Grey, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Grey::decode(path, &bytes)
    }

    /// As [`Grey::read`], from the file's bytes; `path` is for messages.
    ///
    /// # Errors
    /// [`Error`], with the path.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Grey, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty { path: path.to_owned() });
        }
        let damaged = |source| Error::Png { path: path.to_owned(), source };
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(png::Transformations::EXPAND);
        let (width, height) = decoder.read_header_info().map_err(damaged)?.size();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(Error::TooLarge { path: path.to_owned(), width, height });
        }
        let mut reader = decoder.read_info().map_err(damaged)?;
        let size =
            reader.output_buffer_size().ok_or_else(|| Error::TooLarge { path: path.to_owned(), width, height })?;
        let mut samples = vec![0; size];
        let frame = reader.next_frame(&mut samples).map_err(damaged)?;
        samples.truncate(frame.buffer_size());
        if frame.bit_depth == png::BitDepth::Sixteen {
            samples = samples.chunks_exact(2).map(|pair| to_8_bit(u16::from_be_bytes([pair[0], pair[1]]))).collect();
        }
        let pixels = match frame.color_type {
            png::ColorType::Grayscale => samples,
            png::ColorType::GrayscaleAlpha => samples.chunks_exact(2).map(|pixel| pixel[0]).collect(),
            png::ColorType::Rgb | png::ColorType::Indexed => samples.chunks_exact(3).map(luma).collect(),
            png::ColorType::Rgba => samples.chunks_exact(4).map(luma).collect(),
        };
        Ok(Grey { width, height, pixels })
    }

    /// The picture as a square of `size` px; what is not square is squeezed, as NIH's own 1024 x 1024 files are.
    ///
    /// Bilinear with antialiasing (a triangle filter as wide as the reduction), which is what torchvision's `Resize`
    /// does to Pillow images, and with it the recipe of the paper; equal to Pillow's within one grey level.
    pub fn square(&self, size: u32) -> Grey {
        self.crop([0.0, 0.0, f64::from(self.width), f64::from(self.height)], size)
    }

    /// The part `[left, top, right, bottom]`, in pixels that need not be whole, as a square of `size` px; resized as in
    /// [`Grey::square`]. Nothing outside the part shines in; what is outside the picture is left away.
    ///
    /// # Panics
    /// Where the part and the picture share less than a thousandth of a pixel.
    pub fn crop(&self, [left, top, right, bottom]: [f64; 4], size: u32) -> Grey {
        let (width, height) = (f64::from(self.width), f64::from(self.height));
        let (left, right) = (left.clamp(0.0, width), right.clamp(0.0, width));
        let (top, bottom) = (top.clamp(0.0, height), bottom.clamp(0.0, height));
        assert!(right - left > 1e-3 && bottom - top > 1e-3, "an empty crop: {left} {top} {right} {bottom}");
        let whole = (right - left, bottom - top) == (width, height);
        if whole && (self.width, self.height) == (size, size) {
            return self.clone();
        }
        // Only the pixels that the part touches: the resizer would look beyond it.
        let (first_x, first_y) = (left.floor() as usize, top.floor() as usize);
        let (end_x, end_y) = (right.ceil() as usize, bottom.ceil() as usize);
        let rows = self.pixels.chunks_exact(self.width as usize).skip(first_y).take(end_y - first_y);
        let mut touched: Vec<u8> = rows.flat_map(|row| &row[first_x..end_x]).copied().collect();
        let source = fir::images::Image::from_slice_u8(
            (end_x - first_x) as u32,
            (end_y - first_y) as u32,
            &mut touched,
            fir::PixelType::U8,
        );
        let options = fir::ResizeOptions::new()
            .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear))
            .crop(left - first_x as f64, top - first_y as f64, right - left, bottom - top);
        let mut resized = fir::images::Image::new(size, size, fir::PixelType::U8);
        fir::Resizer::new()
            .resize(&source.expect("one byte per pixel"), &mut resized, &options)
            .expect("the part lies inside, and has pixels");
        Grey { width: size, height: size, pixels: resized.into_vec() }
    }

    /// Moves every value away from the picture's mean by `factor` (1 leaves all as it is), as Pillow's
    /// `ImageEnhance.Contrast` does.
    pub fn contrast(&mut self, factor: f32) {
        if factor == 1.0 || self.pixels.is_empty() {
            return;
        }
        let sum: u64 = self.pixels.iter().map(|&value| u64::from(value)).sum();
        let mean = (sum as f64 / self.pixels.len() as f64 + 0.5).floor() as f32;
        for value in &mut self.pixels {
            *value = (mean + factor * (f32::from(*value) - mean)).clamp(0.0, 255.0) as u8;
        }
    }

    /// The picture as an 8-bit grey PNG file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.pixels.len() / 2 + 1024);
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().expect("a picture has pixels, and memory takes any byte");
        writer.write_image_data(&self.pixels).expect("as many pixels as the header says");
        writer.finish().expect("memory takes any byte");
        bytes
    }
}

fn to_8_bit(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((19_595 * r + 38_470 * g + 7_471 * b + (1 << 15)) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(width: u32, height: u32, color: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette(vec![0, 0, 0, 255, 255, 255, 255, 0, 0]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Grey, Error> {
        Grey::decode(Path::new("raw/images/a.png"), bytes)
    }

    #[test]
    fn every_colour_type_and_depth() {
        use png::BitDepth::{Eight, Four, One, Sixteen, Two};
        use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
        let cases: [(_, _, &[u8], [u8; 2]); 11] = [
            (Grayscale, Eight, &[7, 200], [7, 200]),
            (Grayscale, Sixteen, &[255, 255, 1, 128], [255, 1]),
            (Grayscale, One, &[0b0100_0000], [0, 255]),
            (Grayscale, Two, &[0b0110_0000], [85, 170]),
            (Grayscale, Four, &[0x1f], [17, 255]),
            (GrayscaleAlpha, Eight, &[9, 255, 10, 0], [9, 10]),
            (GrayscaleAlpha, Sixteen, &[9, 9, 255, 255, 0, 128, 0, 0], [9, 0]),
            (Rgb, Eight, &[8, 8, 8, 255, 0, 0], [8, 76]),
            (Rgb, Sixteen, &[8, 8, 8, 8, 8, 8, 255, 255, 255, 255, 255, 255], [8, 255]),
            (Rgba, Eight, &[8, 8, 8, 255, 0, 255, 0, 3], [8, 150]),
            (Indexed, Two, &[0b0110_0000], [255, 76]),
        ];
        for (color, depth, data, expected) in cases {
            let grey = decode(&file(2, 1, color, depth, data)).unwrap();
            assert_eq!((grey.width, grey.height), (2, 1));
            assert_eq!(grey.pixels, expected, "{color:?} {depth:?}");
        }
        for value in 0..=255 {
            assert_eq!(luma(&[value; 3]), value);
            assert_eq!(to_8_bit(u16::from(value) * 257), value);
        }
    }

    #[test]
    fn a_picture_survives_its_file() {
        let pixels: Vec<u8> = (0..35 * 20).map(|i| (i * 7 % 256) as u8).collect();
        let grey = Grey { width: 35, height: 20, pixels };
        assert_eq!(decode(&grey.encode()).unwrap(), grey);
    }

    #[test]
    fn hostile_files_are_named() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let noise: Vec<u8> = (0..64 * 64).map(|_| noise()).collect();
        let good = file(64, 64, png::ColorType::Grayscale, png::BitDepth::Eight, &noise);
        let mut huge = good.clone();
        huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc32(&huge[12..29]);
        huge[29..33].copy_from_slice(&crc.to_be_bytes());
        let mut flipped = good.clone();
        flipped[2000] ^= 1;
        let messages: Vec<String> = [&good[..2000], &good[..20], &[], b"Not Found\n", &huge, &flipped]
            .into_iter()
            .map(|bytes| {
                let error = decode(bytes).unwrap_err();
                assert!(error.is_corrupt());
                error.to_string()
            })
            .collect();
        insta::assert_snapshot!(messages.join("\n"));
        for cut in 0..good.len() - 12 {
            assert!(decode(&good[..cut]).is_err(), "cut to {cut} bytes");
        }
        let absent = Grey::read(Path::new("no/such.png")).unwrap_err();
        assert!(!absent.is_corrupt() && absent.to_string().contains("no/such.png"));
    }

    /// CRC-32 as PNG has it, for a header whose size we falsify.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    #[test]
    fn a_crop_sees_its_part_and_nothing_else() {
        // Four quadrants of 8 x 8 px.
        let pixels = (0..256).map(|i| [[10, 60], [110, 160]][i / 128][i % 16 / 8]).collect();
        let grey = Grey { width: 16, height: 16, pixels };
        for (part, value) in [([0.0, 0.0, 8.0, 8.0], 10), ([8.0, 0.0, 16.0, 8.0], 60), ([9.5, 8.25, 15.0, 99.0], 160)] {
            for size in [4, 8, 32] {
                assert_eq!(grey.crop(part, size).pixels, vec![value; (size * size) as usize], "{part:?}");
            }
        }
        assert_eq!(grey.crop([0.0, 0.0, 16.0, 16.0], 16), grey);
        assert_eq!(grey.crop([-5.0, -5.0, 50.0, 50.0], 8), grey.square(8));
    }

    #[test]
    fn contrast_is_about_the_mean() {
        let picture = |pixels: &[u8]| Grey { width: 4, height: 1, pixels: pixels.to_vec() };
        let mut grey = picture(&[90, 110, 95, 105]);
        grey.contrast(2.0);
        assert_eq!(grey.pixels, [80, 120, 90, 110]);
        grey.contrast(100.0);
        assert_eq!(grey.pixels, [0, 255, 0, 255]);
        let mut same = picture(&[1, 2, 3, 4]);
        same.contrast(1.0);
        assert_eq!(same.pixels, [1, 2, 3, 4]);
    }
}
