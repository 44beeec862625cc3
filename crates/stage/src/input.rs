//! Files of a result, checked against its manifest.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde_json::json;

use crate::Fail;
use crate::manifest::{File, Manifest, hash, stat};
use crate::settings::digest;
use crate::store::Found;

/// The verified files of a result.
#[derive(Debug, Clone)]
pub struct Input {
    folder: PathBuf,
    names: Vec<String>,
    manifest: Box<Manifest>,
}

/// Outputs of a result that are not as they were published, one line each.
pub(crate) fn changed(found: &Found, verify: bool) -> Vec<String> {
    let changed = |file: &File| check_unchanged(&found.folder, file, verify).is_err();
    let outputs = found.manifest.outputs.iter().filter(|file| changed(file));
    outputs.map(|file| format!("output {} is missing or changed", file.name)).collect()
}

/// The file is what the stage published: its size and date are, or its contents; `verify` reads them in any case.
pub(crate) fn check_unchanged(folder: &Path, file: &File, verify: bool) -> Result<(), Fail> {
    let path = folder.join(&file.name);
    let (bytes, modified_ns) = stat(&path).map_err(Fail::missing)?;
    if !verify && (bytes, modified_ns) == (file.bytes, file.modified_ns) {
        return Ok(());
    }
    let got = if bytes == file.bytes { hash(&path)? } else { format!("unread, {bytes} bytes") };
    if got == file.blake3 {
        return Ok(());
    }
    Err(Fail::missing(anyhow!(
        "{} was changed since it was published: BLAKE3 {got}, expected {}, {} bytes",
        path.display(),
        file.blake3,
        file.bytes
    )))
}

impl Input {
    /// Some files of a result.
    pub(crate) fn of(found: Found, names: Vec<String>) -> Input {
        Input { folder: found.folder, names, manifest: Box::new(found.manifest) }
    }

    /// All files of a result.
    pub(crate) fn whole(found: Found) -> Input {
        let names = found.manifest.outputs.iter().map(|file| file.name.clone()).collect();
        Input::of(found, names)
    }

    /// The result's folder, in the store.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of the file with that name below the result's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Paths of all files whose names begin with `prefix`, sorted.
    pub fn files(&self, prefix: &str) -> Vec<PathBuf> {
        let mut names: Vec<_> = self.names.iter().filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names.into_iter().map(|name| self.folder.join(name)).collect()
    }

    /// Digest of the contents of all files whose names begin with `prefix`.
    pub fn digest(&self, prefix: &str) -> String {
        let mut hashes = self.manifest.hashes();
        hashes.retain(|name, _| name.starts_with(prefix));
        digest(&json!(hashes))
    }

    /// Everything recorded about the result.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}
