//! DICOM: from a file to grey values and the attributes around them.

mod codestream;
mod frame;
mod grey;
mod layout;
mod rle;
mod set;
mod tag;
mod uid;

use std::borrow::Cow;
use std::io::Read;

use crate::about::{Dicom, Format};
use crate::colour::{Colours, rgb_of_ycbcr};
use crate::error::{Error, checked_size};
use crate::grey::Grey;
use crate::limits::{Demand, MAX_BYTES};
use frame::{Problem, Samples};
use layout::Layout;
use set::{DataSet, Encoding};
use uid::Coding;

/// Where a Part 10 file says that it is one, behind a preamble of anything.
const MAGIC: (usize, &[u8]) = (128, b"DICM");

/// Whether these are a DICOM file, or a data set without meta information.
pub(crate) fn recognise(bytes: &[u8]) -> bool {
    is_part_10(bytes) || bare(bytes).is_some()
}

fn is_part_10(bytes: &[u8]) -> bool {
    bytes.get(MAGIC.0..).is_some_and(|rest| rest.starts_with(MAGIC.1))
}

/// How a data set without meta information is written, by its first element, which must be one of group 8.
fn bare(bytes: &[u8]) -> Option<Encoding> {
    let Some(&[8, 0, element, 0, a, b, c, d]) = bytes.first_chunk() else {
        return None;
    };
    let len = u32::from_le_bytes([a, b, c, d]);
    match (element, set::is_vr([a, b])) {
        (0 | 1 | 5 | 8 | 0x12..=0x18, true) => Some(Encoding::EXPLICIT),
        (0 | 1 | 5 | 8 | 0x12..=0x18, false) if len <= 1024 => Some(Encoding::IMPLICIT),
        _ => None,
    }
}

/// Decodes the first frame of a DICOM file; also says how colourful it is.
pub(crate) fn decode(name: &str, bytes: &[u8], most: u64) -> Result<(Grey, f32, Dicom), Error> {
    let damaged = |problem| Error::Damaged { name: name.to_owned(), format: Format::Dicom, problem };
    let file = File::open(bytes).map_err(damaged)?;
    let (set, transfer_syntax) = file.data_set().map_err(damaged)?;
    let mut about = about(&set, &file.meta);
    about.transfer_syntax = uid::named(transfer_syntax);
    if set.get(tag::PIXEL_DATA).is_none() {
        let sop_class = if about.sop_class.is_empty() { "not said".to_owned() } else { about.sop_class };
        return Err(Error::NoPixels { name: name.to_owned(), sop_class });
    }
    let undecoded =
        |detail| Error::TransferSyntax { name: name.to_owned(), transfer_syntax: uid::named(transfer_syntax), detail };
    let coding = uid::coding(transfer_syntax).ok_or_else(|| undecoded(None))?;
    let layout = Layout::read(&set).map_err(damaged)?;
    checked_size(name, layout.width, layout.height, most)?;
    decodable(&layout, coding).map_err(|problem| Error::Pixels { name: name.to_owned(), problem })?;
    let samples = frame::first(&set, &layout, coding).map_err(|problem| match problem {
        Problem::Damaged(problem) => damaged(problem),
        Problem::Undecoded(detail) => undecoded(Some(detail)),
    })?;
    let mut colours = Colours::default();
    let pixels = match samples {
        Samples::Grey(words) => grey::pixels(&set, &layout, &words).map_err(damaged)?,
        Samples::Colour(values) => {
            let is_ycbcr = layout.photometric.starts_with("YBR_FULL");
            let rgb = |pixel| if is_ycbcr { rgb_of_ycbcr(pixel) } else { pixel };
            values.chunks_exact(3).map(|pixel| colours.grey(rgb([pixel[0], pixel[1], pixel[2]]))).collect()
        }
    };
    about.photometric = layout.photometric;
    about.frames = layout.frames;
    about.bits_stored = layout.stored;
    Ok((Grey { width: layout.width, height: layout.height, pixels }, colours.mean(), about))
}

/// What decoding a file takes. Deflated files are inflated, and nothing of them is kept: their pixels are no more than that.
pub(crate) fn demand(name: &str, bytes: &[u8]) -> Result<Demand, Error> {
    let damaged = |problem| Error::Damaged { name: name.to_owned(), format: Format::Dicom, problem };
    let (_, deflated) = File::parts(bytes).map_err(damaged)?;
    if let Some(deflated) = deflated {
        let inflated = std::io::copy(&mut inflater(deflated), &mut std::io::sink());
        let inflated = inflated.map_err(|error| damaged(format!("the deflated data set: {error}")))?;
        return Ok(Demand { width: 0, height: 0, per_pixel: 0, more: 5 * inflated });
    }
    let file = File::open(bytes).map_err(damaged)?;
    let (set, transfer_syntax) = file.data_set().map_err(damaged)?;
    let layout = Layout::read(&set).map_err(damaged)?;
    let (grey, samples) = (layout.samples == 1, u64::from(layout.samples.min(4)));
    // A word and a grey value a pixel; colour, its bytes in two orders.
    let samples_and_grey = if grey { 4 } else { 7 };
    let per_pixel = samples_and_grey
        + match uid::coding(transfer_syntax) {
            None | Some(Coding::Native | Coding::JpegLs) => 0,
            Some(Coding::Rle) => 6,
            Some(Coding::Jpeg) => 6 * samples,
            // Components, coefficients and two stages of the transform in f32, code-blocks of 16 px and more.
            Some(Coding::Jpeg2000) => 4 * (samples + 4) + codestream::RECORDS_PER_PIXEL * samples,
        };
    Ok(Demand { width: layout.width, height: layout.height, per_pixel, more: 0 })
}

/// Inflates a data set, at most a byte more than may be.
fn inflater(deflated: &[u8]) -> impl Read {
    flate2::read::DeflateDecoder::new(deflated).take(MAX_BYTES + 1)
}

/// A file's meta information, and the data set behind it.
struct File<'a> {
    meta: DataSet<'a>,
    transfer_syntax: Option<String>,
    body: Cow<'a, [u8]>,
}

impl<'a> File<'a> {
    /// Without the body; and the body, where it is deflated.
    fn parts(bytes: &'a [u8]) -> Result<(File<'a>, Option<&'a [u8]>), String> {
        let start = if is_part_10(bytes) { MAGIC.0 + MAGIC.1.len() } else { 0 };
        let (meta, body) = DataSet::read_meta(&bytes[start..])?;
        let transfer_syntax = meta.text(tag::TRANSFER_SYNTAX);
        let deflated = (transfer_syntax.as_deref() == Some(uid::DEFLATED)).then_some(body);
        Ok((File { meta, transfer_syntax, body: Cow::Borrowed(body) }, deflated))
    }

    fn open(bytes: &'a [u8]) -> Result<File<'a>, String> {
        let (mut file, deflated) = File::parts(bytes)?;
        if let Some(deflated) = deflated {
            let mut inflated = Vec::new();
            let done = inflater(deflated).read_to_end(&mut inflated);
            done.map_err(|error| format!("the deflated data set: {error}"))?;
            if inflated.len() as u64 > MAX_BYTES {
                return Err(format!("a data set that inflates to more than {MAX_BYTES} bytes"));
            }
            file.body = Cow::Owned(inflated);
        }
        Ok(file)
    }

    /// The data set and its transfer syntax, which is guessed where the file does not say it.
    fn data_set(&self) -> Result<(DataSet<'_>, &str), String> {
        let (encoding, transfer_syntax) = match self.transfer_syntax.as_deref() {
            Some(uid::IMPLICIT) => (Encoding::IMPLICIT, uid::IMPLICIT),
            Some(uid::BIG_ENDIAN) => (Encoding { explicit: true, big_endian: true }, uid::BIG_ENDIAN),
            Some(other) => (Encoding::EXPLICIT, other),
            None => match bare(&self.body) {
                Some(Encoding::IMPLICIT) => (Encoding::IMPLICIT, uid::IMPLICIT),
                Some(encoding) => (encoding, uid::EXPLICIT),
                None => return Err(format!("it has no {}", tag::name(tag::TRANSFER_SYNTAX))),
            },
        };
        Ok((DataSet::read(&self.body, encoding)?, transfer_syntax))
    }
}

/// The attributes that stand beside the pixels.
fn about(set: &DataSet<'_>, meta: &DataSet<'_>) -> Dicom {
    let sop_class = set.text(tag::SOP_CLASS).or_else(|| meta.text(tag::MEDIA_STORAGE_SOP_CLASS));
    Dicom {
        sop_class: sop_class.map(|uid| uid::named(&uid)).unwrap_or_default(),
        modality: set.text(tag::MODALITY),
        body_part: set.text(tag::BODY_PART),
        view_position: set.text(tag::VIEW_POSITION),
        presentation_intent: set.text(tag::PRESENTATION_INTENT),
        image_type: set.text(tag::IMAGE_TYPE),
        study_description: set.text(tag::STUDY_DESCRIPTION),
        series_description: set.text(tag::SERIES_DESCRIPTION),
        patient_id: set.text(tag::PATIENT_ID),
        patient_age: set.text(tag::PATIENT_AGE),
        patient_sex: set.text(tag::PATIENT_SEX),
        ..Dicom::default()
    }
}

/// Whether pixels of this layout become grey values.
fn decodable(layout: &Layout, coding: Coding) -> Result<(), String> {
    let Layout { samples, allocated, photometric, .. } = layout;
    let photometric = photometric.as_str();
    let is_grey = matches!(photometric, "MONOCHROME1" | "MONOCHROME2");
    let is_colour = match coding {
        Coding::Native | Coding::Rle => matches!(photometric, "RGB" | "YBR_FULL"),
        Coding::Jpeg | Coding::JpegLs => matches!(photometric, "RGB" | "YBR_FULL" | "YBR_FULL_422"),
        Coding::Jpeg2000 => matches!(photometric, "RGB" | "YBR_FULL" | "YBR_ICT" | "YBR_RCT"),
    };
    if !is_grey && !is_colour {
        let name = tag::name(tag::PHOTOMETRIC);
        return Err(format!("{name} is {photometric}, expected MONOCHROME1, MONOCHROME2, RGB or YBR_FULL"));
    }
    if *samples != if is_grey { 1 } else { 3 } {
        return Err(format!("{} is {samples}, which {photometric} has not", tag::name(tag::SAMPLES_PER_PIXEL)));
    }
    match (is_grey, *allocated) {
        (_, 8) | (true, 16) => Ok(()),
        _ => Err(format!("{} is {allocated}, expected 8, or 16 where it is grey", tag::name(tag::BITS_ALLOCATED))),
    }
}
