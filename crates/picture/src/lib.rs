//! The one image codec: from a radiograph's file, PNG, JPEG or DICOM, to a grey image, from there to a small square one, and
//! back to a PNG file.
//!
//! Grey values are 0 to 255, rows top to bottom, no padding. Files are not trusted: sizes are bounded before memory is
//! taken, and a damaged file is an error, never a panic or a half-grey image.

mod about;
mod colour;
mod dicom;
mod encode;
mod error;
mod grey;
mod jpeg;
mod jpegls;
mod limits;
mod needs;
pub mod overlay;
mod png;
mod radiograph;

pub use about::{About, Dicom, Format};
pub use encode::{encode_rgb, encode_rgba};
pub use error::Error;
pub use grey::Grey;
pub use limits::{MAX_BYTES, MAX_PIXELS, MAX_SIDE};
pub use needs::needs;
pub use radiograph::{Opened, Radiograph, open, read};
