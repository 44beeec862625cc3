//! The store in a bucket: what other machines see of this one's results, and this one of theirs.
//!
//! ```text
//! s3://bucket/prefix/
//!   store/format                        version of this layout
//!   store/<stage>/<key>/<file>          a result's files
//!   store/<stage>/<key>/manifest.json   its manifest, which is written last: without it there is no result
//!   store/raw/<name>                    what is remembered of raw data
//!   <run>/<stage>                       the key of the run's result
//! ```
//!
//! An object store has no renames, links or locks, so the store proper is a folder of this machine, the cache, where
//! stages work as they always do. A result that was published there is then copied into the bucket; one that the bucket
//! has and the cache has not is used from there: its files are fetched into `.fetched` of the cache when a stage asks for
//! them, and compared with the manifest's digests as they come. Equal keys mean equal contents, so that two machines that
//! write the same result are in nobody's way. The bucket alone says what a run links to.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::anyhow;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::manifest::{self, File, Manifest};
use crate::replace::own_name;
use crate::{Fail, Problem};

/// Version of the layout.
const FORMAT: &str = "1\n";
/// Version of the text of a link.
const LINK: &str = "1 ";
/// The most bytes of a link, a format, or a note.
const SMALL: u64 = 1 << 10;
/// The most bytes of what is kept of raw data.
const KEPT: u64 = 1 << 30;
/// Files that are fetched at a time.
const FILES: usize = 8;
/// Bytes that are written at a time.
const BUFFER: usize = 1 << 16;
/// From so many bytes on, fetching has a progress bar.
const LONG: u64 = 1 << 28;

impl Problem for files::Error {
    fn kind(&self) -> std::io::ErrorKind {
        files::Error::kind(self)
    }

    fn hint(&self) -> Option<String> {
        files::Error::hint(self)
    }
}

/// A prefix in a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    url: PathBuf,
    /// Where fetched files lie.
    fetched: PathBuf,
    /// Nothing is written there.
    reads_only: bool,
}

impl Bucket {
    /// Opens the store below `url`; `cache` is its folder on this machine.
    ///
    /// # Errors
    /// Exit code 3 where there is no such bucket, 4 where another version of this program wrote it; no connection, no
    /// permission.
    pub(crate) fn open(url: &Path, cache: &Path, reads_only: bool) -> Result<Bucket, Fail> {
        let bucket = Bucket { url: url.to_owned(), fetched: cache.join(".fetched"), reads_only };
        match files::read_if_there(&bucket.format(), SMALL)? {
            Some(text) if text == FORMAT.as_bytes() => {}
            Some(_) => {
                return Err(Fail::bad_data(anyhow!(
                    "{}: another layout, expected version 1",
                    bucket.format().display()
                ))
                .hint("another version of this program wrote it; use that version, or another --artifacts-dir"));
            }
            // Of a prefix that is empty; where the bucket itself is not there, a server says so now.
            None => drop(files::is_folder(url)?),
        }
        Ok(bucket)
    }

    fn format(&self) -> PathBuf {
        self.url.join("store/format")
    }

    /// Finds out before the work whether something can be written.
    pub(crate) fn probe(&self) -> Result<(), Fail> {
        Ok(files::put(&self.format(), FORMAT.as_bytes())?)
    }

    /// The URL of a run's link.
    pub(crate) fn link(&self, run: &str, stage: &str) -> PathBuf {
        self.url.join(run).join(stage)
    }

    fn result(&self, stage: &str, key: &str) -> PathBuf {
        self.url.join("store").join(stage).join(key)
    }

    fn note_of(&self, name: &str) -> PathBuf {
        self.url.join("store/raw").join(name)
    }

    /// The key that a run's link names; `None` where the stage has not run there.
    pub(crate) fn linked(&self, run: &str, stage: &str) -> Result<Option<String>, Fail> {
        let link = self.link(run, stage);
        let Some(text) = files::read_if_there(&link, SMALL)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&text);
        let key = text.strip_prefix(LINK).map(|key| key.trim_end()).filter(|key| is_key(key));
        key.map(|key| Some(key.to_owned())).ok_or_else(|| {
            Fail::bad_data(anyhow!("{}: no link, expected \"1\" and a key of 32 hex digits", link.display()))
                .hint(format!("just {stage} --force writes it again"))
        })
    }

    /// Points a run's link to a result.
    pub(crate) fn point(&self, run: &str, stage: &str, key: &str) -> Result<(), Fail> {
        Ok(files::put(&self.link(run, stage), format!("{LINK}{key}\n").as_bytes())?)
    }

    /// The keys of all results of a stage, whole or not.
    pub(crate) fn keys(&self, stage: &str) -> Result<Vec<String>, Fail> {
        let mut names = files::names(&self.url.join("store").join(stage))?;
        names.retain(|name| is_key(name));
        Ok(names)
    }

    /// The manifest of the result with that key; `None` where there is no result.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub(crate) fn manifest(&self, stage: &str, key: &str) -> Result<Option<Manifest>, Fail> {
        let url = self.result(stage, key).join(manifest::FILE);
        let Some(text) = files::read_if_there(&url, manifest::MOST)? else { return Ok(None) };
        let text = String::from_utf8(text).map_err(|_| Fail::bad_data(anyhow!("{}: not UTF-8 text", url.display())))?;
        Manifest::parse(&url, Some(key), &text).map(Some)
    }

    /// Where the files of a result are fetched to. Of another manifest it is another folder.
    pub(crate) fn fetched(&self, manifest: &Manifest) -> PathBuf {
        let about = manifest.blake3.get(..8).unwrap_or_default();
        self.fetched.join(&manifest.stage).join(format!("{}-{about}", manifest.key))
    }

    /// Makes sure that `files` of a result lie in `folder`, with the contents that the manifest says.
    ///
    /// # Errors
    /// Exit code 3 for a file that is not in the bucket, 4 for one with other contents; 130 after a signal.
    pub(crate) fn fetch(&self, manifest: &Manifest, folder: &Path, files: &[&File]) -> Result<(), Fail> {
        let missing: Vec<&File> = files.iter().copied().filter(|file| !folder.join(&file.name).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let from = self.result(&manifest.stage, &manifest.key);
        let bytes: u64 = missing.iter().map(|file| file.bytes).sum();
        let mut progress = (bytes >= LONG).then(|| {
            tracing::info!("fetches {} files, {} MB, of {}", missing.len(), bytes >> 20, from.display());
            crate::progress(bytes >> 20, "MB fetched")
        });
        let (next, shown) = (AtomicUsize::new(0), progress.as_mut().map(Mutex::new));
        let work = || -> Result<(), Fail> {
            while let Some(file) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                fetch_one(&from, folder, file)?;
                if let Some(Ok(mut progress)) = shown.as_ref().map(Mutex::lock) {
                    progress.inc(file.bytes >> 20);
                }
            }
            Ok(())
        };
        let all = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..FILES.min(missing.len())).map(|_| scope.spawn(work)).collect();
            let panicked = |_| Err(Fail::failed(anyhow!("a thread that fetches files has panicked")));
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(panicked)).fold(Ok(()), Result::and)
        });
        if let Some(progress) = progress.filter(|_| all.is_ok()) {
            progress.finish();
        }
        all
    }

    /// Copies a result of `folder` into the bucket: its files, then its manifest.
    ///
    /// # Errors
    /// Exit code 4 for a file that is not as it was published.
    pub(crate) fn push(&self, folder: &Path, manifest: &Manifest) -> Result<(), Fail> {
        let to = self.result(&manifest.stage, &manifest.key);
        let mut pairs = Vec::new();
        for file in &manifest.outputs {
            let path = folder.join(&file.name);
            let got = manifest::hash(&path).map_err(Fail::missing)?;
            if got != file.blake3 {
                let expected = &file.blake3;
                let path = path.display();
                return Err(Fail::bad_data(anyhow!("{path} is damaged: BLAKE3 {got}, expected {expected}")));
            }
            pairs.push((path, to.join(&file.name)));
        }
        let pairs: Vec<(&Path, &Path)> = pairs.iter().map(|(from, to)| (from.as_path(), to.as_path())).collect();
        let again = |error: files::Error| {
            let keys = error.hint().map_or(String::new(), |hint| format!("; {hint}"));
            Fail::from(error).hint(format!("the result is on this machine, and the same command uploads it{keys}"))
        };
        files::upload(&pairs).map_err(again)?;
        crate::signals::kill_point("before-upload-manifest");
        let (from, to) = (folder.join(manifest::FILE), to.join(manifest::FILE));
        files::upload(&[(&from, &to)]).map_err(again)
    }

    /// Whether nothing is written to the bucket.
    pub(crate) fn reads_only(&self) -> bool {
        self.reads_only
    }

    /// What is remembered or kept of raw data under `name`; it can be found out again, so failing is as good as nothing.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        let text = files::read_if_there(&self.note_of(name), KEPT).unwrap_or_else(|error| {
            tracing::debug!("{error}");
            None
        });
        text.and_then(|text| String::from_utf8(text).ok())
    }

    /// Remembers or keeps a text about raw data.
    pub(crate) fn remember(&self, name: &str, text: &str) {
        if let Err(error) = files::put(&self.note_of(name), text.as_bytes()) {
            tracing::warn!("what is known of the raw data is not kept, and will be looked for again: {error}");
        }
    }
}

fn is_key(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Fetches a file: it is in its place as a whole, with the contents that its manifest says, or not at all.
fn fetch_one(from: &Path, folder: &Path, file: &File) -> Result<(), Fail> {
    let (url, path) = (from.join(&file.name), folder.join(&file.name));
    let parent = path.parent().unwrap_or(folder);
    fs_err::create_dir_all(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = parent.join(own_name(&name));
    let fetched = copy(&url, &part, file).and_then(|()| place(&part, &path));
    let _ = fs_err::remove_file(&part); // it is in its place, or of no use
    fetched
}

/// Copies an object, and compares its contents with their digest.
fn copy(url: &Path, part: &Path, file: &File) -> Result<(), Fail> {
    let damaged = |got: &str| {
        Fail::bad_data(anyhow!(
            "{} is damaged: {got}, expected {} bytes, BLAKE3 {}, as it was published",
            url.display(),
            file.bytes,
            file.blake3
        ))
    };
    let files::Opened { mut contents, bytes } = files::open(url)?;
    if bytes != file.bytes {
        return Err(damaged(&format!("{bytes} bytes")));
    }
    let (mut to, mut hasher, mut buffer) = (fs_err::File::create(part)?, blake3::Hasher::new(), vec![0; BUFFER]);
    loop {
        if crate::interrupted() {
            return Err(Fail::interrupted());
        }
        let read = contents.read(&mut buffer).map_err(files::Error::from_reader)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
    let got = hasher.finalize().to_hex();
    if got.as_str() != file.blake3 {
        return Err(damaged(&format!("BLAKE3 {got}")));
    }
    // Its date is that of the file that was published: where it is unchanged, nothing is hashed again.
    to.file().set_modified(UNIX_EPOCH + Duration::from_nanos(file.modified_ns))?;
    to.set_permissions(std::fs::Permissions::from_mode(0o444))?;
    Ok(to.sync_all()?)
}

/// Renames a fetched file to its place. One that another process put there meanwhile stays: it may be in use.
fn place(part: &Path, path: &Path) -> Result<(), Fail> {
    match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(_) => Ok(fs_err::rename(part, path)?),
    }
}
