//! The dataset's text files, hashed as they are read.

use std::path::{Path, PathBuf};

use crate::{Error, nih};

/// The most bytes of a table or a list; NIH's have 8 MB.
const MAX_TEXT: u64 = 1 << 30;

/// Text files of the folder, hashed as they are read.
pub struct Texts<'a> {
    root: &'a Path,
    /// The folder of the label table, where its lists may lie too.
    beside: Option<PathBuf>,
    hashes: Vec<(String, blake3::Hash)>,
}

impl<'a> Texts<'a> {
    /// Of the folder `root`.
    pub fn new(root: &'a Path) -> Self {
        Texts { root, beside: None, hashes: Vec::new() }
    }

    /// From now on texts are looked for beside this one, too.
    pub fn look_beside(&mut self, table: &Path) {
        self.beside = table.parent().map(Path::to_owned);
    }

    /// File name and BLAKE3 of each file that was read, in the order of reading.
    pub fn into_hashes(self) -> Vec<(String, blake3::Hash)> {
        self.hashes
    }

    /// A file named by the setting `key`: in the root, or else from the current folder, or else beside the label table.
    pub fn named(&mut self, key: &'static str, name: &str) -> Result<(PathBuf, Vec<u8>), Error> {
        let here = Some(Path::new(""));
        let folders = [Some(self.root), here, self.beside.as_deref()];
        let path = first_existing(folders.into_iter().flatten().map(|folder| folder.join(name)))?;
        match path {
            Some(path) => self.load(path),
            None => Err(Error::NoFile { path: self.root.join(name), key, others: self.others() }),
        }
    }

    /// The first of these that lies in the root, or else beside the label table.
    pub fn first(&mut self, names: &[&str]) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
        let folders = [Some(self.root), self.beside.as_deref()];
        let paths = folders.into_iter().flatten().flat_map(|folder| names.iter().map(|name| folder.join(name)));
        first_existing(paths)?.map(|path| self.load(path)).transpose()
    }

    /// A list of images, named by the setting `key`, or else by its usual name.
    pub fn list(&mut self, key: &'static str, name: &str, usual: &str) -> Result<nih::Listed, Error> {
        let (path, bytes) = self.named(key, if name.is_empty() { usual } else { name })?;
        nih::list(&path, &bytes)
    }

    /// Names of other texts in the folders that were looked in.
    fn others(&self) -> Vec<String> {
        let folders = [Some(self.root), self.beside.as_deref()].into_iter().flatten();
        let names = folders.filter_map(|folder| files::names(folder).ok()).flatten();
        let mut names: Vec<String> = names.filter(|name| name.to_ascii_lowercase().ends_with(".txt")).collect();
        names.sort();
        names.dedup();
        names.truncate(5);
        names
    }

    fn load(&mut self, path: PathBuf) -> Result<(PathBuf, Vec<u8>), Error> {
        let bytes = files::read(&path, MAX_TEXT)?;
        self.hashes.push((file_name(&path), blake3::hash(&bytes)));
        Ok((path, bytes))
    }
}

/// The first of these that is a file, as it is or compressed.
fn first_existing(paths: impl IntoIterator<Item = PathBuf>) -> Result<Option<PathBuf>, Error> {
    for path in paths {
        let mut packed = path.as_os_str().to_owned();
        packed.push(".gz");
        for path in [path, PathBuf::from(packed)] {
            if files::is_file(&path)? {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// BLAKE3 of some bytes, 64 hex digits.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The last part of a path.
pub fn file_name(path: impl AsRef<Path>) -> String {
    path.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned()
}
