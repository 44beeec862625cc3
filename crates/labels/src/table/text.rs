//! Text in whatever encoding a spreadsheet wrote it.

use std::io::Read;
use std::path::Path;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::error::Error;

/// What a file begins with that stands in the place of a text and is none.
const STRANGERS: [(&str, &str); 4] = [
    ("version https://git-lfs", "a Git LFS pointer and not the file itself: `git lfs pull` fetches it"),
    ("<!doctype", "a web page and not a text file: the download failed"),
    ("<html", "a web page and not a text file: the download failed"),
    ("PK\u{3}\u{4}", "a ZIP or Excel file: unpack it, or save the table as CSV"),
];

/// The text with line ends `\n` and without a byte order mark.
///
/// UTF-8; UTF-16 with a byte order mark or recognised by its zero bytes; else Windows-1252, which every byte is a
/// character of. A gzip file is unpacked first.
///
/// # Errors
/// No whole gzip file, or one that becomes more than `most` bytes; what is no text.
pub fn decode(path: &Path, bytes: &[u8], most: u64) -> Result<String, Error> {
    let unpacked;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        unpacked = unpack(path, bytes, most)?;
        &unpacked
    } else {
        bytes
    };
    let text = match Encoding::for_bom(bytes) {
        Some((encoding, mark)) => encoding.decode_without_bom_handling(&bytes[mark..]).0,
        None => encoding(bytes).decode_without_bom_handling(bytes).0,
    };
    let start: String = text.chars().take(40).collect::<String>().to_ascii_lowercase();
    let stranger = STRANGERS.iter().find(|(begin, _)| start.starts_with(&begin.to_ascii_lowercase()));
    if let Some((_, problem)) = stranger {
        return Err(Error::Unreadable { path: path.to_owned(), problem: (*problem).to_owned() });
    }
    Ok(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.into_owned() })
}

fn unpack(path: &Path, bytes: &[u8], most: u64) -> Result<Vec<u8>, Error> {
    let unreadable = |problem: String| Error::Unreadable { path: path.to_owned(), problem };
    let mut text = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(bytes).take(most + 1);
    reader.read_to_end(&mut text).map_err(|error| unreadable(format!("not a whole gzip file ({error})")))?;
    if text.len() as u64 > most {
        return Err(unreadable(format!("more than {most} bytes when unpacked")));
    }
    Ok(text)
}

/// The encoding of bytes without a byte order mark.
fn encoding(bytes: &[u8]) -> &'static Encoding {
    match bytes {
        [0, other, ..] if *other != 0 => UTF_16BE,
        [other, 0, ..] if *other != 0 => UTF_16LE,
        _ if std::str::from_utf8(bytes).is_ok() => encoding_rs::UTF_8,
        _ => WINDOWS_1252,
    }
}
