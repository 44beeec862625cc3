//! Contents of files compared with their digests, as they are read.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::anyhow;

use crate::Fail;
use crate::manifest::{File, hash_open, open_regular};

/// From so many bytes on, hashing has a progress bar.
const LONG: u64 = 1 << 30;

/// The files that this process has compared with their digests, and what they were then.
///
/// No stage gets a path of another stage's file before the file is here, and nothing is published unless all files are
/// still the same: so what a result was made of is what its key says, whoever publishes, cleans up or edits meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<BTreeMap<PathBuf, Identity>>);

/// What a file is, apart from its name. A file that is replaced is another one; a file that is edited has another date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(about: &std::fs::Metadata) -> Identity {
        Identity {
            device: about.dev(),
            inode: about.ino(),
            bytes: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
        }
    }
}

impl Verified {
    /// Compares the contents of `files` in `folder` with their digests; those that were compared before are not read
    /// again. Where one fails, none of them counts as in use.
    ///
    /// # Errors
    /// Exit code 3 for a file that is missing, 4 for one whose contents are others; 130 after a signal.
    pub(crate) fn check(&self, folder: &Path, files: &[&File]) -> Result<(), Fail> {
        let paths: Vec<PathBuf> = files.iter().map(|file| folder.join(&file.name)).collect();
        let known = self.known();
        let new: Vec<(&File, &PathBuf)> =
            files.iter().copied().zip(&paths).filter(|(_, path)| !known.contains_key(*path)).collect();
        let total: u64 = new.iter().map(|(file, _)| file.bytes).sum();
        let progress = (total >= LONG).then(|| Mutex::new(crate::progress(total >> 20, "MiB verified")));
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), Fail> {
            while let Some(&(file, path)) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                if crate::interrupted() {
                    return Err(Fail::interrupted());
                }
                let identity = compare(path, file)?;
                self.remember(path, identity);
                if let Some(Ok(mut progress)) = progress.as_ref().map(Mutex::lock) {
                    progress.inc(file.bytes >> 20);
                }
            }
            Ok(())
        };
        let threads = crate::threads().min(new.len());
        let checked = if threads <= 1 {
            work()
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                let ends = workers.into_iter().map(|worker| {
                    let panicked = |_| Err(Fail::failed(anyhow!("a thread that reads files has panicked")));
                    worker.join().unwrap_or_else(panicked)
                });
                ends.fold(Ok(()), Result::and)
            })
        };
        if checked.is_err()
            && let Ok(mut known) = self.0.lock()
        {
            known.retain(|path, _| !paths.contains(path));
        }
        checked
    }

    /// All files that were compared are the files that their paths lead to.
    ///
    /// # Errors
    /// Exit code 1 for a file that is gone or another one.
    pub(crate) fn unchanged(&self) -> Result<(), Fail> {
        for (path, then) in self.known() {
            let now = fs_err::metadata(&path).map(|about| Identity::of(&about));
            if !now.is_ok_and(|now| now == then) {
                return Err(Fail::failed(anyhow!("{} was replaced or changed while it was in use", path.display()))
                    .hint("run the same command again: it uses what is there now"));
            }
        }
        Ok(())
    }

    fn known(&self) -> BTreeMap<PathBuf, Identity> {
        self.0.lock().map(|known| known.clone()).unwrap_or_default()
    }

    fn remember(&self, path: &Path, identity: Identity) {
        if let Ok(mut known) = self.0.lock() {
            known.insert(path.to_owned(), identity);
        }
    }
}

/// Reads a file to its end; its digest must be that of `file`.
fn compare(path: &Path, file: &File) -> Result<Identity, Fail> {
    let open = open_regular(path).map_err(Fail::missing)?;
    let identity = Identity::of(&open.metadata()?);
    let got = match identity.bytes == file.bytes {
        true => format!("BLAKE3 {}", hash_open(open)?),
        false => format!("{} bytes", identity.bytes),
    };
    if got == format!("BLAKE3 {}", file.blake3) {
        return Ok(identity);
    }
    Err(Fail::bad_data(anyhow!(
        "{} is damaged: {got}, expected {} bytes, BLAKE3 {}, as it was published",
        path.display(),
        file.bytes,
        file.blake3
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> File {
        let blake3 = blake3::hash(text.as_bytes()).to_hex().to_string();
        File { name: name.to_owned(), blake3, bytes: text.len() as u64, modified_ns: 0, rows: None }
    }

    #[test]
    fn files_are_compared_once_and_must_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b", "c"] {
            fs_err::write(path(name), name).unwrap();
        }
        let [a, b, c] = ["a", "b", "c"].map(|name| file(name, name));
        let verified = Verified::default();
        verified.check(folder.path(), &[&a, &b]).unwrap();
        verified.check(folder.path(), &[&a, &b, &c]).unwrap();
        verified.unchanged().unwrap();

        // A file of the same contents is another file.
        fs_err::write(path("new"), "b").unwrap();
        fs_err::rename(path("new"), path("b")).unwrap();
        let fail = verified.unchanged().unwrap_err();
        assert!(fail.error.to_string().contains("b was replaced or changed"), "{fail}");
    }

    #[test]
    fn what_is_damaged_missing_or_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs_err::write(path("flipped"), "b").unwrap();
        fs_err::write(path("cut"), "").unwrap();
        fs_err::create_dir(path("folder")).unwrap();
        fs_err::write(path("target"), "a").unwrap();
        fs_err::os::unix::fs::symlink(path("target"), path("link")).unwrap();
        for (name, code, text) in [
            ("flipped", 4, "flipped is damaged: BLAKE3"),
            ("cut", 4, "cut is damaged: 0 bytes"),
            ("gone", 3, "gone"),
            ("folder", 3, "no regular file"),
            ("link", 3, "no regular file"),
        ] {
            let fail = Verified::default().check(folder.path(), &[&file(name, "a")]).unwrap_err();
            assert_eq!(fail.code, code, "{name}: {fail}");
            assert!(fail.error.to_string().contains(text), "{name}: {fail}");
        }
    }
}
