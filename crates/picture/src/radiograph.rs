//! From a file to a radiograph.

use std::io::Read;
use std::path::Path;

use crate::about::{About, Format};
use crate::error::Error;
use crate::grey::Grey;
use crate::limits::{MAX_BYTES, MAX_PIXELS};
use crate::{dicom, jpeg, png};

/// A radiograph's file, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Radiograph {
    /// Its grey values: more is brighter, bone is bright.
    pub image: Grey,
    /// What else the file says.
    pub about: About,
}

/// An image's file, open.
#[derive(Debug)]
pub struct Opened {
    /// The file, from its beginning.
    pub file: std::fs::File,
    /// Its size, at most [`MAX_BYTES`].
    pub bytes: u64,
}

/// Opens an image's file, for [`read`] or for reading it in parts.
///
/// # Errors
/// The file cannot be opened, is no regular file, or has more than [`MAX_BYTES`].
pub fn open(path: &Path) -> Result<Opened, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    // Asked before it is opened: opening a pipe waits for its other end.
    #[expect(clippy::disallowed_methods, reason = "the error names the path")]
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    #[expect(clippy::disallowed_methods, reason = "the error names the path")]
    let file = std::fs::File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > MAX_BYTES {
        return Err(Error::TooManyBytes { path: path.to_owned(), bytes });
    }
    Ok(Opened { file, bytes })
}

/// The bytes of an image's file, for [`Radiograph::decode`].
///
/// # Errors
/// As [`open`]; the file cannot be read, or grows beyond [`MAX_BYTES`].
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let Opened { file, bytes: size } = open(path)?;
    let mut bytes = Vec::with_capacity(size as usize);
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooManyBytes { path: path.to_owned(), bytes: bytes.len() as u64 });
    }
    Ok(bytes)
}

impl Radiograph {
    /// Reads a file; see [`Radiograph::decode`].
    ///
    /// # Errors
    /// [`Error`], with the path.
    pub fn read(path: &Path) -> Result<Radiograph, Error> {
        Radiograph::decode(&path.display().to_string(), &read(path)?)
    }

    /// Decodes a PNG, JPEG or DICOM file, which its first bytes tell apart; `name` is for messages only.
    ///
    /// Colour becomes ITU-R 601 luma, as in Pillow, so that grey stored as colour stays as it is. Alpha is ignored. Of a PNG,
    /// 16-bit values are divided by 257 and rounded; 1, 2 and 4 bits are stretched to 0..255.
    ///
    /// Of DICOM the first frame is taken: stored values → modality LUT, or slope and intercept → the first VOI LUT or
    /// window → 0..255 → inverted where it is MONOCHROME1 → pixel padding becomes black. Without a VOI LUT and window,
    /// unsigned 8-bit values stay as they are; others are scaled from the least and the greatest value that occurs,
    /// padding aside, to 0..255.
    ///
    /// # Errors
    /// [`Error`], with the name.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Radiograph, Error> {
        Radiograph::decode_within(name, bytes, MAX_PIXELS)
    }

    /// As [`Radiograph::decode`], but that a 16-bit PNG whose values all fit into `depth` bits is stretched from those to
    /// 0..255: a detector's 12 bits that were stored without scaling are nearly black otherwise. 16 stretches nothing.
    ///
    /// # Errors
    /// [`Error`], with the name.
    pub fn decode_deep(name: &str, bytes: &[u8], depth: u32) -> Result<Radiograph, Error> {
        Radiograph::decode_as(name, bytes, MAX_PIXELS, depth)
    }

    /// As [`Radiograph::decode`], of at most `most` pixels, which are no more than [`MAX_PIXELS`].
    ///
    /// # Errors
    /// [`Error`], with the name.
    pub fn decode_within(name: &str, bytes: &[u8], most: u64) -> Result<Radiograph, Error> {
        Radiograph::decode_as(name, bytes, most.min(MAX_PIXELS), u16::BITS)
    }

    fn decode_as(name: &str, bytes: &[u8], most: u64, depth: u32) -> Result<Radiograph, Error> {
        let format = format(name, bytes)?;
        let mut about = About { format, colour: 0.0, bits: None, dicom: None };
        let image;
        match format {
            Format::Png => (image, about.colour, about.bits) = png::decode(name, bytes, most, depth)?,
            Format::Jpeg => (image, about.colour) = jpeg::decode(name, bytes, most)?,
            Format::Dicom => {
                let (grey, colour, dicom) = dicom::decode(name, bytes, most)?;
                (image, about.colour, about.dicom) = (grey, colour, Some(dicom));
            }
        }
        Ok(Radiograph { image, about })
    }
}

/// What a file is, by its contents.
pub(crate) fn format(name: &str, bytes: &[u8]) -> Result<Format, Error> {
    match bytes {
        [] => Err(Error::Empty { name: name.to_owned() }),
        _ if bytes.starts_with(png::SIGNATURE) => Ok(Format::Png),
        _ if bytes.starts_with(jpeg::SIGNATURE) => Ok(Format::Jpeg),
        _ if dicom::recognise(bytes) => Ok(Format::Dicom),
        _ => {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).into_owned();
            Err(Error::Unknown { name: name.to_owned(), start })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_contents_are() {
        let grey = Grey { width: 2, height: 1, pixels: vec![3, 200] };
        let decoded = Radiograph::decode("a.dcm", &grey.encode()).unwrap();
        assert_eq!(decoded.image, grey);
        assert_eq!(decoded.image.levels(), 2);
        assert_eq!(decoded.about, About { format: Format::Png, colour: 0.0, bits: None, dicom: None });
        let rgb = crate::encode_rgb(&[10, 10, 10, 255, 0, 55], 2, 1);
        assert_eq!(Radiograph::decode("a", &rgb).unwrap().about.colour, 255.0 / 2.0);
        for (bytes, message) in [
            (&b"Not Found\n"[..], "a: no PNG, JPEG or DICOM file: it begins with \"Not Found\\n\""),
            (b"", "a: 0 bytes, expected a PNG, JPEG or DICOM file"),
        ] {
            let error = Radiograph::decode("a", bytes).unwrap_err();
            assert!(error.is_corrupt());
            assert_eq!(error.to_string(), message);
        }
        let absent = Radiograph::read(Path::new("no/such.png")).unwrap_err();
        assert!(!absent.is_corrupt() && absent.to_string().contains("no/such.png"));
        assert_eq!(Radiograph::read(Path::new("/dev/zero")).unwrap_err().to_string(), "/dev/zero: no regular file");
    }
}
