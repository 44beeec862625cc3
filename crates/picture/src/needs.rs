//! How much memory an image takes, told by its header.

use crate::about::Format;
use crate::error::{Error, checked_size};
use crate::limits::MAX_PIXELS;
use crate::radiograph::format;
use crate::{dicom, jpeg, png};

/// Tables, windows of inflaters, and what does not depend on the image.
const SMALL: u64 = 1 << 20;

/// The most bytes of memory that decoding this file takes at once, the file itself left out, and its grey values, one byte a
/// pixel, included. Making a square of them ([`crate::Grey::square`], of up to 2048 px) takes no more than that again.
///
/// Only what stands before the pixels is read; what the sizes there claim is checked as in [`crate::Radiograph::decode`].
///
/// # Errors
/// [`Error`], with `name`: it is no image, claims too many pixels, or its header is damaged.
pub fn needs(name: &str, bytes: &[u8]) -> Result<u64, Error> {
    let demand = match format(name, bytes)? {
        Format::Png => png::demand(name, bytes)?,
        Format::Jpeg => {
            let damaged = |problem| Error::Damaged { name: name.to_owned(), format: Format::Jpeg, problem };
            jpeg::demand(bytes).map_err(damaged)?
        }
        Format::Dicom => dicom::demand(name, bytes)?,
    };
    checked_size(name, demand.width, demand.height, MAX_PIXELS)?;
    // Decoders work on blocks of up to 32 x 32 px.
    let [width, height] = [demand.width, demand.height].map(|side| u64::from(side).next_multiple_of(32));
    Ok(width * height * demand.per_pixel + demand.more + bytes.len() as u64 + SMALL)
}
