//! The dataset's text files, hashed as they are read.

use std::path::{Path, PathBuf};

use crate::{Error, nih};

/// The most bytes of a table or a list; NIH's have 8 MB.
const MAX_TEXT: u64 = 1 << 30;

/// Text files of the folder, hashed as they are read.
pub(crate) struct Texts<'a> {
    root: &'a Path,
    hashes: Vec<(String, blake3::Hash)>,
}

impl<'a> Texts<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Texts { root, hashes: Vec::new() }
    }

    /// File name and BLAKE3 of each file that was read, in the order of reading.
    pub(crate) fn into_hashes(self) -> Vec<(String, blake3::Hash)> {
        self.hashes
    }

    /// A file named by the configuration: in the root, or else from the current folder.
    pub(crate) fn named(&mut self, name: &str) -> Result<(PathBuf, Vec<u8>), Error> {
        let inside = self.root.join(name);
        let path = if inside.is_file() { inside } else { PathBuf::from(name) };
        if !path.is_file() {
            return Err(Error::NoFile { path: self.root.join(name) });
        }
        self.load(path)
    }

    /// The first of these that the root has.
    pub(crate) fn first(&mut self, names: &[&str]) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
        let path = names.iter().map(|name| self.root.join(name)).find(|path| path.is_file());
        path.map(|path| self.load(path)).transpose()
    }

    /// A list of images, named by the configuration.
    pub(crate) fn list(&mut self, name: &str) -> Result<nih::Listed, Error> {
        let (path, bytes) = self.named(name)?;
        Ok(nih::list(&path, &bytes)?)
    }

    fn load(&mut self, path: PathBuf) -> Result<(PathBuf, Vec<u8>), Error> {
        let bytes = guard::read(&path, MAX_TEXT)?;
        self.hashes.push((file_name(&path), blake3::hash(&bytes)));
        Ok((path, bytes))
    }
}

/// The last part of a path.
pub(crate) fn file_name(path: impl AsRef<Path>) -> String {
    path.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned()
}
