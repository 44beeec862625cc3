//! A stage at work: its private folder in the store, and its publication.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::input::Input;
use crate::manifest::{self, Computed, FORMAT, File, Manifest, Source, Use};
use crate::replace::{own_name, replace};
use crate::shard::{Shard, Shards, Sharing};
use crate::signals::kill_point;
use crate::store::{Found, Lock, REPLACED, Store, entries, sync_folder};
use crate::together::{self, Told};
use crate::verified::Verified;
use crate::{Fail, Outcome};

/// Where results go, and for which run.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) store: Store,
    pub(crate) run: String,
    pub(crate) started: SystemTime,
    /// What this process has read.
    pub(crate) verified: Arc<Verified>,
}

/// What is computed.
#[derive(Debug, Clone, Default)]
pub(crate) struct What {
    pub(crate) stage: String,
    pub(crate) version: u32,
    pub(crate) key: String,
    pub(crate) config: Value,
    pub(crate) execution: Vec<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) limit: Option<usize>,
    pub(crate) inputs: Vec<Source>,
}

/// A stage at work. While it lives, no other process computes the result with the same key, but for shards of it.
#[derive(Debug)]
pub struct Work<'run> {
    desk: &'run Desk,
    what: What,
    /// Whether the run links to the result.
    links: bool,
    partial: PathBuf,
    shards: Shards,
    out: PathBuf,
    rows: BTreeMap<String, u64>,
    uses: Vec<Use>,
    parts: BTreeMap<String, String>,
    computed: Computed,
    lock: Option<Lock>,
    /// Whether rank 0 does the work that counts; the folders are then private, and nothing in them is published.
    follows: bool,
}

/// Files of the private folder that are no checkpoint.
const LOCK: &str = "lock";
const ABOUT: &str = "about.json";
const OUT: &str = "out";

impl<'run> Work<'run> {
    pub(crate) fn open(desk: &'run Desk, what: What, shards: Shards, links: bool) -> Result<Self, Fail> {
        let partial = match shards.mine() {
            Some(_) => shards.folder().to_owned(),
            None => desk.store.partial(&what.stage, &what.key),
        };
        let out = partial.join(OUT);
        let lock = match shards.mine() {
            Some(shard) => {
                shards.begin(shard)?;
                None
            }
            None => {
                let lock = lock(&partial, &what.stage)?;
                if links {
                    desk.store.probe(&desk.run, &what.stage, &partial)?;
                }
                if out.exists() {
                    fs_err::remove_dir_all(&out)?;
                }
                fs_err::create_dir_all(&out)?;
                Some(lock)
            }
        };
        let about = json!({
            "stage": what.stage, "run": desk.run, "config": what.config, "command": command(),
            "started": manifest::rfc3339(desk.started),
        });
        let text = serde_json::to_string_pretty(&about).map_err(Fail::failed)?;
        replace(&partial, ABOUT, |path| fs_err::write(path, text + "\n"))?;
        Ok(Work {
            desk,
            what,
            links,
            partial,
            shards,
            out,
            rows: BTreeMap::new(),
            uses: Vec::new(),
            parts: BTreeMap::new(),
            computed: Computed::default(),
            lock,
            follows: false,
        })
    }

    /// The same work of the stage `stage` on another rank than 0.
    pub(crate) fn follow(desk: &'run Desk, what: What, stage: &'static str) -> Result<Self, Fail> {
        let partial = std::env::temp_dir().join(own_name("agcnn"));
        let out = partial.join(OUT);
        fs_err::create_dir_all(&out)?;
        Ok(Work {
            desk,
            links: false,
            shards: Shards::new(stage, desk.store.partial(&what.stage, &what.key), Sharing::default()),
            what,
            partial,
            out,
            rows: BTreeMap::new(),
            uses: Vec::new(),
            parts: BTreeMap::new(),
            computed: Computed::default(),
            lock: None,
            follows: true,
        })
    }

    /// The result's key.
    pub fn key(&self) -> &str {
        &self.what.key
    }

    /// The folder for the files to be published; empty at first.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// What shards keep of this result, and which share is to be computed here. A share is ended by [`Work::share`].
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// What is computed here of a pass over all images, and where it is kept: as [`Work::shards`], and of several ranks, this
    /// rank's share.
    pub fn pass(&self) -> Shards {
        let world = ranks::world();
        match Shard::all(world.size()).nth(world.rank()) {
            Some(share) if !world.is_alone() => self.shards.of(share),
            _ => self.shards.clone(),
        }
    }

    /// The end of a share of the work, which publishes nothing. Says which shards are missing.
    ///
    /// # Errors
    /// The result, which was published meanwhile, cannot be linked.
    pub fn share(self, is_missing: impl Fn(Shard) -> bool) -> Result<Outcome, Fail> {
        let (desk, what) = (self.desk, &self.what);
        if let Ok(Some(_)) = desk.store.find(&what.stage, &what.key) {
            // What this shard kept since is in nobody's way, and of no use.
            clear(&self.partial);
            if self.links {
                desk.store.point(&desk.run, &what.stage, &what.key)?;
            }
            tracing::info!("{}: the result was published meanwhile", what.stage);
            return Ok(Outcome::Current);
        }
        self.shards.say(is_missing);
        Ok(Outcome::Done)
    }

    /// The folder for checkpoints; what an interrupted process left is still there. Of another rank than 0 it is a private
    /// folder, whose contents end with the work.
    pub fn scratch(&self) -> &Path {
        &self.partial
    }

    /// Records how many rows the table `name` (below [`Work::out`]) has.
    pub fn rows(&mut self, name: &str, rows: u64) {
        self.rows.insert(name.to_owned(), rows);
    }

    /// Records on what the result is computed.
    pub fn computed(&mut self, computed: Computed) {
        self.computed = computed;
    }

    /// Records the digest of a part that other results may take over; see [`crate::Run::reusable`].
    pub fn part(&mut self, name: &str, digest: String) {
        self.parts.insert(name.to_owned(), digest);
    }

    /// Publishes the file `name` of a step's result as this stage's own: the same file where the file system can, a copy
    /// elsewhere. The step's result is kept as long as this one.
    ///
    /// # Errors
    /// The file cannot be read or the disk is full.
    pub fn take(&mut self, step: &Input, name: &str) -> Result<(), Fail> {
        self.take_as(step, name, name)
    }

    /// As [`Work::take`], under the name `to`.
    ///
    /// # Errors
    /// As [`Work::take`].
    pub fn take_as(&mut self, step: &Input, name: &str, to: &str) -> Result<(), Fail> {
        let manifest = step.manifest();
        let used = Use { stage: manifest.stage.clone(), key: manifest.key.clone() };
        if !self.uses.contains(&used) {
            self.uses.push(used);
        }
        if self.follows {
            return Ok(());
        }
        let (from, to) = (step.file(name)?, self.out.join(to));
        if fs_err::hard_link(&from, &to).is_err() {
            fs_err::copy(&from, &to)?;
        }
        Ok(())
    }

    /// Publishes what lies in [`Work::out`] and points the run to it. `metrics` are the stage's headline numbers.
    ///
    /// # Errors
    /// A file cannot be read, written or renamed; the run then still has what it had.
    pub fn publish(self, metrics: Value) -> Result<Outcome, Fail> {
        let desk = self.desk;
        let (links, what) = (self.links, self.what.clone());
        let input = self.finish(metrics)?;
        if links {
            kill_point("before-link");
            desk.store.point(&desk.run, &what.stage, &what.key)?;
            kill_point("after-link");
            let place = desk.store.place(&desk.run, &what.stage);
            tracing::info!("{}: published {} in {:.1} s", what.stage, place.display(), input.manifest().seconds);
        }
        Ok(Outcome::Done)
    }

    /// Puts what lies in [`Work::out`] into the store: synced, hashed, read-only, the manifest last, in one rename.
    ///
    /// # Errors
    /// A file cannot be read, written or renamed.
    ///
    /// Another rank than 0 waits until rank 0 has done it.
    pub fn finish(self, metrics: Value) -> Result<Input, Fail> {
        if let Some(shard) = self.shards.mine() {
            return Err(Fail::failed(anyhow!("shard {shard} of {} is no result", self.what.stage)));
        }
        let (desk, what) = (self.desk, self.what.clone());
        if !self.follows {
            let input = self.put_into_store(metrics)?;
            together::tell(&what.key, Told::Stop(Outcome::Done));
            return Ok(input);
        }
        together::told(&what.key)?;
        Ok(Input::whole(desk.store.await_result(&what.stage, &what.key)?, &desk.verified))
    }

    fn put_into_store(mut self, metrics: Value) -> Result<Input, Fail> {
        let (files, folders) = tree(&self.out)?;
        let mut outputs = Vec::new();
        for name in files {
            let path = self.out.join(&name);
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o444))?;
            fs_err::File::open(&path).and_then(|file| file.sync_all())?;
            let (bytes, modified_ns) = manifest::stat(&path)?;
            let rows = self.rows.get(&name).copied();
            outputs.push(File { blake3: manifest::hash(&path)?, name, bytes, modified_ns, rows });
        }
        self.desk.verified.unchanged()?;
        let (manifest, text) = self.manifest(outputs, metrics).text()?;
        kill_point("before-manifest");
        let path = self.out.join(manifest::FILE);
        let mut file = fs_err::File::create(&path)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o444))?;
        for folder in folders.iter().rev() {
            sync_folder(folder)?;
        }
        kill_point("before-publish");
        let result = self.desk.store.result(&self.what.stage, &self.what.key);
        self.put(&result, &manifest)?;
        sync_folder(result.parent().unwrap_or(Path::new(".")))?;
        sync_folder(&self.desk.store.root())?;
        kill_point("after-publish");
        discard(&self.partial);
        if self.shards.folder() != self.partial {
            discard(self.shards.folder());
        }
        self.lock = None;
        self.desk.store.push(&result)?;
        Ok(Input::whole(Found::here(result, manifest), &self.desk.verified))
    }

    fn manifest(&mut self, outputs: Vec<File>, metrics: Value) -> Manifest {
        let (desk, what) = (self.desk, self.what.clone());
        Manifest {
            format_version: FORMAT,
            stage: what.stage,
            version: what.version,
            key: what.key,
            config: what.config,
            execution: what.execution,
            seed: what.seed,
            limit: what.limit,
            inputs: what.inputs,
            uses: std::mem::take(&mut self.uses),
            parts: std::mem::take(&mut self.parts),
            outputs,
            computed: std::mem::take(&mut self.computed),
            threads: manifest::threads(),
            build: manifest::build(),
            run: desk.run.clone(),
            command: command(),
            started: manifest::rfc3339(desk.started),
            seconds: desk.started.elapsed().unwrap_or_default().as_secs_f64(),
            metrics,
            blake3: String::new(),
        }
    }

    /// Renames the finished folder to its place. A result that is there already (damaged, or `--force`) steps aside; if
    /// it is whole and has the same contents, it stays.
    fn put(&self, result: &Path, manifest: &Manifest) -> Result<(), Fail> {
        if !result.exists() {
            return Ok(fs_err::rename(&self.out, result)?);
        }
        if let Ok(Some(old)) = Manifest::read(result) {
            let whole = old
                .outputs
                .iter()
                .all(|file| manifest::hash(&result.join(&file.name)).is_ok_and(|hash| hash == file.blake3));
            if whole && old.hashes() == manifest.hashes() && old.made_from() == manifest.made_from() {
                tracing::info!("{}: the same contents as before", self.what.stage);
                return Ok(());
            }
            if whole {
                tracing::warn!("{}: other contents than before, {}", self.what.stage, old.made_by());
            }
        }
        let aside = (1..).map(|n| result.with_file_name(format!("{}{REPLACED}{n}", self.what.key)));
        let Some(aside) = aside.into_iter().find(|path: &PathBuf| !path.exists()) else { return Ok(()) };
        match renameat_with(CWD, &self.out, CWD, result, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(fs_err::rename(&self.out, &aside)?),
            // A file system without exchange: two renames, with a moment in which nothing is there.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs_err::rename(result, &aside)?;
                Ok(fs_err::rename(&self.out, result)?)
            }
            Err(error) => {
                let error = std::io::Error::from(error);
                Err(Fail::failed(anyhow!("failed to publish {}: {error}", result.display())))
            }
        }
    }
}

impl Drop for Work<'_> {
    /// Work that ends before it published leaves its checkpoints, and nothing where it has none.
    fn drop(&mut self) {
        if self.follows {
            // What cannot be removed is in the system's folder for such files.
            let _ = fs_err::remove_dir_all(&self.partial);
            return;
        }
        if self.lock.is_none() {
            return;
        }
        // What cannot be removed now is removed by the next attempt, or by `store gc`.
        let _ = fs_err::remove_dir_all(&self.out);
        let left = entries(&self.partial).unwrap_or_default();
        if left.iter().all(|name| [LOCK, ABOUT].contains(&name.as_str())) {
            discard(&self.partial);
        }
    }
}

/// Removes a private folder. It goes under another name first: who waits for its lock makes the folder anew. What cannot
/// be removed now is removed by `store gc`.
fn discard(partial: &Path) {
    let name = partial.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = partial.with_file_name(own_name(&name));
    if fs_err::rename(partial, &aside).is_ok() {
        let _ = fs_err::remove_dir_all(&aside);
    }
}

/// Removes the private folder of a result that is in the store: its process was killed between the two.
pub(crate) fn clear(partial: &Path) {
    if partial.exists()
        && Lock::take(&partial.join(LOCK), FlockOperation::NonBlockingLockExclusive).is_ok_and(|lock| lock.is_some())
    {
        discard(partial);
    }
}

/// How often a held lock is tried again, and after how long: `store runs` holds it for an instant to see whether it is free.
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Takes the lock of a private folder, or says who has it.
fn lock(partial: &Path, stage: &str) -> Result<Lock, Fail> {
    let path = partial.join(LOCK);
    let mut tries = 0;
    loop {
        fs_err::create_dir_all(partial)?;
        let taken = match Lock::take(&path, FlockOperation::NonBlockingLockExclusive) {
            // Its holder has published, and removed the folder, since the line above.
            Err(_) if !partial.exists() => continue,
            taken => taken?,
        };
        let Some(mut lock) = taken else {
            tries += 1;
            if tries < TRIES {
                std::thread::sleep(BETWEEN_TRIES);
                continue;
            }
            let holder = fs_err::read_to_string(&path).unwrap_or_default();
            let message =
                anyhow!("another process makes this result of {stage}: {} holds {}", holder.trim(), path.display());
            return Err(Fail::failed(message).hint("wait for it; the same command then takes its result"));
        };
        // Who held it before may have published, and removed the folder.
        if lock.is_at(&path) {
            lock.sign()?;
            return Ok(lock);
        }
    }
}

/// Names of all files below `folder`, with `/`, sorted; and all folders, `folder` first, each before those in it.
fn tree(folder: &Path) -> std::io::Result<(Vec<String>, Vec<PathBuf>)> {
    let (mut names, mut folders, mut at) = (Vec::new(), vec![(folder.to_path_buf(), String::new())], 0);
    while let Some((path, prefix)) = folders.get(at).cloned() {
        at += 1;
        for entry in fs_err::read_dir(path)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), name + "/"));
            } else {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok((names, folders.into_iter().map(|(path, _)| path).collect()))
}

fn command() -> Vec<String> {
    // Not `args`, which panics where an argument is not UTF-8: a path may be anything.
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}
