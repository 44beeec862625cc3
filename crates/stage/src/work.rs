//! The private folder of a stage at work, and its publication in one rename.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::manifest::{self, FORMAT, File, Manifest};
use crate::{Fail, Outcome, Run};

/// A stage at work. While it lives, no other process can run the same stage of the same run.
///
/// `<artifacts>/<run>/.work/<stage>/` holds the lock, and per key a folder `out` (to be published) beside `scratch`
/// (checkpoints, which an interrupted run leaves to the next one with the same key).
#[derive(Debug)]
pub struct Work<'run> {
    run: &'run Run,
    folder: PathBuf,
    out: PathBuf,
    scratch: PathBuf,
    rows: BTreeMap<String, u64>,
    _lock: Lock,
}

impl<'run> Work<'run> {
    pub(crate) fn open(run: &'run Run) -> Result<Self, Fail> {
        let stage = run.spec.name;
        let folder = run.folder(&run.common.run, ".work").join(stage);
        fs_err::create_dir_all(&folder).map_err(Fail::failed)?;
        let lock = lock(&folder.join("lock"), stage)?;
        let key = run.key();
        let home = folder.join(&key[..16]);
        // Leftovers of other keys: their results were superseded before they were finished.
        for entry in fs_err::read_dir(&folder).map_err(Fail::failed)? {
            let path = entry.map_err(Fail::failed)?.path();
            if path.is_dir() && path != home {
                fs_err::remove_dir_all(&path).map_err(Fail::failed)?;
            }
        }
        let (out, scratch) = (home.join("out"), home.join("scratch"));
        if out.exists() {
            fs_err::remove_dir_all(&out).map_err(Fail::failed)?;
        }
        for path in [&out, &scratch] {
            fs_err::create_dir_all(path).map_err(Fail::failed)?;
        }
        Ok(Work { run, folder: home, out, scratch, rows: BTreeMap::new(), _lock: lock })
    }

    /// The folder for the files to be published; empty at first.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The folder for checkpoints; what an interrupted run with the same key left is still there.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Records how many rows the table `name` (below [`Work::out`]) has.
    pub fn rows(&mut self, name: &str, rows: u64) {
        self.rows.insert(name.to_owned(), rows);
    }

    /// Publishes what lies in [`Work::out`]: synced, hashed, manifest last, exchanged with the earlier result
    /// in one rename. `metrics` are the stage's headline numbers.
    ///
    /// # Errors
    /// A file cannot be read, written or renamed; the earlier result is then still in place.
    pub fn publish(self, metrics: serde_json::Value) -> Result<Outcome, Fail> {
        let run = self.run;
        let mut outputs = Vec::new();
        for name in names(&self.out).map_err(Fail::failed)? {
            let path = self.out.join(&name);
            fs_err::File::open(&path).and_then(|file| file.sync_all()).map_err(Fail::failed)?;
            let (bytes, modified_ns) = manifest::stat(&path).map_err(Fail::failed)?;
            let blake3 = manifest::hash(&path).map_err(Fail::failed)?;
            let rows = self.rows.get(&name).copied();
            outputs.push(File { name, blake3, bytes, modified_ns, rows });
        }
        let manifest = Manifest {
            format_version: FORMAT,
            stage: run.spec.name.to_owned(),
            version: run.spec.version,
            key: run.key(),
            config: run.config_json(),
            seed: run.common.seed,
            limit: run.common.limit,
            device: run.common.device.clone(),
            inputs: run.inputs().to_vec(),
            outputs,
            git: manifest::git(),
            package: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().collect(),
            started: manifest::rfc3339(run.started),
            seconds: run.started.elapsed().unwrap_or_default().as_secs_f64(),
            threads: std::thread::available_parallelism().map_or(1, Into::into),
            metrics,
        };
        kill_point("before-manifest");
        let text = serde_json::to_string_pretty(&manifest).map_err(Fail::failed)? + "\n";
        let path = self.out.join(manifest::FILE);
        let mut file = fs_err::File::create(&path).map_err(Fail::failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(Fail::failed)?;
        sync_folder(&self.out)?;
        kill_point("before-publish");
        let published = run.folder(&run.common.run, run.spec.name);
        exchange(&self.out, &published)?;
        kill_point("after-publish");
        sync_folder(published.parent().unwrap_or(Path::new(".")))?;
        fs_err::remove_dir_all(&self.folder).map_err(Fail::failed)?;
        tracing::info!("{}: published {} in {:.1} s", run.spec.name, published.display(), manifest.seconds);
        Ok(Outcome::Done)
    }
}

/// The stage's lock, released when dropped.
#[derive(Debug)]
struct Lock(fs_err::File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do where a child process was just forked and still holds the file.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Takes the stage's lock, or says who has it.
fn lock(path: &Path, stage: &str) -> Result<Lock, Fail> {
    let mut file = fs_err::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(Fail::failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let holder = fs_err::read_to_string(path).unwrap_or_default();
            let message = anyhow!("another run of {stage} holds {} (process {})", path.display(), holder.trim());
            return Err(Fail::failed(message).hint("wait for it, or give this run another name with --run"));
        }
        Err(error) => {
            let error = std::io::Error::from(error);
            return Err(Fail::failed(anyhow!("failed to lock {}: {error}", path.display())));
        }
    }
    file.set_len(0).map_err(Fail::failed)?;
    write!(file, "{}", std::process::id()).map_err(Fail::failed)?;
    Ok(Lock(file))
}

/// Names of all files below `folder`, with `/`, sorted.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        for entry in fs_err::read_dir(path)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push((entry.path(), name + "/"));
            } else {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok(names)
}

fn sync_folder(path: &Path) -> Result<(), Fail> {
    fs_err::File::open(path).and_then(|folder| folder.sync_all()).map_err(Fail::failed)
}

/// Puts `new` in the place of `published`; the earlier result, if any, ends where `new` was.
fn exchange(new: &Path, published: &Path) -> Result<(), Fail> {
    if !published.exists() {
        return fs_err::rename(new, published).map_err(Fail::failed);
    }
    match renameat_with(CWD, new, CWD, published, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // A file system without exchange: two renames, with a moment in which nothing is published.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            let aside = new.with_file_name("earlier");
            fs_err::rename(published, &aside).map_err(Fail::failed)?;
            fs_err::rename(new, published).map_err(Fail::failed)
        }
        Err(error) => {
            let error = std::io::Error::from(error);
            Err(Fail::failed(anyhow!("failed to publish {}: {error}", published.display())))
        }
    }
}

/// For tests only: `AGCNN_TEST_KILL_AT=<point>` ends the process here as a power cut would.
fn kill_point(point: &str) {
    if std::env::var("AGCNN_TEST_KILL_AT").is_ok_and(|at| at == point) {
        std::process::abort();
    }
}
