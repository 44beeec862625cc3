//! Opens what a user, a table or a manifest names.

use std::fs::FileType;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

use fs_err::File;

/// Opens a regular file, or a link to one, to be read.
///
/// # Errors
/// It is anything else ([`ErrorKind::InvalidInput`]); the file system refuses. Both name the path.
pub fn open(path: &Path) -> Result<File> {
    // Asked before it is opened: opening a pipe waits for its other end.
    if let Ok(about) = fs_err::metadata(path) {
        regular(path, about.file_type())?;
    }
    let file = File::open(path)?;
    // Asked again, because it may have become another in between.
    regular(path, file.metadata()?.file_type())?;
    Ok(file)
}

/// The contents of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; it has more bytes ([`ErrorKind::InvalidData`]).
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let size = file.metadata()?.len();
    let too_large = |size: u64| {
        let text = format!("{}: {size} bytes, expected at most {most}", path.display());
        Err(Error::new(ErrorKind::InvalidData, text))
    };
    if size > most {
        return too_large(size);
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return too_large(bytes.len() as u64);
    }
    Ok(bytes)
}

/// As [`read`], of UTF-8 text.
///
/// # Errors
/// As [`read`]; it is not UTF-8 ([`ErrorKind::InvalidData`]).
pub fn read_to_string(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(ErrorKind::InvalidData, format!("{}: not UTF-8 text, from byte {at} on", path.display()))
    })
}

fn regular(path: &Path, kind: FileType) -> Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    let what = what(kind);
    Err(Error::new(ErrorKind::InvalidInput, format!("{}: {what}, expected a regular file", path.display())))
}

#[cfg(unix)]
fn what(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match kind {
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a named pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn what(kind: FileType) -> &'static str {
    if kind.is_dir() { "a folder" } else { "no file" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs_err::write(at("text"), "abc").unwrap();
        fs_err::write(at("bytes"), b"a\xff").unwrap();
        fs_err::os::unix::fs::symlink(at("text"), at("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read(&at("link"), 3).unwrap(), b"abc");
        assert_eq!(read_to_string(&at("text"), 9).unwrap(), "abc");
        let said = |error: Error| error.to_string().replace(&folder.path().display().to_string(), "FOLDER");
        for (path, message) in [
            (at("pipe"), "FOLDER/pipe: a named pipe, expected a regular file"),
            (at("socket"), "FOLDER/socket: a socket, expected a regular file"),
            (at(""), "FOLDER/: a folder, expected a regular file"),
            ("/dev/zero".into(), "/dev/zero: a device, expected a regular file"),
        ] {
            let error = open(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(said(error), message);
        }
        assert_eq!(said(read(&at("text"), 2).unwrap_err()), "FOLDER/text: 3 bytes, expected at most 2");
        assert_eq!(said(read_to_string(&at("bytes"), 9).unwrap_err()), "FOLDER/bytes: not UTF-8 text, from byte 1 on");
        let absent = open(&at("absent")).unwrap_err();
        assert!(absent.kind() == ErrorKind::NotFound && absent.to_string().contains("absent"));
    }
}
