//! `manifest.json`: where a stage's files come from.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Fail;

/// Version of the manifest's own format; a newer one is refused.
pub(crate) const FORMAT: u32 = 1;

/// Name of the manifest in a stage's folder.
pub(crate) const FILE: &str = "manifest.json";

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Path below the stage's folder, with `/`.
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
    /// The run that the stage's files were in; `None` for outside data.
    pub run: Option<String>,
    /// BLAKE3 by file name; for outside data one fingerprint under its label.
    pub files: BTreeMap<String, String>,
}

/// Everything that is recorded about one published stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub format_version: u32,
    /// The stage's name.
    pub stage: String,
    /// The stage's own version.
    pub version: u32,
    /// Hash of stage, version, configuration, seed, limit and inputs: equal keys, equal results.
    pub key: String,
    /// Effective configuration of the stage's section.
    pub config: serde_json::Value,
    /// Seed.
    pub seed: u64,
    /// `--limit`.
    pub limit: Option<usize>,
    /// `--device` (recorded, not part of the key).
    pub device: String,
    /// What was read.
    pub inputs: Vec<Source>,
    /// What was written.
    pub outputs: Vec<File>,
    /// Git commit of the working folder, with `-dirty`; `None` outside a checkout.
    pub git: Option<String>,
    /// Version of the stage's package.
    pub package: String,
    /// The command line.
    pub command: Vec<String>,
    /// Start, RFC 3339, UTC.
    pub started: String,
    /// Duration in seconds of the run that published.
    pub seconds: f64,
    /// Worker threads.
    pub threads: usize,
    /// Headline metrics, as the stage gave them.
    pub metrics: serde_json::Value,
}

impl Manifest {
    /// Reads a published stage's manifest; `None` where the stage never published.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Fail> {
        let path = folder.join(FILE);
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fail::failed(error)),
        };
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let unreadable =
            |e: serde_json::Error| Fail::bad_data(anyhow::anyhow!("{}: not a manifest: {e}", path.display()));
        let Version { format_version } = serde_json::from_str(&text).map_err(unreadable)?;
        if format_version > FORMAT {
            return Err(Fail::bad_data(anyhow::anyhow!(
                "{}: manifest format {format_version}, expected at most {FORMAT}",
                path.display()
            ))
            .hint("it was written by a newer version of this program; update, or use another --run"));
        }
        serde_json::from_str(&text).map(Some).map_err(unreadable)
    }

    /// BLAKE3 by name of all outputs.
    pub(crate) fn hashes(&self) -> BTreeMap<String, String> {
        self.outputs.iter().map(|file| (file.name.clone(), file.blake3.clone())).collect()
    }
}

/// Size in bytes and time of the last change in nanoseconds since 1970.
pub(crate) fn stat(path: &Path) -> std::io::Result<(u64, u64)> {
    let data = fs_err::metadata(path)?;
    let since = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((data.len(), u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
}

/// BLAKE3 of a file's contents, hex.
pub(crate) fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

/// The commit of the working folder, if it is a git checkout and git is there.
pub(crate) fn git() -> Option<String> {
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if dirty { commit + "-dirty" } else { commit })
}

/// A time as RFC 3339, UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
