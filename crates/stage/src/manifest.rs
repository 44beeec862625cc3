//! `manifest.json`: where a result's files come from.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Fail;
use crate::settings::digest;

/// Version of the manifest's own format; another one is refused.
pub(crate) const FORMAT: u32 = 3;

/// Name of the manifest in a result's folder.
pub(crate) const FILE: &str = "manifest.json";

/// The most bytes of a manifest; those of 112,120 images have a few thousand files.
pub(crate) const MOST: u64 = 1 << 26;

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Path below the result's folder, with `/`.
    pub name: String,
    /// BLAKE3 of the contents, hex.
    pub blake3: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Time of the last change when published, nanoseconds since 1970: where it is unchanged, nothing is rehashed.
    pub modified_ns: u64,
    /// Rows, for a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// What a stage read: another stage's files, or data from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The other stage, or the label of outside data.
    pub stage: String,
    /// Key of the other stage's result (recorded; the files' contents are what counts); `None` for outside data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where outside data lay (recorded).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<PathBuf>,
    /// BLAKE3 by file name; for outside data one digest under its label.
    pub files: BTreeMap<String, String>,
}

/// A result that this one holds on to without having it as an input: `just gc` keeps it as long as this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The folder in the store, e.g. `training`.
    pub stage: String,
    /// The result's key.
    pub key: String,
}

/// On what a result was computed: recorded, no part of its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Computed {
    /// Name of the device, e.g. `2 CPU threads` or a GPU's name.
    pub device: String,
    /// What `precision` was resolved to: `f32`, `tf32` or `bf16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Instruction set of the CPU kernels, e.g. `avx512`, or `amx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isa: Option<String>,
    /// Processes that computed it together; `None` for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
    /// Of several processes that trained: whether batch norms were over the `whole batch`, or over each rank's `part`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<String>,
}

/// Everything that is recorded about one result.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format_version: u32,
    /// The stage's name.
    pub stage: String,
    /// The stage's own version.
    pub version: u32,
    /// Hash of stage, version, result settings, seed, limit and the contents of the inputs: equal keys, equal results on
    /// the same class of device.
    pub key: String,
    /// Effective configuration of the stage's section.
    pub config: serde_json::Value,
    /// Keys of `config` that are no part of the key.
    pub execution: Vec<String>,
    /// Seed; `None` where the stage uses none.
    pub seed: Option<u64>,
    /// `--limit`.
    pub limit: Option<usize>,
    /// What was read.
    pub inputs: Vec<Source>,
    /// Other results that this one holds on to.
    pub uses: Vec<Use>,
    /// Digests of parts that another result may take over, by name: attend's heat maps.
    pub parts: BTreeMap<String, String>,
    /// What was written.
    pub outputs: Vec<File>,
    /// On what.
    pub computed: Computed,
    /// Worker threads.
    pub threads: usize,
    /// Commit that the program was built from, with `-dirty` where the tree had changes; `None` outside a checkout.
    pub build: Option<String>,
    /// The run that made it.
    pub run: String,
    /// The command line.
    pub command: Vec<String>,
    /// Start, RFC 3339, UTC.
    pub started: String,
    /// Duration in seconds of the process that published.
    pub seconds: f64,
    /// Headline metrics, as the stage gave them.
    pub metrics: serde_json::Value,
    /// Digest of all the rest, in canonical JSON.
    pub blake3: String,
}

impl Manifest {
    /// Reads the manifest of the result in `folder`, whose name is its key; `None` where there is no result.
    ///
    /// # Errors
    /// Exit code 4 for a manifest that is damaged, of another format, or that names files outside its folder.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Fail> {
        let path = folder.join(FILE);
        let text = match regular(&path).and_then(|()| guard::read_to_string(&path, MOST)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(Fail::bad_data(error)),
            Err(error) => return Err(Fail::failed(error)),
        };
        let key = folder.file_name().map(|name| name.to_string_lossy());
        Self::parse(&path, key.as_deref(), &text).map(Some)
    }

    /// The manifest of the result with that key, from the text of the file at `path`.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub(crate) fn parse(path: &Path, key: Option<&str>, text: &str) -> Result<Self, Fail> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let damaged =
            |problem: &dyn std::fmt::Display| Fail::bad_data(anyhow!("{}: not a manifest: {problem}", path.display()));
        let Version { format_version } = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        if format_version != FORMAT {
            return Err(Fail::bad_data(anyhow!(
                "{}: manifest format {format_version}, expected {FORMAT}",
                path.display()
            ))
            .hint("another version of this program wrote it; use that version, or another --artifacts-dir"));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        let expected = self_digest(&value);
        let manifest: Manifest = serde_json::from_value(value).map_err(|error| damaged(&error))?;
        if manifest.blake3 != expected {
            let got = &manifest.blake3;
            return Err(damaged(&format!(
                "its contents have the digest {expected}, it says {got}: it was edited or damaged"
            )));
        }
        if key.is_some_and(|key| key != manifest.key) {
            return Err(damaged(&format!("key {}, expected that of the folder", manifest.key)));
        }
        if let Some(file) = manifest.outputs.iter().find(|file| !stays_inside(&file.name)) {
            return Err(damaged(&format!("it lists the file {:?}, expected one below its folder", file.name)));
        }
        Ok(manifest)
    }

    /// The manifest as it is written, with its own digest.
    pub(crate) fn text(mut self) -> Result<(Self, String), Fail> {
        // Of what a reader will parse: a number may lose its last bit on the way through text.
        let text = serde_json::to_string(&self).map_err(Fail::failed)?;
        self.blake3 = self_digest(&serde_json::from_str(&text).map_err(Fail::failed)?);
        let text = serde_json::to_string_pretty(&self).map_err(Fail::failed)? + "\n";
        Ok((self, text))
    }

    /// BLAKE3 by name of all outputs.
    pub(crate) fn hashes(&self) -> BTreeMap<&str, &str> {
        self.outputs.iter().map(|file| (file.name.as_str(), file.blake3.as_str())).collect()
    }

    /// The contents of the inputs, by stage.
    pub(crate) fn made_from(&self) -> Vec<(&str, &BTreeMap<String, String>)> {
        self.inputs.iter().map(|source| (source.stage.as_str(), &source.files)).collect()
    }

    /// `made by run demo on 2026-11-28`.
    pub fn made_by(&self) -> String {
        format!("made by run {} on {}", self.run, self.started.split('T').next().unwrap_or_default())
    }

    /// Where data from outside lay when this result was made.
    pub fn place(&self, label: &str) -> Option<&Path> {
        self.inputs.iter().find(|source| source.stage == label)?.place.as_deref()
    }
}

/// Size in bytes and time of the last change in nanoseconds since 1970.
pub(crate) fn stat(path: &Path) -> std::io::Result<(u64, u64)> {
    regular(path)?;
    let data = fs_err::metadata(path)?;
    let since = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((data.len(), u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
}

/// Opens a regular file that no link leads to.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<fs_err::File> {
    regular(path)?;
    guard::open(path)
}

fn regular(path: &Path) -> std::io::Result<()> {
    match fs_err::symlink_metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("{} is no regular file", path.display()))),
    }
}

/// BLAKE3 of the contents of a file of the store, hex.
pub(crate) fn hash(path: &Path) -> std::io::Result<String> {
    hash_open(open_regular(path)?)
}

/// BLAKE3 of what is left of an open file, hex.
pub(crate) fn hash_open(file: fs_err::File) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Digest of a manifest without its own digest.
fn self_digest(manifest: &Value) -> String {
    let mut rest = manifest.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("blake3");
    }
    digest(&rest)
}

/// A relative path of plain names.
fn stays_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// The commit that this program was built from, if known.
pub fn build() -> Option<String> {
    option_env!("AGCNN_BUILD").filter(|build| !build.is_empty()).map(str::to_owned)
}

/// Worker threads, by rayon's own rule.
pub fn threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
    asked.unwrap_or_else(|| {
        let available = std::thread::available_parallelism().map_or(1, Into::into);
        match ranks::world().local_size() {
            1 => available,
            ranks => available.min((processors().unwrap_or(available) / ranks).max(1)),
        }
    })
}

/// Processors of this machine, whether this process may use them or not.
fn processors() -> Option<usize> {
    let text = fs_err::read_to_string("/proc/cpuinfo").ok()?;
    Some(text.lines().filter(|line| line.starts_with("processor")).count()).filter(|&count| count > 0)
}

/// A time as RFC 3339, UTC. A clock or a file's date may say anything: what is before 1970 or behind the year 9999 is moved
/// there.
pub fn rfc3339(time: SystemTime) -> String {
    const LAST: u64 = 253_402_300_799;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(since)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_has_a_text() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(rfc3339(at(1_795_824_000)), "2026-11-28T00:00:00Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(1 << 40)), "9999-12-31T23:59:59Z");
    }
}
