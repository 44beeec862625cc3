//! What the store holds, who links to it, and what nobody does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use serde_json::Value;

use crate::Fail;
use crate::manifest::{Manifest, hash_open};
use crate::store::{Lock, PARTIAL, Store, entries};

/// What a folder of the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A published result.
    Result,
    /// A stage at work, or interrupted.
    Partial,
    /// A result that another one replaced, or what a clean-up did not finish.
    Leftover,
}

/// One folder of the store.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where it is.
    pub folder: PathBuf,
    /// The stage, or the step `training`.
    pub stage: String,
    /// The key, with what its kind appends.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The run that made it, or is making it; empty where unknown.
    pub run: String,
    /// The stage's own words about it.
    pub headline: String,
    /// Bytes on disk that no other folder shares.
    pub bytes: u64,
    /// The last change of any of its files.
    pub changed: SystemTime,
    /// Runs that link to it.
    pub linked_by: Vec<String>,
    /// Whether a run links to it, or to a result that holds on to it.
    pub reached: bool,
    /// Whether a process is at work on it.
    pub at_work: bool,
}

/// The artefacts folder at one moment.
#[derive(Debug)]
pub struct Inventory {
    /// Every folder of the store, by stage and name.
    pub items: Vec<Item>,
    /// Folders that version 0.1 left in the place of links: run and stage.
    pub old: Vec<(String, String)>,
    /// Links whose result is gone: run and stage.
    pub dangling: Vec<(String, String)>,
}

/// Looks through the artefacts folder.
///
/// # Errors
/// A folder cannot be read.
pub fn inventory(artifacts: &Path) -> Result<Inventory, Fail> {
    let store = Store::new(artifacts)?;
    let mut items = Vec::new();
    let mut seen = BTreeSet::new();
    for stage in entries(&store.root()).unwrap_or_default() {
        let folder = store.root().join(&stage);
        if stage == "raw" || !folder.is_dir() {
            continue;
        }
        for name in entries(&folder)? {
            match item(&folder.join(&name), &stage, &name, &mut seen) {
                Ok(item) => items.push(item),
                // Of a stage that has just finished.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let runs = store.runs()?;
    let mut inventory = Inventory { items, old: Vec::new(), dangling: Vec::new() };
    for (run, held) in &runs {
        inventory.old.extend(held.old.iter().map(|stage| (run.clone(), stage.clone())));
        for (stage, key) in &held.links {
            match inventory.items.iter_mut().find(|item| item.stage == *stage && item.name == *key) {
                Some(item) => item.linked_by.push(run.clone()),
                None => inventory.dangling.push((run.clone(), stage.clone())),
            }
        }
    }
    inventory.reach();
    Ok(inventory)
}

fn item(folder: &Path, stage: &str, name: &str, seen: &mut BTreeSet<(u64, u64)>) -> std::io::Result<Item> {
    let (bytes, changed) = measure(folder, seen)?;
    let mut item = Item {
        folder: folder.to_owned(),
        stage: stage.to_owned(),
        name: name.to_owned(),
        kind: Kind::Leftover,
        run: String::new(),
        headline: String::new(),
        bytes,
        changed,
        linked_by: Vec::new(),
        reached: false,
        at_work: false,
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.ends_with(PARTIAL) {
        item.kind = Kind::Partial;
        let about = fs_err::read_to_string(folder.join("about.json")).unwrap_or_default();
        let about: Value = serde_json::from_str(&about).unwrap_or_default();
        (item.run, item.headline) = (text(&about, "run"), "unfinished".to_owned());
        item.at_work = Lock::is_held(&folder.join("lock"))?;
    } else if name.bytes().all(|c| c.is_ascii_hexdigit()) {
        item.kind = Kind::Result;
        match Manifest::read(folder) {
            Ok(Some(manifest)) => (item.headline, item.run) = (text(&manifest.metrics, "headline"), manifest.run),
            Ok(None) => item.kind = Kind::Leftover,
            Err(error) => item.headline = error.to_string(),
        }
    }
    Ok(item)
}

/// Bytes below `folder` that are not in `seen`, files with several names once; and the last change.
fn measure(folder: &Path, seen: &mut BTreeSet<(u64, u64)>) -> std::io::Result<(u64, SystemTime)> {
    let about = fs_err::symlink_metadata(folder)?;
    let mut changed = about.modified()?;
    let mut bytes = if seen.insert((about.dev(), about.ino())) { about.blocks() * 512 } else { 0 };
    if about.is_dir() {
        for name in entries(folder)? {
            match measure(&folder.join(name), seen) {
                Ok((more, later)) => (bytes, changed) = (bytes + more, changed.max(later)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok((bytes, changed))
}

impl Inventory {
    /// Marks what runs link to, and what that holds on to.
    fn reach(&mut self) {
        let index: BTreeMap<(String, String), usize> =
            self.items.iter().enumerate().map(|(at, item)| ((item.stage.clone(), item.name.clone()), at)).collect();
        let mut open: Vec<usize> = (0..self.items.len()).filter(|&at| !self.items[at].linked_by.is_empty()).collect();
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut self.items[at].reached, true) {
                continue;
            }
            match Manifest::read(&self.items[at].folder) {
                Ok(manifest) => {
                    let uses = manifest.into_iter().flat_map(|manifest| manifest.uses);
                    open.extend(uses.filter_map(|used| index.get(&(used.stage, used.key))));
                }
                // Nobody knows what it holds on to: perhaps a training of days.
                Err(_) => open.extend((0..self.items.len()).filter(|&at| self.items[at].kind == Kind::Result)),
            }
        }
    }

    /// What no run links to, nobody works on, and has not changed for `age`.
    pub fn garbage(&self, age: Duration) -> Vec<&Item> {
        let old = |item: &&Item| item.changed.elapsed().is_ok_and(|since| since >= age);
        self.items.iter().filter(|item| !item.reached && !item.at_work).filter(old).collect()
    }

    /// Results that hold a file with the same contents: where a copied table comes from.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn find(&self, file: &Path) -> Result<Vec<(&Item, String)>, Fail> {
        let wanted = guard::open(file).and_then(hash_open).map_err(Fail::missing)?;
        let mut found = Vec::new();
        for item in self.items.iter().filter(|item| item.kind == Kind::Result) {
            if let Ok(Some(manifest)) = Manifest::read(&item.folder) {
                let same = manifest.outputs.into_iter().filter(|file| file.blake3 == wanted);
                found.extend(same.map(|file| (item, file.name)));
            }
        }
        Ok(found)
    }
}

/// Removes folders of the store.
///
/// # Errors
/// Exit code 1 where a stage is at work; a folder cannot be removed.
pub fn remove(artifacts: &Path, age: Duration) -> Result<u64, Fail> {
    let store = Store::new(artifacts)?;
    let Some(_alone) = store.alone()? else {
        return Err(Fail::failed(anyhow!("a stage is at work in {}", store.root().display()))
            .hint("run the clean-up again when it has finished"));
    };
    // Looked through again: nobody can link to anything now.
    let mut removed = 0;
    for item in inventory(artifacts)?.garbage(age) {
        // Under another name first, so that a clean-up that is killed leaves no half of a result.
        let gone = item.folder.with_file_name(format!(".gone-{}", item.name));
        fs_err::rename(&item.folder, &gone)?;
        fs_err::remove_dir_all(&gone)?;
        removed += item.bytes;
    }
    Ok(removed)
}
