//! From a PNG file to grey values.

use std::io::Cursor;

use png::{BitDepth, ColorType, InterlaceInfo, Transformations};

use crate::about::Format;
use crate::colour::Colours;
use crate::error::{Error, checked_size};
use crate::grey::Grey;
use crate::limits::{Demand, MAX_PIXELS};

/// The first bytes of every PNG file.
pub(crate) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Values of 16 bits: which of them is white, and the greatest that occurs.
struct Deep {
    white: u16,
    greatest: u16,
}

impl Deep {
    /// As PNG defines it: all bits are used.
    const WHOLE: Deep = Deep { white: u16::MAX, greatest: 0 };

    /// The value in 8 bits, rounded.
    fn grey(&mut self, value: u16) -> u8 {
        self.greatest = self.greatest.max(value);
        let white = u32::from(self.white);
        ((u32::from(value) * 255 + white / 2) / white).min(255) as u8
    }

    /// How many bits the greatest value needs.
    fn bits(&self) -> u32 {
        u16::BITS - self.greatest.leading_zeros()
    }
}

/// Decodes a PNG file of any colour type and depth, row by row; also says how colourful it is, and how many bits of 16 its
/// greatest value needs. Where they are no more than `depth`, that many are stretched to 0..255.
pub(crate) fn decode(name: &str, bytes: &[u8], most: u64, depth: u32) -> Result<(Grey, f32, Option<u32>), Error> {
    let once = |deep: &mut Deep| {
        let mut reader = open(name, bytes, Transformations::EXPAND, most)?;
        let (width, height) = reader.info().size();
        let is_deep = reader.output_color_type().1 == BitDepth::Sixteen;
        let mut colours = Colours::default();
        let pixels = guard::caught(|| pixels(&mut reader, &mut colours, deep));
        let pixels = pixels.map_err(|problem| damaged(name, problem))?;
        let bits = is_deep.then(|| deep.bits());
        Ok((Grey { width, height, pixels }, colours.mean(), bits))
    };
    let whole = once(&mut { Deep::WHOLE })?;
    match whole.2 {
        // A second time, since what is white is known only behind the last row, and rows are not kept.
        Some(bits) if bits <= depth && depth < u16::BITS => once(&mut Deep { white: (1 << depth) - 1, greatest: 0 }),
        _ => Ok(whole),
    }
}

/// What decoding a file takes: a grey value a pixel, and rows of up to 8 bytes a pixel as they are inflated.
pub(crate) fn demand(name: &str, bytes: &[u8]) -> Result<Demand, Error> {
    let (width, height) = open(name, bytes, Transformations::EXPAND, MAX_PIXELS)?.info().size();
    Ok(Demand { width, height, per_pixel: 1, more: 8 * 8 * u64::from(width) })
}

impl Grey {
    /// Decodes an image as `prep` and `attend` store it, a square 8-bit grey PNG, and refuses any other; `name` is for
    /// messages.
    ///
    /// # Errors
    /// [`Error`], with the name.
    pub fn decode_stored(name: &str, bytes: &[u8]) -> Result<Grey, Error> {
        let mut reader = open(name, bytes, Transformations::IDENTITY, MAX_PIXELS)?;
        let info = reader.info();
        let (width, height) = info.size();
        if (info.color_type, info.bit_depth) != (ColorType::Grayscale, BitDepth::Eight) || width != height {
            let got = format!("{width} x {height} px, {:?}, {:?}", info.color_type, info.bit_depth);
            return Err(Error::NotStored { name: name.to_owned(), got });
        }
        let pixels = guard::caught(|| pixels(&mut reader, &mut Colours::default(), &mut { Deep::WHOLE }));
        let pixels = pixels.map_err(|problem| damaged(name, problem))?;
        Ok(Grey { width, height, pixels })
    }
}

type Reader<'a> = png::Reader<Cursor<&'a [u8]>>;

fn damaged(name: &str, problem: impl ToString) -> Error {
    Error::Damaged { name: name.to_owned(), format: Format::Png, problem: problem.to_string() }
}

/// Reads everything before the pixels, and checks it before memory is taken for them.
fn open<'a>(name: &str, bytes: &'a [u8], transformations: Transformations, most: u64) -> Result<Reader<'a>, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty { name: name.to_owned() });
    }
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(transformations);
    let (width, height) = decoder.read_header_info().map_err(|error| damaged(name, error))?.size();
    checked_size(name, width, height, most)?;
    let reader = decoder.read_info().map_err(|error| damaged(name, error))?;
    // The decoder takes any length, and panics later.
    match reader.info().palette.as_ref().map(|palette| palette.len()) {
        Some(len) if len % 3 != 0 => Err(damaged(name, format_args!("a palette of {len} bytes, expected 3 a colour"))),
        _ => Ok(reader),
    }
}

/// The grey values of all pixels. Only a row of samples is held.
fn pixels(reader: &mut Reader<'_>, colours: &mut Colours, deep: &mut Deep) -> Result<Vec<u8>, String> {
    let said = |error: png::DecodingError| error.to_string();
    let (width, height) = reader.info().size();
    let (width, height) = (width as usize, height as usize);
    let (colour, depth) = reader.output_color_type();
    let bytes_per_pixel = colour.samples() * (depth as usize).div_ceil(8);
    let mut pixels = vec![0; width * height];
    // The first frame of an animation may be smaller than the image.
    let whole =
        |done| if done == width * height { Ok(()) } else { Err(format!("{done} pixels, expected {width} x {height}")) };
    if (colour, depth) == (ColorType::Grayscale, BitDepth::Eight) {
        whole(reader.next_frame(&mut pixels).map_err(said)?.buffer_size())?;
        return Ok(pixels);
    }
    let mut part = vec![0; width];
    let mut done = 0;
    while let Some(row) = reader.next_interlaced_row().map_err(said)? {
        let len = row.data().len() / bytes_per_pixel;
        match row.interlace() {
            InterlaceInfo::Null(_) => {
                if len == width && done + len <= pixels.len() {
                    to_grey(row.data(), (colour, depth), colours, deep, &mut pixels[done..done + len]);
                }
            }
            InterlaceInfo::Adam7(pass) => {
                to_grey(row.data(), (colour, depth), colours, deep, &mut part[..len]);
                png::expand_interlaced_row(&mut pixels, width, &part[..len], pass, 8);
            }
        }
        done += len;
    }
    whole(done)?;
    Ok(pixels)
}

/// 16-bit values become 8-bit ones, alpha is ignored.
fn to_grey(
    row: &[u8],
    (colour, depth): (ColorType, BitDepth),
    colours: &mut Colours,
    deep: &mut Deep,
    grey: &mut [u8],
) {
    let samples = colour.samples();
    if depth == BitDepth::Sixteen {
        let mut value = |pixel: &[u8], i: usize| deep.grey(u16::from_be_bytes([pixel[2 * i], pixel[2 * i + 1]]));
        for (pixel, grey) in row.chunks_exact(2 * samples).zip(grey) {
            *grey = if samples < 3 { value(pixel, 0) } else { colours.grey([0, 1, 2].map(|i| value(pixel, i))) };
        }
        return;
    }
    match samples {
        1 => grey.copy_from_slice(row),
        2 => row.chunks_exact(2).zip(grey).for_each(|(pixel, grey)| *grey = pixel[0]),
        _ => {
            for (pixel, grey) in row.chunks_exact(samples).zip(grey) {
                *grey = colours.grey([pixel[0], pixel[1], pixel[2]]);
            }
        }
    }
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
        super::decode("raw/images/a.png", bytes, MAX_PIXELS, 16).map(|(grey, ..)| grey)
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
            assert_eq!(Deep { white: u16::MAX, greatest: 0 }.grey(u16::from(value) * 257), value);
        }
    }

    /// A file in Adam7's seven passes; `bytes` of each pixel.
    fn interlaced(width: usize, height: usize, color: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let bytes = data.len() / width / height;
        let mut raw = Vec::new();
        for (x, y, across, down) in
            [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        {
            for y in (y..height).step_by(down).filter(|_| x < width) {
                raw.push(0);
                (x..width).step_by(across).for_each(|x| raw.extend(&data[(y * width + x) * bytes..][..bytes]));
            }
        }
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut zlib, &raw).unwrap();
        let [width, height] = [width as u32, height as u32].map(u32::to_be_bytes);
        let header = [&width[..], &height, &[depth as u8, color as u8, 0, 0, 1]].concat();
        let mut file = SIGNATURE.to_vec();
        for (kind, data) in [(b"IHDR", header), (b"IDAT", zlib.finish().unwrap()), (b"IEND", Vec::new())] {
            file.extend((data.len() as u32).to_be_bytes());
            let body = [&kind[..], &data].concat();
            file.extend(&body);
            file.extend(crc32(&body).to_be_bytes());
        }
        file
    }

    #[test]
    fn interlaced_files_are_the_same_images() {
        use png::BitDepth::{Eight, Sixteen};
        use png::ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
        for (color, depth) in
            [Grayscale, GrayscaleAlpha, Rgb, Rgba].into_iter().flat_map(|c| [(c, Eight), (c, Sixteen)])
        {
            for (width, height) in [(13, 11), (3, 9), (1, 1)] {
                let len = width * height * color.samples() * (depth as usize / 8);
                let data: Vec<u8> = (0..len).map(|i| (i * 37 % 251) as u8).collect();
                let plain = super::decode("a", &file(width as u32, height as u32, color, depth, &data), MAX_PIXELS, 16)
                    .unwrap();
                let passes =
                    super::decode("a", &interlaced(width, height, color, depth, &data), MAX_PIXELS, 16).unwrap();
                assert_eq!(plain.0, passes.0, "{color:?} {depth:?}");
                assert!((plain.1 - passes.1).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn values_of_12_bits_in_16_are_stretched_where_that_is_asked_for() {
        let values = [0_u16, 1000, 2048, 4095];
        let of = |values: &[u16], depth| {
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
            let bytes = file(values.len() as u32, 1, ColorType::Grayscale, BitDepth::Sixteen, &data);
            let (grey, _, bits) = super::decode("a", &bytes, MAX_PIXELS, depth).unwrap();
            (grey.pixels, bits)
        };
        assert_eq!(of(&values, 16), (vec![0, 4, 8, 16], Some(12)));
        assert_eq!(of(&values, 12), (vec![0, 62, 128, 255], Some(12)));
        assert_eq!(of(&values, 10), of(&values, 16));
        assert_eq!(of(&[0, 65535], 12), (vec![0, 255], Some(16)));
        let eight = file(2, 1, ColorType::Grayscale, BitDepth::Eight, &[1, 2]);
        assert_eq!(super::decode("a", &eight, MAX_PIXELS, 8).unwrap().2, None);
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
        let messages: Vec<String> = [&good[..2000], &good[..20], &[], &huge, &flipped]
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
    }

    /// CRC-32 as PNG has it, for a header whose size we falsify.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }
}
