//! From a PNG file to grey values.

use std::io::{Cursor, Read};
use std::path::Path;

use png::{BitDepth, ColorType, Transformations};

use crate::error::Error;
use crate::grey::Grey;
use crate::limits::{MAX_BYTES, MAX_PIXELS, MAX_SIDE};

/// The bytes of an image's file, for [`Grey::decode`].
///
/// # Errors
/// The file cannot be read, or has more than [`MAX_BYTES`].
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    #[expect(clippy::disallowed_methods, reason = "the error names the path")]
    let file = std::fs::File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::with_capacity(size.min(MAX_BYTES) as usize);
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooManyBytes { path: path.to_owned(), bytes: size });
    }
    Ok(bytes)
}

impl Grey {
    /// Reads a PNG file of any colour type and depth; see [`Grey::decode`].
    ///
    /// # Errors
    /// [`Error`], with the path.
    pub fn read(path: &Path) -> Result<Grey, Error> {
        Grey::decode(&path.display().to_string(), &read(path)?)
    }

    /// Decodes a PNG file of any colour type and depth; `name` is for messages.
    ///
    /// Colour becomes ITU-R 601 luma in Pillow's fixed point (19595 R + 38470 G + 7471 B + 2^15) / 2^16, whose weights
    /// sum to 1: where R = G = B, as in NIH's few RGBA files, R stays as it is. Alpha is ignored. 16-bit values are
    /// divided by 257 and rounded; 1, 2 and 4 bits are stretched to 0..255.
    ///
    /// # Errors
    /// [`Error`], with the name.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Grey, Error> {
        let mut reader = open(name, bytes, Transformations::EXPAND)?;
        let (width, height) = reader.info().size();
        let mut samples = samples(name, &mut reader)?;
        let (colour, depth) = reader.output_color_type();
        if depth == BitDepth::Sixteen {
            samples = samples.chunks_exact(2).map(|pair| to_8_bit(u16::from_be_bytes([pair[0], pair[1]]))).collect();
        }
        let pixels: Vec<u8> = match colour {
            ColorType::Grayscale => samples,
            ColorType::GrayscaleAlpha => samples.chunks_exact(2).map(|pixel| pixel[0]).collect(),
            ColorType::Rgb | ColorType::Indexed => samples.chunks_exact(3).map(luma).collect(),
            ColorType::Rgba => samples.chunks_exact(4).map(luma).collect(),
        };
        checked(name, Grey { width, height, pixels })
    }

    /// Decodes an image as `prep` and `attend` store it, a square 8-bit grey PNG, and refuses any other; `name` is for
    /// messages.
    ///
    /// # Errors
    /// [`Error`], with the name.
    pub fn decode_stored(name: &str, bytes: &[u8]) -> Result<Grey, Error> {
        let mut reader = open(name, bytes, Transformations::IDENTITY)?;
        let info = reader.info();
        let (width, height) = info.size();
        if (info.color_type, info.bit_depth) != (ColorType::Grayscale, BitDepth::Eight) || width != height {
            let got = format!("{width} x {height} px, {:?}, {:?}", info.color_type, info.bit_depth);
            return Err(Error::NotStored { name: name.to_owned(), got });
        }
        let pixels = samples(name, &mut reader)?;
        checked(name, Grey { width, height, pixels })
    }
}

type Reader<'a> = png::Reader<Cursor<&'a [u8]>>;

/// Reads everything before the pixels, and checks it before memory is taken for them.
fn open<'a>(name: &str, bytes: &'a [u8], transformations: Transformations) -> Result<Reader<'a>, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty { name: name.to_owned() });
    }
    let damaged = |source| Error::Png { name: name.to_owned(), source };
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(transformations);
    let (width, height) = decoder.read_header_info().map_err(damaged)?.size();
    let too_large = || Error::TooLarge { name: name.to_owned(), width, height };
    if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(too_large());
    }
    let reader = decoder.read_info().map_err(damaged)?;
    if reader.output_buffer_size().is_none_or(|size| size as u64 > MAX_BYTES) {
        return Err(too_large());
    }
    // The decoder takes any length, and panics later.
    match reader.info().palette.as_ref().map(|palette| palette.len()) {
        Some(len) if len % 3 != 0 => {
            let problem = format!("a palette of {len} bytes, expected 3 a colour");
            Err(Error::Malformed { name: name.to_owned(), problem })
        }
        _ => Ok(reader),
    }
}

/// The samples of all pixels, row by row, without padding.
fn samples(name: &str, reader: &mut Reader<'_>) -> Result<Vec<u8>, Error> {
    let mut samples = vec![0; reader.output_buffer_size().unwrap_or(0)];
    let frame = reader.next_frame(&mut samples).map_err(|source| Error::Png { name: name.to_owned(), source })?;
    samples.truncate(frame.buffer_size());
    Ok(samples)
}

/// The first frame of an animation may be smaller than the image.
fn checked(name: &str, grey: Grey) -> Result<Grey, Error> {
    let Grey { width, height, pixels } = &grey;
    if !pixels.is_empty() && pixels.len() as u64 == u64::from(*width) * u64::from(*height) {
        return Ok(grey);
    }
    let problem = format!("{} pixels, expected {width} x {height}", pixels.len());
    Err(Error::Malformed { name: name.to_owned(), problem })
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
        Grey::decode("raw/images/a.png", bytes)
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
    fn an_image_survives_its_file() {
        let pixels: Vec<u8> = (0..35 * 20).map(|i| (i * 7 % 256) as u8).collect();
        let grey = Grey { width: 35, height: 20, pixels };
        assert_eq!(decode(&grey.encode()).unwrap(), grey);
    }

    #[test]
    fn a_stored_image_is_square_and_grey() {
        use png::BitDepth::{Eight, Sixteen};
        use png::ColorType::{Grayscale, Rgb};
        let stored = |bytes: &[u8]| Grey::decode_stored("00000001_000.png", bytes);
        let good = stored(&file(2, 2, Grayscale, Eight, &[1, 2, 3, 4])).unwrap();
        assert_eq!(good, Grey { width: 2, height: 2, pixels: vec![1, 2, 3, 4] });
        for (bytes, got) in [
            (file(2, 1, Grayscale, Eight, &[1, 2]), "2 x 1 px, Grayscale, Eight"),
            (file(1, 1, Grayscale, Sixteen, &[1, 2]), "1 x 1 px, Grayscale, Sixteen"),
            (file(1, 1, Rgb, Eight, &[1, 2, 3]), "1 x 1 px, Rgb, Eight"),
        ] {
            let message = stored(&bytes).unwrap_err().to_string();
            assert_eq!(message, format!("00000001_000.png: expected a square 8-bit grey PNG, got {got}"));
        }
        assert!(stored(b"no PNG").is_err());
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
        // Three bytes a colour: a palette of another length once stopped the program.
        let indexed = file(2, 1, png::ColorType::Indexed, png::BitDepth::Eight, &[0, 1]);
        let palette = indexed.windows(4).position(|bytes| bytes == b"PLTE").unwrap();
        for len in [4_u8, 8] {
            let mut bad = indexed.clone();
            bad.splice(palette + 4..palette + 13 + 4, (0..len).chain([0; 4]));
            bad[palette - 1] = len;
            let crc = crc32(&bad[palette..palette + 4 + usize::from(len)]).to_be_bytes();
            bad[palette + 4 + usize::from(len)..][..4].copy_from_slice(&crc);
            let error = decode(&bad).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("raw/images/a.png: not a readable PNG file: a palette of {len} bytes, expected 3 a colour")
            );
        }
        // One row of 2^26 pixels, in 8 kB.
        let long = file(1 << 16, 1, png::ColorType::Grayscale, png::BitDepth::One, &[0; 1 << 13]);
        assert!(matches!(decode(&long), Err(Error::TooLarge { width: 65_536, height: 1, .. })));
        let absent = Grey::read(Path::new("no/such.png")).unwrap_err();
        assert!(!absent.is_corrupt() && absent.to_string().contains("no/such.png"));
    }

    /// CRC-32 as PNG has it, for a header whose size we falsify.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }
}
