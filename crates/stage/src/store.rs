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
use crate::manifest::Manifest;

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

/// The artefacts folder.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    artifacts: PathBuf,
}

/// A result that a run's link points to, or that was found in the store.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
}

impl Store {
    pub(crate) fn new(artifacts: &Path) -> Store {
        Store { artifacts: artifacts.to_owned() }
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
        Ok(Manifest::read(&folder)?.map(|manifest| Found { folder, manifest }))
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
        let names = entries(&self.root().join(stage)).unwrap_or_default();
        names.into_iter().filter(|name| name.len() == 32 && name.bytes().all(|c| c.is_ascii_hexdigit())).collect()
    }

    /// Points the run's link to a result, in one rename.
    pub(crate) fn point(&self, run: &str, stage: &str, key: &str) -> Result<(), Fail> {
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
        let new = folder.join(format!(".{stage}.{}", std::process::id()));
        let _ = fs_err::remove_file(&new); // of a process that had this number before
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
        let (from, to) = (partial.join(".probe"), partial.with_file_name(format!(".probe.{}", std::process::id())));
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
        let probe = run_folder.join(format!(".probe.{}", std::process::id()));
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
        Ok(())
    }

    /// What is remembered under `name`; a damaged note is as good as none.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        let text = fs_err::read_to_string(self.root().join("raw").join(name)).ok()?;
        text.strip_prefix("1 ")?.strip_suffix('\n').filter(|digest| digest.len() == 64).map(str::to_owned)
    }

    /// Remembers a digest under `name`; it can be computed again, so failing is a warning.
    pub(crate) fn remember(&self, name: &str, digest: &str) {
        let folder = self.root().join("raw");
        let written = fs_err::create_dir_all(&folder).and_then(|()| {
            let part = folder.join(format!(".{name}.{}", std::process::id()));
            fs_err::write(&part, format!("1 {digest}\n"))?;
            fs_err::rename(&part, folder.join(name))
        });
        if let Err(error) = written {
            tracing::warn!("the digest of the raw data is not kept, and will be computed again: {error}");
        }
    }

    /// A text that is kept under `name`; a damaged one is as good as none.
    pub(crate) fn kept(&self, name: &str) -> Option<String> {
        let text = fs_err::read_to_string(self.root().join("raw").join(format!("{name}.txt"))).ok()?;
        let (digest, text) = text.split_once('\n')?;
        (digest == blake3::hash(text.as_bytes()).to_hex().as_str()).then(|| text.to_owned())
    }

    /// Keeps a text under `name`; it can be computed again, so failing is a warning.
    pub(crate) fn keep(&self, name: &str, text: &str) {
        let folder = self.root().join("raw");
        let written = fs_err::create_dir_all(&folder).and_then(|()| {
            let part = folder.join(format!(".{name}.{}", std::process::id()));
            fs_err::write(&part, format!("{}\n{text}", blake3::hash(text.as_bytes()).to_hex()))?;
            fs_err::rename(&part, folder.join(format!("{name}.txt")))
        });
        if let Err(error) = written {
            tracing::warn!("what is in the raw data is not kept, and will be looked for again: {error}");
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

    /// Shares the store with other stages at work; waits where a clean-up holds it.
    pub(crate) fn share(&self) -> Result<Lock, Fail> {
        fs_err::create_dir_all(self.root())?;
        let path = self.root().join("lock");
        match Lock::take(&path, FlockOperation::NonBlockingLockShared)? {
            Some(lock) => Ok(lock),
            None => {
                tracing::info!("waits for a clean-up of {}", self.root().display());
                Lock::take(&path, FlockOperation::LockShared)?.ok_or_else(|| Fail::failed(anyhow!("no lock")))
            }
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
                let error = std::io::Error::from(error);
                Err(Fail::failed(anyhow!("failed to lock {}: {error}", path.display())))
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
