//! The store: where results lie, and how a run points to them.
//!
//! ```text
//! artifacts/
//!   store/
//!     <stage>/<key>/                a result: its files and manifest.json; never written again
//!     <stage>/<key>.partial/        a stage at work, or interrupted
//!       lock                        who is at work
//!       about.json                  of what: run, command, configuration
//!       out/                        what will be published
//!       ...                         checkpoints
//!     <stage>/<key>.replaced-<n>/   a result that was damaged, or that `--force` computed anew with other contents
//!     raw/<digest>                  contents of raw data, by their paths, sizes and dates
//!     lock                          shared by all stages at work, held alone by `store gc`
//!   <run>/<stage>                   a relative link to ../store/<stage>/<key>
//! ```
//!
//! Where the artefacts are in a bucket ([`crate::bucket`]), this is its cache on one machine.
//!
//! The key says what the result is ([`crate::Run::key`]), so results are shared by all runs, and none is ever in the way
//! of another. A training is a result of its own, `training/<key>`, that `global`, `local` and `fusion` take weights from.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Fail;
use crate::bucket::Bucket;
use crate::manifest::{File, Manifest};
use crate::replace::{own_name, replace};
use crate::verified::Verified;

/// Name of the store below the artefacts folder; no run may be called so.
pub(crate) const STORE: &str = "store";
/// What the folder of a stage at work ends in.
pub(crate) const PARTIAL: &str = ".partial";
/// What the folder of a superseded result has between key and number.
pub(crate) const REPLACED: &str = ".replaced-";

/// How long a shared file system may take to show what another machine wrote: NFS remembers for a minute that there was
/// nothing.
const VISIBLE_AFTER: Duration = Duration::from_secs(90);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The artefacts folder, and the bucket that has the same results, where there is one.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    artifacts: PathBuf,
    bucket: Option<Bucket>,
}

/// A result that a run's link points to, or that was found in the store.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    /// Where files come from that are not in the folder.
    pub(crate) bucket: Option<Bucket>,
}

impl Found {
    /// A result whose files are in its folder.
    pub(crate) fn here(folder: PathBuf, manifest: Manifest) -> Found {
        Found { folder, manifest, bucket: None }
    }

    /// Makes sure that some of its files are in its folder.
    pub(crate) fn fetch(&self, files: &[&File]) -> Result<(), Fail> {
        self.bucket.as_ref().map_or(Ok(()), |bucket| bucket.fetch(&self.manifest, &self.folder, files))
    }

    /// Compares the contents of some of its files with their digests.
    pub(crate) fn check(&self, files: &[&File], verified: &Verified) -> Result<(), Fail> {
        self.fetch(files)?;
        verified.check(&self.folder, files)
    }

    /// Whether a file is in a bucket only.
    pub(crate) fn is_elsewhere(&self, file: &File) -> bool {
        self.bucket.is_some() && !self.folder.join(&file.name).exists()
    }
}

impl Store {
    /// The store in a folder of this machine.
    ///
    /// # Errors
    /// Exit code 2 for a bucket.
    pub(crate) fn new(artifacts: &Path) -> Result<Store, Fail> {
        let text = artifacts.to_str();
        text.map_or(Ok(()), files::refuse_secrets)?;
        if files::is_remote(artifacts) {
            let message = anyhow!("{}: a bucket, expected a folder of this machine", artifacts.display());
            return Err(Fail::usage(message).hint(
                "this looks through a store file by file, and removes: name the bucket's folder below --cache-dir, or use the bucket's own tools",
            ));
        }
        Ok(Store { artifacts: text.map_or_else(|| artifacts.to_owned(), files::plain), bucket: None })
    }

    /// The store that the flags name: a folder, or a bucket with its folder below `--cache-dir`, which is asked only if
    /// `connects`, and not written to if `reads_only`.
    ///
    /// # Errors
    /// Exit code 2 for a URL that cannot be one; as [`Bucket::open`].
    pub(crate) fn open(
        artifacts_dir: &Path,
        cache_dir: &Path,
        connects: bool,
        reads_only: bool,
    ) -> Result<Store, Fail> {
        // A path may be anything; a URL is text.
        let Some(text) = artifacts_dir.to_str() else { return Self::new(artifacts_dir) };
        files::check(text)?;
        if !files::is_remote(artifacts_dir) {
            return Self::new(artifacts_dir);
        }
        let artifacts = cache_dir.join(text.trim_end_matches('/').replacen("://", "/", 1));
        let bucket = if connects { Some(Bucket::open(artifacts_dir, &artifacts, reads_only)?) } else { None };
        Ok(Store { artifacts, bucket })
    }

    /// Whether results are in a bucket, too.
    pub(crate) fn is_remote(&self) -> bool {
        self.bucket.is_some()
    }

    /// Where users find a run's result: the link, or its URL.
    pub(crate) fn place(&self, run: &str, stage: &str) -> PathBuf {
        self.bucket.as_ref().map_or_else(|| self.link(run, stage), |bucket| bucket.link(run, stage))
    }

    /// Copies a result of this machine into the bucket, where there is one.
    pub(crate) fn push(&self, folder: &Path) -> Result<(), Fail> {
        match (&self.bucket, Manifest::read(folder)?) {
            (Some(bucket), Some(manifest)) => bucket.push(folder, &manifest),
            _ => Ok(()),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.artifacts.join(STORE)
    }

    pub(crate) fn result(&self, stage: &str, key: &str) -> PathBuf {
        self.root().join(stage).join(key)
    }

    pub(crate) fn partial(&self, stage: &str, key: &str) -> PathBuf {
        self.root().join(stage).join(format!("{key}{PARTIAL}"))
    }

    /// `<artifacts>/<run>/<stage>`.
    pub(crate) fn link(&self, run: &str, stage: &str) -> PathBuf {
        self.artifacts.join(run).join(stage)
    }

    /// The result with that key.
    pub(crate) fn find(&self, stage: &str, key: &str) -> Result<Option<Found>, Fail> {
        let folder = self.result(stage, key);
        let here = Manifest::read(&folder).map(|found| found.map(|manifest| Found::here(folder, manifest)));
        let Some(bucket) = &self.bucket else { return here };
        match (here, bucket.manifest(stage, key)?) {
            (Ok(Some(here)), Some(there)) if here.manifest.blake3 == there.blake3 => Ok(Some(here)),
            (_, Some(manifest)) => {
                Ok(Some(Found { folder: bucket.fetched(&manifest), manifest, bucket: Some(bucket.clone()) }))
            }
            // Its upload was cut short.
            (Ok(Some(here)), None) if !bucket.reads_only() => {
                tracing::info!("uploads the result of {stage} that is on this machine only");
                bucket.push(&here.folder, &here.manifest)?;
                Ok(Some(here))
            }
            (here, None) => here,
        }
    }

    /// As [`Store::find`], of a result that another process has published, perhaps on another machine: a shared file system
    /// may show it a while later.
    pub(crate) fn await_result(&self, stage: &str, key: &str) -> Result<Found, Fail> {
        let since = Instant::now();
        loop {
            if let Some(found) = self.find(stage, key)? {
                return Ok(found);
            }
            if since.elapsed() > VISIBLE_AFTER {
                let place = self.result(stage, key);
                return Err(Fail::missing(anyhow!("{}: not there, and rank 0 has published it", place.display()))
                    .hint("all ranks need one artefacts folder, on a file system that all machines share"));
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// The result that a run's link points to; `None` where the stage has not run there.
    ///
    /// # Errors
    /// Exit code 3 for a folder in the place of the link, as version 0.1 left it.
    pub(crate) fn linked(&self, run: &str, stage: &str) -> Result<Option<Found>, Fail> {
        if let Some(bucket) = &self.bucket {
            return bucket.linked(run, stage)?.map_or(Ok(None), |key| self.find(stage, &key));
        }
        let link = self.link(run, stage);
        let Ok(about) = fs_err::symlink_metadata(&link) else { return Ok(None) };
        if !about.is_symlink() {
            return Err(self.old_layout(&link));
        }
        let target = fs_err::read_link(&link)?;
        let key = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.find(stage, &key)
    }

    fn old_layout(&self, link: &Path) -> Fail {
        let run = link.parent().unwrap_or(link);
        Fail::missing(anyhow!(
            "{} is a folder, expected a link into {}: version 0.1 of this program left it",
            link.display(),
            self.root().display()
        ))
        .hint(format!("its tables stay readable; choose another --run, or move it away: mv {0} {0}-0.1", run.display()))
    }

    /// The keys of all results of a stage, sorted.
    pub(crate) fn keys(&self, stage: &str) -> Vec<String> {
        let mut names = entries(&self.root().join(stage)).unwrap_or_default();
        names.retain(|name| name.len() == 32 && name.bytes().all(|c| c.is_ascii_hexdigit()));
        let there = self.bucket.as_ref().map(|bucket| bucket.keys(stage));
        names.extend(
            there
                .transpose()
                .unwrap_or_else(|fail| {
                    tracing::warn!("{fail}");
                    None
                })
                .unwrap_or_default(),
        );
        names.sort();
        names.dedup();
        names
    }

    /// Points the run's link to a result, in one rename; in a bucket, in one write.
    pub(crate) fn point(&self, run: &str, stage: &str, key: &str) -> Result<(), Fail> {
        // What was fetched from a bucket, perhaps in part, is no result of this machine.
        if self.bucket.is_none() || self.result(stage, key).is_dir() {
            self.point_here(run, stage, key)?;
        }
        self.bucket.as_ref().map_or(Ok(()), |bucket| bucket.point(run, stage, key))
    }

    fn point_here(&self, run: &str, stage: &str, key: &str) -> Result<(), Fail> {
        let link = self.link(run, stage);
        let folder = link.parent().unwrap_or(&self.artifacts);
        fs_err::create_dir_all(folder)?;
        let target: PathBuf = ["..", STORE, stage, key].iter().collect();
        if fs_err::read_link(&link).is_ok_and(|old| old == target) {
            return Ok(());
        }
        if link.is_dir() && !link.is_symlink() {
            return Err(self.old_layout(&link));
        }
        let new = folder.join(own_name(stage));
        fs_err::os::unix::fs::symlink(&target, &new)?;
        fs_err::rename(&new, &link)?;
        sync_folder(folder)?;
        sync_folder(&self.artifacts)
    }

    /// Finds out before the work what would fail after it: whether folders here can be renamed, and whether a link in
    /// the run's folder leads to the store.
    pub(crate) fn probe(&self, run: &str, stage: &str, partial: &Path) -> Result<(), Fail> {
        let link = self.link(run, stage);
        if link.is_dir() && !link.is_symlink() {
            return Err(self.old_layout(&link));
        }
        let (from, to) = (partial.join(own_name("probe")), partial.with_file_name(own_name("probe")));
        let cannot = |what: &str, error: std::io::Error| {
            let hint = "the store must lie in one file system that has renames and symbolic links; --artifacts-dir names another place";
            Fail::failed(anyhow!(error).context(format!("results could not be published here: {what}"))).hint(hint)
        };
        fs_err::create_dir_all(&from)?;
        fs_err::rename(&from, &to)
            .and_then(|()| fs_err::remove_dir(&to))
            .map_err(|error| cannot("a folder cannot be renamed", error))?;
        let run_folder = self.artifacts.join(run);
        fs_err::create_dir_all(&run_folder)?;
        let probe = run_folder.join(own_name("probe"));
        let target = Path::new("..").join(STORE);
        let made = fs_err::os::unix::fs::symlink(&target, &probe).and_then(|()| fs_err::canonicalize(&probe));
        let _ = fs_err::remove_file(&probe); // the first error matters
        let led = made.map_err(|error| cannot("a symbolic link cannot be made", error))?;
        let store = fs_err::canonicalize(self.root())?;
        if led != store {
            return Err(Fail::failed(anyhow!(
                "results could not be published here: {}/../{STORE} is {}, expected {}",
                run_folder.display(),
                led.display(),
                store.display()
            ))
            .hint("make the run's folder a plain folder, not a link to another place"));
        }
        self.bucket.as_ref().map_or(Ok(()), Bucket::probe)
    }

    /// What is remembered under `name`; a damaged note is as good as none.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        let digest = |text: &str| {
            let digest = text.strip_prefix("1 ")?.strip_suffix('\n')?;
            (digest.len() == 64).then(|| digest.to_owned())
        };
        self.raw(name).find_map(|text| digest(&text))
    }

    /// Remembers a digest under `name`; it can be computed again, so failing is a warning.
    pub(crate) fn remember(&self, name: &str, digest: &str) {
        self.write_raw(name, &format!("1 {digest}\n"));
    }

    /// A text that is kept under `name`; a damaged one is as good as none.
    pub(crate) fn kept(&self, name: &str) -> Option<String> {
        let whole = |text: &str| {
            let (digest, text) = text.split_once('\n')?;
            (digest == blake3::hash(text.as_bytes()).to_hex().as_str()).then(|| text.to_owned())
        };
        self.raw(&format!("{name}.txt")).find_map(|text| whole(&text))
    }

    /// Keeps a text under `name`; it can be computed again, so failing is a warning.
    pub(crate) fn keep(&self, name: &str, text: &str) {
        self.write_raw(&format!("{name}.txt"), &format!("{}\n{text}", blake3::hash(text.as_bytes()).to_hex()));
    }

    /// The texts about raw data under a name: that of this machine, then that of the bucket.
    fn raw(&self, name: &str) -> impl Iterator<Item = String> {
        let here = fs_err::read_to_string(self.root().join("raw").join(name)).ok();
        here.into_iter().chain(std::iter::once_with(|| self.bucket.as_ref()?.note(name)).flatten())
    }

    fn write_raw(&self, name: &str, text: &str) {
        let folder = self.root().join("raw");
        let written = replace(&folder, name, |path| fs_err::write(path, text));
        if let Err(error) = written {
            tracing::warn!("what is known of the raw data is not kept, and will be looked for again: {error}");
        }
        if let Some(bucket) = self.bucket.as_ref().filter(|bucket| !bucket.reads_only()) {
            bucket.remember(name, text);
        }
    }

    /// Runs by name: the stages that they link to, and the keys.
    pub(crate) fn runs(&self) -> Result<BTreeMap<String, Run>, Fail> {
        let mut runs = BTreeMap::new();
        for name in entries(&self.artifacts).unwrap_or_default() {
            let folder = self.artifacts.join(&name);
            if name == STORE || name.starts_with('.') || !folder.is_dir() {
                continue;
            }
            let mut run = Run::default();
            for stage in entries(&folder)? {
                let path = folder.join(&stage);
                if let Ok(target) = fs_err::read_link(&path) {
                    let key = target.file_name().map(|key| key.to_string_lossy().into_owned());
                    run.links.insert(stage, key.unwrap_or_default());
                } else if path.join(crate::manifest::FILE).is_file() {
                    run.old.push(stage);
                }
            }
            if !run.links.is_empty() || !run.old.is_empty() {
                runs.insert(name, run);
            }
        }
        Ok(runs)
    }

    /// Shares the store with other stages at work; waits where a clean-up holds it. `None` on a file system without locks,
    /// where no clean-up works.
    pub(crate) fn share(&self) -> Result<Option<Lock>, Fail> {
        fs_err::create_dir_all(self.root())?;
        let path = self.root().join("lock");
        match Lock::take(&path, FlockOperation::NonBlockingLockShared) {
            Ok(Some(lock)) => Ok(Some(lock)),
            Ok(None) => {
                tracing::info!("waits for a clean-up of {}", self.root().display());
                Lock::take(&path, FlockOperation::LockShared)
            }
            Err(fail) if has_no_locks(&fail) => {
                tracing::debug!("{fail}");
                Ok(None)
            }
            Err(fail) => Err(fail),
        }
    }

    /// Holds the store alone; `None` where a stage is at work.
    pub(crate) fn alone(&self) -> Result<Option<Lock>, Fail> {
        fs_err::create_dir_all(self.root())?;
        Lock::take(&self.root().join("lock"), FlockOperation::NonBlockingLockExclusive)
    }
}

/// What a run's folder holds.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Key by stage.
    pub(crate) links: BTreeMap<String, String>,
    /// Stages that version 0.1 left as folders.
    pub(crate) old: Vec<String>,
}

/// A lock on a file, released when dropped or when the process ends.
#[derive(Debug)]
pub(crate) struct Lock(fs_err::File);

impl Lock {
    /// Opens the file, made where it is missing, and locks it; `None` where another process has it.
    pub(crate) fn take(path: &Path, how: FlockOperation) -> Result<Option<Lock>, Fail> {
        let file = fs_err::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        match flock(&file, how) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => {
                let fail = Fail::failed(
                    anyhow!(std::io::Error::from(error)).context(format!("failed to lock {}", path.display())),
                );
                Err(if has_no_locks(&fail) { fail.hint(NO_LOCKS) } else { fail })
            }
        }
    }

    /// Whether another process holds the lock on a file.
    pub(crate) fn is_held(path: &Path) -> std::io::Result<bool> {
        let file = match fs_err::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK) => Ok(false), // nobody can hold one
            Err(error) => Err(error.into()),
        }
    }

    /// Whether `path` still is the locked file: another process may have removed it between opening and locking.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let here = self.0.metadata().map(|about| (about.dev(), about.ino()));
        let there = fs_err::metadata(path).map(|about| (about.dev(), about.ino()));
        matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }

    /// Writes the process's number into the file, for whoever finds it locked.
    pub(crate) fn sign(&mut self) -> Result<(), Fail> {
        self.0.set_len(0)?;
        Ok(write!(self.0, "{}", std::process::id())?)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do where a child process was just forked and still holds the file.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// What helps where a file system has no locks.
const NO_LOCKS: &str = "the file system has no locks (flock), which the command that publishes needs: NFS 4 and Lustre mounted with `flock` have them; --artifacts-dir names another place";

/// Whether locks failed because the file system has none.
fn has_no_locks(fail: &Fail) -> bool {
    let none = [Errno::NOSYS, Errno::NOTSUP, Errno::NOLCK].map(|errno| Some(errno.raw_os_error()));
    fail.error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|error| none.contains(&error.raw_os_error())))
}

/// Names in a folder, sorted.
pub(crate) fn entries(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = fs_err::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Writes the folder's entries to the disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Fail> {
    fs_err::File::open(path).and_then(|folder| folder.sync_all()).map_err(Fail::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_locks_is_told_from_a_failure() {
        let fail = |errno: Errno| Fail::failed(anyhow!(std::io::Error::from(errno)).context("failed to lock it"));
        assert!(has_no_locks(&fail(Errno::NOLCK)) && has_no_locks(&fail(Errno::NOTSUP)));
        assert!(!has_no_locks(&fail(Errno::ACCESS)));
    }
}
