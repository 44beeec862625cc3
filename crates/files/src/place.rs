//! A path or a URL: each function asks the file system or the object store.

use std::io::Read;
use std::path::Path;

use crate::address::{self, Address, is_remote};
use crate::cloud;
use crate::error::Error;
use crate::object::{Object, Opened};

/// Checks a setting that names a file or a folder, before anything is opened.
///
/// # Errors
/// A URL that is none of an object store, or has a user, a password or a query; one of an object store in a program that
/// was built without.
pub fn check(text: &str) -> Result<(), Error> {
    address::check(text)?;
    Address::of(Path::new(text)).map_or(Ok(()), cloud::built)
}

/// Opens a file to be read once, from its beginning. A connection that breaks is made again, and goes on where it was.
///
/// # Errors
/// As [`guard::open`]; an object that is not there or not given out; no connection.
pub fn open(path: &Path) -> Result<Opened, Error> {
    if let Some(address) = Address::of(path) {
        return cloud::open(address);
    }
    let file = guard::open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Opened { contents: Box::new(file), bytes })
}

/// The contents of a file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; it has more bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    if !is_remote(path) {
        return Ok(guard::read(path, most)?);
    }
    let Opened { contents, bytes: size } = open(path)?;
    if size > most {
        return Err(Error::TooLarge { url: path.to_owned(), bytes: size, most });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    contents.take(most).read_to_end(&mut bytes).map_err(Error::from_reader)?;
    Ok(bytes)
}

/// As [`read`], and `None` where there is no such file.
///
/// # Errors
/// As [`read`].
pub fn read_if_there(path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
    match read(path, most) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Whether there is such a file.
///
/// # Errors
/// An object store that does not say.
pub fn is_file(path: &Path) -> Result<bool, Error> {
    Address::of(path).map_or_else(|| Ok(path.is_file()), cloud::is_file)
}

/// Whether there is such a folder; in an object store, whether anything lies below it.
///
/// # Errors
/// An object store that does not say.
pub fn is_folder(path: &Path) -> Result<bool, Error> {
    Address::of(path).map_or_else(|| Ok(path.is_dir()), cloud::is_folder)
}

/// The names of the files and folders in a folder, sorted; names that are no text are left out.
///
/// # Errors
/// A folder that cannot be read.
pub fn names(folder: &Path) -> Result<Vec<String>, Error> {
    if let Some(address) = Address::of(folder) {
        return cloud::names(address);
    }
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// All objects below a folder of an object store, by path. What is on this machine has none: a folder there is walked.
///
/// # Errors
/// As [`open`].
pub fn objects(folder: &Path) -> Result<Vec<Object>, Error> {
    Address::of(folder).map_or_else(|| Ok(Vec::new()), cloud::objects)
}

/// Writes a small object: it is there as a whole, or not at all.
///
/// # Errors
/// A path on this machine, which has better ways; an object store that does not take it.
pub fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    cloud::put(needed(path)?, bytes)
}

/// Copies files of this machine into an object store, several at a time, large ones in parts. Each is there as a whole,
/// or not at all.
///
/// # Errors
/// As [`put`]; a file that cannot be read.
pub fn upload(files: &[(&Path, &Path)]) -> Result<(), Error> {
    let addressed: Result<Vec<_>, Error> = files.iter().map(|(from, to)| Ok((*from, needed(to)?))).collect();
    cloud::upload(&addressed?)
}

fn needed(path: &Path) -> Result<Address<'_>, Error> {
    Address::of(path).ok_or_else(|| Error::Address {
        shown: path.display().to_string(),
        expected: "a URL of an object store: s3://, gs:// or az://",
    })
}
