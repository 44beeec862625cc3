use std::io::ErrorKind;
use std::path::PathBuf;

use crate::about::Format;
use crate::limits::{MAX_BYTES, MAX_SIDE};

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
    /// A pipe, a device or a folder: reading it would wait, or never end.
    #[error("{}: no regular file", path.display())]
    NotAFile {
        /// What it is not.
        path: PathBuf,
    },
    /// The file is empty.
    #[error("{name}: 0 bytes, expected a PNG, JPEG or DICOM file")]
    Empty {
        /// The file.
        name: String,
    },
    /// Its contents are none of the formats that are decoded.
    #[error("{name}: no PNG, JPEG or DICOM file: it begins with {start:?}")]
    Unknown {
        /// The file.
        name: String,
        /// Its first bytes.
        start: String,
    },
    /// It is damaged, or its parts do not fit together.
    #[error("{name}: not a readable {format} file: {problem}")]
    Damaged {
        /// The file.
        name: String,
        /// What its first bytes say it is.
        format: Format,
        /// What is wrong.
        problem: String,
    },
    /// A DICOM object that is no image.
    #[error("{name}: no pixels: the SOP class is {sop_class}")]
    NoPixels {
        /// The file.
        name: String,
        /// UID and, where it is known, the name of the SOP class.
        sop_class: String,
    },
    /// Pixels in a compression that is not decoded.
    #[error("{name}: the transfer syntax {transfer_syntax} is not decoded{}", detail.as_ref().map_or(String::new(), |detail| format!(": {detail}")))]
    TransferSyntax {
        /// The file.
        name: String,
        /// UID and, where it is known, the name of the transfer syntax.
        transfer_syntax: String,
        /// What of it is not decoded; nothing where it is all of it.
        detail: Option<String>,
    },
    /// A DICOM image whose pixels mean something that is not decoded.
    #[error("{name}: {problem}")]
    Pixels {
        /// The file.
        name: String,
        /// Attribute, value and what is expected.
        problem: String,
    },
    /// It claims more pixels than any radiograph has.
    #[error("{name}: claims {width} x {height} px, expected at most {MAX_SIDE} px a side and {most} px in all")]
    TooLarge {
        /// The file.
        name: String,
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// The most pixels.
        most: u64,
    },
    /// Decoding it would take more memory than there is for it.
    #[error("{name}: decoding it takes {} MB, expected at most {}", needed.div_ceil(1 << 20), most >> 20)]
    TooMuchMemory {
        /// The file.
        name: String,
        /// Bytes that [`crate::needs`] says.
        needed: u64,
        /// Bytes that there are for it.
        most: u64,
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

/// A size that an image may have, and memory may be taken for; it has at most `most` pixels.
pub(crate) fn checked_size(name: &str, width: u32, height: u32, most: u64) -> Result<(), Error> {
    if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > most {
        return Err(Error::TooLarge { name: name.to_owned(), width, height, most });
    }
    Ok(())
}

impl Error {
    /// Whether the file's contents are to blame, and not the disk or its permissions.
    pub fn is_corrupt(&self) -> bool {
        !matches!(self, Error::Read { .. })
    }

    /// Whether it is no image at all, and nothing is wrong with it: a document or a pipe among the images, a DICOM object
    /// without pixels.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Error::Unknown { .. } | Error::NoPixels { .. } | Error::NotAFile { .. })
    }

    /// Whose fault it is: the file is missing or holds bad data, or the machine refused.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Read { source, .. } if source.kind() == ErrorKind::NotFound => ErrorKind::NotFound,
            Error::Read { .. } => ErrorKind::Other,
            _ => ErrorKind::InvalidData,
        }
    }

    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::TransferSyntax { .. } => {
                "`gdcmconv --raw IN OUT` (GDCM) or `dcmconv`, `dcmdjpeg`, `dcmdjpls` (DCMTK) write it uncompressed"
            }
            Error::Pixels { .. } => "`dcm2img IN OUT.png` (DCMTK) or a DICOM viewer exports it as PNG",
            Error::NoPixels { .. } => "only images are read: leave it out, or find the image that it refers to",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
