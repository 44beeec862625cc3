use std::io::ErrorKind;
use std::path::PathBuf;

use crate::limits::{MAX_BYTES, MAX_PIXELS, MAX_SIDE};

/// An image that cannot be used. `name` is the path or the image's id.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read at all.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is empty.
    #[error("{name}: 0 bytes, expected a PNG file")]
    Empty {
        /// The file.
        name: String,
    },
    /// It is damaged, or no PNG file.
    #[error("{name}: not a readable PNG file: {source}")]
    Png {
        /// The file.
        name: String,
        /// Why.
        source: png::DecodingError,
    },
    /// Its parts do not fit together.
    #[error("{name}: not a readable PNG file: {problem}")]
    Malformed {
        /// The file.
        name: String,
        /// What does not fit.
        problem: String,
    },
    /// It claims more pixels than any radiograph has.
    #[error(
        "{name}: claims {width} x {height} px, expected at most {MAX_SIDE} px a side and {MAX_PIXELS} px in all, or half of these at 8 bytes a pixel"
    )]
    TooLarge {
        /// The file.
        name: String,
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
    },
    /// The file is larger than the largest image that is decoded.
    #[error("{}: {bytes} bytes, expected at most {MAX_BYTES}", path.display())]
    TooManyBytes {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// An image of a table that is not what its stage stores.
    #[error("{name}: expected a square 8-bit grey PNG, got {got}")]
    NotStored {
        /// The image.
        name: String,
        /// What it is.
        got: String,
    },
}

impl Error {
    /// Whether the file's contents are to blame, and not the disk or its permissions.
    pub fn is_corrupt(&self) -> bool {
        !matches!(self, Error::Read { .. })
    }

    /// Whose fault it is: the file is missing or holds bad data, or the machine refused.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Read { source, .. } if source.kind() == ErrorKind::NotFound => ErrorKind::NotFound,
            Error::Read { .. } => ErrorKind::Other,
            _ => ErrorKind::InvalidData,
        }
    }
}
