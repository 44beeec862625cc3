//! JPEG (ISO/IEC 10918): files of it, and the frames of DICOM files.

use std::io::Cursor;

use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

use crate::about::Format;
use crate::colour::Colours;
use crate::error::{Error, checked_size};
use crate::grey::Grey;
use crate::limits::Demand;

/// The first bytes of every JPEG file.
pub(crate) const SIGNATURE: &[u8] = &[0xff, 0xd8, 0xff];

/// The most scans of a progressive file, each of which costs time for every pixel; encoders write about ten.
const MAX_SCANS: usize = 100;

/// Samples of a decoded JPEG.
#[derive(Debug)]
pub(crate) enum Samples {
    /// One of up to 16 bits a pixel.
    Grey(Vec<u16>),
    /// Three of 8 bits a pixel, as they are stored or as RGB.
    Three(Vec<u8>),
    /// CMYK, 8 bits each, 255 where there is most ink.
    Four(Vec<u8>),
}

/// Decodes a JPEG file; also says how colourful it is.
pub(crate) fn decode(name: &str, bytes: &[u8], most: u64) -> Result<(Grey, f32), Error> {
    let damaged = |problem| Error::Damaged { name: name.to_owned(), format: Format::Jpeg, problem };
    let (width, height) = size(bytes).map_err(damaged)?;
    checked_size(name, width, height, most)?;
    let samples = samples(bytes, None).map_err(damaged)?;
    let mut colours = Colours::default();
    let pixels: Vec<u8> = match samples {
        Samples::Grey(values) => {
            let bits = precision(bytes).map_err(damaged)?;
            let most = (1_u32 << bits) - 1;
            values.iter().map(|&value| ((u32::from(value) * 255 + most / 2) / most).min(255) as u8).collect()
        }
        Samples::Three(values) => {
            values.chunks_exact(3).map(|pixel| colours.grey([pixel[0], pixel[1], pixel[2]])).collect()
        }
        Samples::Four(values) => values.chunks_exact(4).map(|ink| colours.grey(rgb_of_cmyk(ink))).collect(),
    };
    Ok((Grey { width, height, pixels }, colours.mean()))
}

/// What decoding a file takes: of each component its coefficients, its samples, and those in their order, up to 16 bits each;
/// then a word and a grey value a pixel.
pub(crate) fn demand(bytes: &[u8]) -> Result<Demand, String> {
    let (width, height) = size(bytes)?;
    let components = u64::from(frame(bytes)?[5]);
    Ok(Demand { width, height, per_pixel: 6 * components.min(4) + 3, more: 0 })
}

fn rgb_of_cmyk(ink: &[u8]) -> [u8; 3] {
    let black = 255 - u32::from(ink[3]);
    [0, 1, 2].map(|i| (((255 - u32::from(ink[i])) * black + 127) / 255) as u8)
}

/// Decodes baseline, extended (8 bits), progressive and lossless JPEG; its size must have been checked. Three components
/// are RGB, unless `transform` says how they are stored.
pub(crate) fn samples(bytes: &[u8], transform: Option<ColorTransform>) -> Result<Samples, String> {
    let scans = segments(bytes).filter(|segment| segment.marker == 0xda).take(MAX_SCANS + 1).count();
    if scans > MAX_SCANS {
        return Err(format!("more than {MAX_SCANS} scans"));
    }
    guard::caught(|| {
        let mut decoder = Decoder::new(Cursor::new(bytes));
        if let Some(transform) = transform {
            decoder.set_color_transform(transform);
        }
        let data = decoder.decode().map_err(|error| error.to_string())?;
        let info = decoder.info().ok_or("no frame")?;
        let pixels = usize::from(info.width) * usize::from(info.height);
        let components = if info.pixel_format == PixelFormat::L16 { 1 } else { info.pixel_format.pixel_bytes() };
        match (components, data.len() / pixels.max(1)) {
            (1, 1) => Ok(Samples::Grey(data.into_iter().map(u16::from).collect())),
            (1, 2) => {
                Ok(Samples::Grey(data.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect()))
            }
            (3, 3) => Ok(Samples::Three(data)),
            (4, 4) => Ok(Samples::Four(data)),
            _ => Err(format!("{} bytes of {components} components, {pixels} pixels", data.len())),
        }
    })
}

/// Width and height, from the frame's header.
pub(crate) fn size(bytes: &[u8]) -> Result<(u32, u32), String> {
    match frame(bytes)? {
        [_, high, low, left, right, _] => {
            Ok((u32::from(u16::from_be_bytes([left, right])), u32::from(u16::from_be_bytes([high, low]))))
        }
    }
}

/// Bits a sample, 1 to 16, from the frame's header.
pub(crate) fn precision(bytes: &[u8]) -> Result<u32, String> {
    match frame(bytes)?[0] {
        bits @ 1..=16 => Ok(u32::from(bits)),
        bits => Err(format!("{bits} bits a sample, expected 1 to 16")),
    }
}

/// The beginning of the frame's header: bits a sample, height, width, components.
fn frame(bytes: &[u8]) -> Result<[u8; 6], String> {
    let is_frame = |marker| matches!(marker, 0xc0..=0xcf | 0xf7) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
    let frame = segments(bytes).find(|segment| is_frame(segment.marker)).ok_or("it ends before its size is known")?;
    frame.data.first_chunk().copied().ok_or_else(|| "a frame header without a size".to_owned())
}

/// A marker and what belongs to it.
#[derive(Debug)]
pub(crate) struct Segment<'a> {
    /// The second byte of the marker; the first is 0xff.
    pub(crate) marker: u8,
    /// Its parameters.
    pub(crate) data: &'a [u8],
    /// All bytes behind it: entropy-coded data, where it is a scan.
    pub(crate) rest: &'a [u8],
}

/// The marker segments of JPEG and JPEG-LS in their order, entropy-coded data left out; ends at the end of the image, or
/// where the bytes end.
pub(crate) fn segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            let marker = at + bytes.get(at..)?.windows(2).position(|pair| pair[0] == 0xff && pair[1] >= 0x80)?;
            at = marker + 1;
            match bytes[marker + 1] {
                // Fill bytes, restarts.
                0xff | 0xd0..=0xd8 => continue,
                0xd9 => return None,
                kind => {
                    let len = usize::from(u16::from_be_bytes(*bytes.get(marker + 2..)?.first_chunk()?));
                    let data = bytes.get(marker + 4..marker + 2 + len)?;
                    at = marker + 2 + len;
                    return Some(Segment { marker: kind, data, rest: &bytes[at..] });
                }
            }
        }
    })
}
