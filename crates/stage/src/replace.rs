//! Files that are whole or not there, whoever else writes them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

/// A hidden name that no other process has, on whatever machine: process numbers repeat between machines, and every
/// container's first process is number 1.
pub(crate) fn own_name(name: &str) -> String {
    let random = RandomState::new().build_hasher().finish();
    format!(".{name}.{random:016x}")
}

/// Writes a file of a folder, which is made where it is missing. `write` gets another path in it; the file then takes its
/// name in one rename, so that who reads it, or writes the same at the same time on whatever machine, meets a whole file.
///
/// # Errors
/// What `write` returns; the disk.
pub fn replace<E: From<std::io::Error>>(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    fs_err::create_dir_all(folder)?;
    let part = folder.join(own_name(name));
    let written = write(&part).and_then(|()| Ok(fs_err::rename(&part, folder.join(name))?));
    if written.is_err() {
        let _ = fs_err::remove_file(&part); // the first error matters
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        replace(&inner, "one", |path| fs_err::write(path, "1")).unwrap();
        let failed = replace(&inner, "one", |path| {
            fs_err::write(path, "half")?;
            Err(std::io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        let left = fs_err::read_dir(&inner).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["one"]);
        assert_eq!(fs_err::read_to_string(inner.join("one")).unwrap(), "1");
        assert_ne!(own_name("a"), own_name("a"));
    }
}
