//! Files of a result, checked against its manifest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;

use crate::Fail;
use crate::manifest::{File, Manifest, hash, stat};
use crate::settings::digest;
use crate::store::Found;
use crate::verified::Verified;

/// Files of a result. Who asks for their paths gets those of files whose contents are what the manifest says.
#[derive(Debug, Clone)]
pub struct Input {
    found: Box<Found>,
    names: Vec<String>,
    verified: Arc<Verified>,
}

/// Outputs of a result that are not as they were published, one line each.
pub(crate) fn changed(found: &Found, verify: bool) -> Vec<String> {
    let changed = |file: &File| check_unchanged(found, file, verify).is_err();
    let outputs = found.manifest.outputs.iter().filter(|file| changed(file));
    outputs.map(|file| format!("output {} is missing or changed", file.name)).collect()
}

/// The file is what the stage published: its size and date are, or its contents; `verify` reads them in any case. What is
/// in a bucket only is fetched by `verify`, and otherwise when it is needed.
pub(crate) fn check_unchanged(found: &Found, file: &File, verify: bool) -> Result<(), Fail> {
    if found.is_elsewhere(file) {
        return if verify { found.fetch(&[file]) } else { Ok(()) };
    }
    let path = found.folder.join(&file.name);
    let (bytes, modified_ns) = stat(&path).map_err(Fail::missing)?;
    if !verify && (bytes, modified_ns) == (file.bytes, file.modified_ns) {
        return Ok(());
    }
    let got = if bytes == file.bytes { hash(&path)? } else { format!("unread, {bytes} bytes") };
    if got == file.blake3 {
        return Ok(());
    }
    Err(Fail::bad_data(anyhow!(
        "{} was changed since it was published: BLAKE3 {got}, expected {}, {} bytes",
        path.display(),
        file.blake3,
        file.bytes
    )))
}

impl Input {
    /// Some files of a result.
    pub(crate) fn of(found: Found, names: Vec<String>, verified: &Arc<Verified>) -> Input {
        Input { found: Box::new(found), names, verified: verified.clone() }
    }

    /// All files of a result.
    pub(crate) fn whole(found: Found, verified: &Arc<Verified>) -> Input {
        let names = found.manifest.outputs.iter().map(|file| file.name.clone()).collect();
        Input::of(found, names, verified)
    }

    /// The result's folder, for messages. Its files are there when [`Input::on_disk`], [`Input::file`], [`Input::files`]
    /// or [`Input::verify`] was asked; the latter three compare their contents.
    pub fn folder(&self) -> &Path {
        &self.found.folder
    }

    /// The result's folder, with all files of this input in it.
    ///
    /// # Errors
    /// A file that cannot be fetched from a bucket.
    pub fn on_disk(&self) -> Result<&Path, Fail> {
        let files: Vec<&File> = self.outputs().filter(|file| self.names.contains(&file.name)).collect();
        self.found.fetch(&files)?;
        Ok(&self.found.folder)
    }

    fn outputs(&self) -> impl Iterator<Item = &File> {
        self.found.manifest.outputs.iter()
    }

    /// Path of the file with that name below the result's folder.
    ///
    /// # Errors
    /// As [`Input::files`]; exit code 3 where the result has no such file.
    pub fn file(&self, name: &str) -> Result<PathBuf, Fail> {
        if !self.names.iter().any(|known| known == name) {
            return Err(Fail::missing(anyhow!("{}: no file {name} was published there", self.found.folder.display())));
        }
        self.check(&|known| known == name)?;
        Ok(self.found.folder.join(name))
    }

    /// Paths of all files whose names begin with `prefix`, sorted. Their contents have been read and compared with the
    /// manifest's digests: two or three seconds for NIH's 112,120 images of 256 px.
    ///
    /// # Errors
    /// Exit code 3 for a file that is missing, 4 for one with other contents.
    pub fn files(&self, prefix: &str) -> Result<Vec<PathBuf>, Fail> {
        self.verify(prefix)?;
        let mut names: Vec<_> = self.names.iter().filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        Ok(names.into_iter().map(|name| self.found.folder.join(name)).collect())
    }

    /// The first of [`Input::files`], and no other is read: for what all files of a table say alike.
    ///
    /// # Errors
    /// As [`Input::file`].
    pub fn first(&self, prefix: &str) -> Result<PathBuf, Fail> {
        self.file(self.names.iter().filter(|name| name.starts_with(prefix)).min().map_or(prefix, String::as_str))
    }

    /// Compares the contents of all files whose names begin with `prefix` with the manifest's digests.
    ///
    /// # Errors
    /// As [`Input::files`].
    pub fn verify(&self, prefix: &str) -> Result<(), Fail> {
        self.check(&|name| name.starts_with(prefix))
    }

    fn check(&self, wanted: &dyn Fn(&str) -> bool) -> Result<(), Fail> {
        let wanted = |file: &&File| self.names.contains(&file.name) && wanted(&file.name);
        let files: Vec<&File> = self.outputs().filter(wanted).collect();
        let stage = &self.found.manifest.stage;
        self.found.check(&files, &self.verified).map_err(|fail| match fail.hint {
            None => fail.hint(format!("just {stage} --verify finds what is damaged, and makes it again")),
            Some(_) => fail,
        })
    }

    /// Digest of the contents of all files whose names begin with `prefix`, as the manifest has them.
    pub fn digest(&self, prefix: &str) -> String {
        let mut hashes = self.found.manifest.hashes();
        hashes.retain(|name, _| name.starts_with(prefix));
        digest(&json!(hashes))
    }

    /// Everything recorded about the result.
    pub fn manifest(&self) -> &Manifest {
        &self.found.manifest
    }
}
