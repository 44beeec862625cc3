//! The one PNG codec: from any PNG file to a grey image, from there to a small square one, and back to a file.
//!
//! Grey values are 0 to 255, rows top to bottom, no padding. Files are not trusted: sizes are bounded before memory is
//! taken, and a damaged file is an error, never a panic or a half-grey image.

mod decode;
mod encode;
mod error;
mod grey;
mod limits;
pub mod overlay;

pub use decode::read;
pub use encode::{encode_rgb, encode_rgba};
pub use error::Error;
pub use grey::Grey;
pub use limits::{MAX_BYTES, MAX_PIXELS, MAX_SIDE};
