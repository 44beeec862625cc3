//! Our weights files: safetensors with metadata.
//!
//! | metadata | value |
//! |---|---|
//! | `agcnn.format` | `agcnn-weights` |
//! | `agcnn.version` | [`VERSION`] |
//! | `agcnn.backbone`, `agcnn.pool` | names of the network's parts |
//! | `agcnn.frame` | how evaluation inputs are cut, [`EvalFrame`] as JSON; absent where the inputs are no images |
//! | `agcnn.tta` | the views whose scores are averaged, [`Tta`]; absent where it is the frame alone |
//! | `agcnn.findings` | the outputs in order, snake_case, separated by commas |
//! | `agcnn.blake3` | digest of the file with 64 zeros in this place |
//!
//! Versions 1 and 2, which are still read, have no digest, and version 1 no frame. Version 3 has no test-time augmentation;
//! a file without any is written as such. Equal tensors and metadata give equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use cxr::{EvalFrame, Tta};

use crate::error::{Error, Result};
use crate::weights::safetensors::{DIGEST, Tensors, read_metadata, read_safetensors, write_safetensors};

/// Version of the format; a file of a newer one is refused.
pub const VERSION: u32 = 4;

/// Version of a file without test-time augmentation.
const PLAIN: u32 = 3;

const FORMAT: &str = "agcnn-weights";

/// The metadata of a weights file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The backbone's name, or `fusion`.
    pub backbone: String,
    /// The pool's name; empty where there is none.
    pub pool: String,
    /// How evaluation inputs are cut from stored images; `None` for `fusion` and in files of version 1.
    pub frame: Option<EvalFrame>,
    /// The views whose scores are averaged.
    pub tta: Tta,
}

/// Writes named f32 tensors atomically, in the order given, with format version and finding order.
///
/// # Errors
/// The disk, with the path; `path` then is as it was.
pub fn write(path: &Path, tensors: &[(String, Tensor)], meta: &Meta) -> Result<()> {
    let mut metadata = BTreeMap::from([
        ("agcnn.format", FORMAT.to_owned()),
        ("agcnn.version", if meta.tta == Tta::None { PLAIN } else { VERSION }.to_string()),
        ("agcnn.backbone", meta.backbone.clone()),
        ("agcnn.pool", meta.pool.clone()),
        ("agcnn.findings", cxr::output_names().join(",")),
    ]);
    if let Some(frame) = meta.frame {
        metadata.insert("agcnn.frame", serde_json::json!(frame).to_string());
    }
    if meta.tta != Tta::None {
        metadata.insert("agcnn.tta", meta.tta.to_string());
    }
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_safetensors(path, tensors, &metadata)
}

/// Reads what [`write`](fn@write) wrote, in its order.
///
/// # Errors
/// No file of ours, a newer version, another finding order, a damaged file.
pub fn read(path: &Path, device: &Device) -> Result<(Tensors, Meta)> {
    let (tensors, metadata) = read_safetensors(path, device)?;
    Ok((tensors, parse(path, metadata)?))
}

/// Reads what a file says about itself, and no tensor.
///
/// # Errors
/// As [`read`].
pub fn meta(path: &Path) -> Result<Meta> {
    parse(path, read_metadata(path)?)
}

/// 64 hex digits over what a network with these weights makes of an input: backbone, pool and tensors. How it is evaluated
/// ([`Meta::frame`], [`Meta::tta`]) is no part of it.
///
/// # Errors
/// As [`read`].
pub fn digest(path: &Path) -> Result<String> {
    let (tensors, meta) = read(path, &Device::Cpu)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{} {}\n", meta.backbone, meta.pool).as_bytes());
    for (name, tensor) in &tensors {
        hasher.update(format!("{name} {:?}\n", tensor.dims()).as_bytes());
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        hasher.update(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn parse(path: &Path, mut metadata: HashMap<String, String>) -> Result<Meta> {
    let mut field = |name: &str| {
        metadata
            .remove(name)
            .ok_or_else(|| Error::malformed(path, format!("no weights file of this pipeline: no metadata {name:?}")))
    };
    let mismatch = |what: &str, got: String, expected: String| Error::Mismatch {
        path: path.to_owned(),
        what: what.to_owned(),
        got,
        expected,
    };
    let format = field("agcnn.format")?;
    if format != FORMAT {
        return Err(mismatch("format", format, FORMAT.to_owned()));
    }
    let version = field("agcnn.version")?;
    let number = version.parse().ok().filter(|version| (1..=VERSION).contains(version));
    let Some(number) = number else {
        return Err(mismatch("format version", version, format!("at most {VERSION}")));
    };
    if number >= PLAIN {
        field(DIGEST)?;
    }
    let (findings, expected) = (field("agcnn.findings")?, cxr::output_names().join(","));
    if findings != expected {
        return Err(mismatch("finding order", findings, expected));
    }
    let (backbone, pool) = (field("agcnn.backbone")?, field("agcnn.pool")?);
    let frame = metadata.remove("agcnn.frame").map(|text| serde_json::from_str(&text)).transpose();
    let frame = frame.map_err(|error| Error::malformed(path, format!("metadata \"agcnn.frame\": {error}")))?;
    let tta = match metadata.remove("agcnn.tta") {
        None => Tta::None,
        Some(text) => {
            text.parse().map_err(|_| Error::malformed(path, format!("metadata \"agcnn.tta\" is {text:?}")))?
        }
    };
    Ok(Meta { backbone, pool, frame, tta })
}
