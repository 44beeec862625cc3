//! The samples of the first frame, whatever they are coded in.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};
use jpeg_decoder::ColorTransform;

use crate::dicom::codestream;
use crate::dicom::layout::Layout;
use crate::dicom::rle;
use crate::dicom::set::{DataSet, Value};
use crate::dicom::tag;
use crate::dicom::uid::Coding;
use crate::{jpeg, jpegls};

/// Samples as they are stored, row by row.
#[derive(Debug)]
pub(crate) enum Samples {
    /// One a pixel; bits beyond Bits Stored may have any value.
    Grey(Vec<u16>),
    /// Three bytes a pixel.
    Colour(Vec<u8>),
}

/// Why there are no samples.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The file is damaged.
    Damaged(String),
    /// It uses what is not decoded.
    Undecoded(String),
}

impl From<String> for Problem {
    fn from(problem: String) -> Problem {
        Problem::Damaged(problem)
    }
}

/// Decodes the first frame, of a checked size.
pub(crate) fn first(set: &DataSet<'_>, layout: &Layout, coding: Coding) -> Result<Samples, Problem> {
    match (&set.get(tag::PIXEL_DATA).map(|element| &element.value), coding) {
        (Some(Value::Bytes(_)), Coding::Native) => Ok(native(set, layout)?),
        (Some(Value::Fragments(fragments)), Coding::Rle) => {
            Ok(run_lengths(&frame_of(set, fragments, layout)?, layout)?)
        }
        (Some(Value::Fragments(fragments)), Coding::Jpeg) => jpeg(&frame_of(set, fragments, layout)?, layout),
        (Some(Value::Fragments(fragments)), Coding::JpegLs) => jpeg_ls(&frame_of(set, fragments, layout)?, layout),
        (Some(Value::Fragments(fragments)), Coding::Jpeg2000) => jpeg_2000(&frame_of(set, fragments, layout)?, layout),
        _ => Err(Problem::Damaged(format!("{} is not what the transfer syntax says", tag::name(tag::PIXEL_DATA)))),
    }
}

/// The bytes of the first frame: what lies before the second, or all.
fn frame_of(set: &DataSet<'_>, fragments: &[&[u8]], layout: &Layout) -> Result<Vec<u8>, String> {
    let [offsets, fragments @ ..] = fragments else {
        return Err("no fragments".to_owned());
    };
    let second = offsets.chunks_exact(4).nth(1).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let one_each = fragments.len() == layout.frames as usize || set.get(tag::EXTENDED_OFFSETS).is_some();
    let count = match second {
        _ if layout.frames == 1 => fragments.len(),
        _ if one_each => 1,
        // An offset counts the 8 bytes before each fragment.
        Some(second) => {
            let starts = fragments.iter().scan(0_usize, |start, fragment| {
                let this = *start;
                *start += 8 + fragment.len();
                Some(this)
            });
            starts.take_while(|&start| start < second as usize).count()
        }
        None => return Err(format!("{} fragments of {} frames, without offsets", fragments.len(), layout.frames)),
    };
    Ok(fragments[..count].concat())
}

fn native(set: &DataSet<'_>, layout: &Layout) -> Result<Samples, String> {
    let bytes = set.bytes(tag::PIXEL_DATA).unwrap_or_default();
    let expected = layout.bytes() as u64 * u64::from(layout.frames);
    if (bytes.len() as u64) < expected {
        return Err(format!("{} bytes of pixels, expected {expected}", bytes.len()));
    }
    let big_endian = set.encoding.big_endian;
    let bytes = &bytes[..layout.bytes()];
    if layout.allocated == 16 {
        let word = if big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        return Ok(Samples::Grey(bytes.chunks_exact(2).map(|pair| word([pair[0], pair[1]])).collect()));
    }
    // Bytes in words of two, the second first.
    let is_words = set.get(tag::PIXEL_DATA).is_some_and(|element| element.vr == Some(*b"OW"));
    let bytes: Vec<u8> = if big_endian && is_words {
        let all = set.bytes(tag::PIXEL_DATA).unwrap_or_default();
        let swapped = (0..bytes.len()).map(|i| all.get(i ^ 1).copied().unwrap_or_default());
        swapped.collect()
    } else {
        bytes.to_vec()
    };
    if layout.samples == 1 {
        return Ok(Samples::Grey(bytes.into_iter().map(u16::from).collect()));
    }
    Ok(Samples::Colour(if layout.planar { interleaved(&bytes, layout.pixels()) } else { bytes }))
}

/// From planes to pixels.
fn interleaved(planes: &[u8], pixels: usize) -> Vec<u8> {
    (0..pixels).flat_map(|i| [planes[i], planes[pixels + i], planes[2 * pixels + i]]).collect()
}

fn run_lengths(frame: &[u8], layout: &Layout) -> Result<Samples, String> {
    let planes = (layout.samples * layout.allocated / 8) as usize;
    let planes = rle::decode(frame, planes, layout.pixels())?;
    Ok(match planes.as_slice() {
        [values] => Samples::Grey(values.iter().map(|&value| u16::from(value)).collect()),
        [high, low] => {
            Samples::Grey(high.iter().zip(low).map(|(&high, &low)| u16::from_be_bytes([high, low])).collect())
        }
        planes => Samples::Colour(interleaved(&planes.concat(), layout.pixels())),
    })
}

/// The size that the coded frame says must be the header's.
fn same_size((width, height): (u32, u32), layout: &Layout) -> Result<(), String> {
    if (width, height) != (layout.width, layout.height) {
        return Err(format!("the frame has {width} x {height} px, the header {} x {}", layout.width, layout.height));
    }
    Ok(())
}

fn jpeg(frame: &[u8], layout: &Layout) -> Result<Samples, Problem> {
    same_size(jpeg::size(frame)?, layout)?;
    let bits = jpeg::precision(frame)?;
    let is_lossless = jpeg::segments(frame).any(|segment| segment.marker == 0xc3);
    if bits > 8 && !is_lossless {
        return Err(Problem::Undecoded(format!("{bits} bits a sample, expected 8 where it is lossy")));
    }
    match (jpeg::samples(frame, Some(ColorTransform::RGB))?, layout.samples) {
        (jpeg::Samples::Grey(values), 1) => Ok(Samples::Grey(values)),
        (jpeg::Samples::Three(values), 3) => Ok(Samples::Colour(values)),
        _ => Err(Problem::Damaged(format!("the frame has not the {} samples a pixel of the header", layout.samples))),
    }
}

fn jpeg_ls(frame: &[u8], layout: &Layout) -> Result<Samples, Problem> {
    if layout.samples != 1 {
        return Err(Problem::Undecoded("colour".to_owned()));
    }
    let image = jpegls::Header::read(frame)?;
    same_size((image.width, image.height), layout)?;
    Ok(Samples::Grey(image.decode()?))
}

fn jpeg_2000(frame: &[u8], layout: &Layout) -> Result<Samples, Problem> {
    codestream::check(frame, layout.samples as usize)?;
    let values = guard::caught(|| {
        let settings = DecodeSettings { strict: true, ..Default::default() };
        let image = Image::new(frame, &settings).map_err(|error| error.to_string())?;
        same_size((image.width(), image.height()), layout)?;
        let mut context = DecoderContext::default();
        let decoded = image.decode(&mut context).map_err(|error| error.to_string())?;
        let components = decoded.components();
        let whole = components.iter().all(|component| component.samples().len() == layout.pixels());
        if components.len() != layout.samples as usize || !whole {
            return Err(format!("the frame has not the {} samples a pixel of the header", layout.samples));
        }
        // Negative values become two's complement, as they are uncompressed.
        let shift = sign_shift(frame);
        let word = |value: &f32| (value.round() - shift).clamp(-32_768.0, 65_535.0) as i32 as u16;
        Ok(match components {
            [values] => Samples::Grey(values.samples().iter().map(word).collect()),
            components => {
                let byte = |value: f32| value.round() as u8;
                let pixel = |i: usize| components.iter().map(move |component| byte(component.samples()[i]));
                Samples::Colour((0..layout.pixels()).flat_map(pixel).collect())
            }
        })
    });
    Ok(values?)
}

/// What the decoder adds to signed samples, which it takes for unsigned ones: half their range.
fn sign_shift(frame: &[u8]) -> f32 {
    // Start of codestream, then 38 bytes of SIZ up to Ssiz, whose highest bit is the sign (ISO/IEC 15444-1, A.5.1).
    let start = frame.windows(4).position(|four| four == [0xff, 0x4f, 0xff, 0x51]);
    match start.and_then(|start| frame.get(start + 42)) {
        Some(&ssiz) if ssiz & 0x80 != 0 => (1_u64 << (ssiz & 0x7f)) as f32,
        _ => 0.0,
    }
}
