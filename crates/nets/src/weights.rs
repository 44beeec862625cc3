//! Weights files: safetensors whose metadata says of what, and in which order the findings are.
//!
//! | metadata | value |
//! |---|---|
//! | `agcnn.format` | `agcnn-weights` |
//! | `agcnn.version` | [`VERSION`] |
//! | `agcnn.backbone`, `agcnn.pool` | what the weights are of |
//! | `agcnn.findings` | the outputs in order, snake_case, separated by commas |
//! | `agcnn.key` | the run that made it |
//!
//! Equal tensors and metadata give equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde_json::json;

use crate::{Error, Result, import};

/// Version of the format; a file of a newer one is refused.
pub const VERSION: u32 = 1;

const FORMAT: &str = "agcnn-weights";

/// Named tensors, in order.
pub type Tensors = Vec<(String, Tensor)>;

/// What a weights file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// What the weights are of: a backbone's name, or e.g. `fusion`.
    pub backbone: String,
    /// The pool's name; empty where there is none.
    pub pool: String,
    /// Which run made it.
    pub key: String,
}

/// Writes named f32 tensors atomically, in the order given, with format version and finding order.
///
/// # Errors
/// The disk, with the path; `path` then is as it was.
pub fn write(path: &Path, tensors: &[(String, Tensor)], meta: &Meta) -> Result<()> {
    let metadata = BTreeMap::from([
        ("agcnn.format", FORMAT.to_owned()),
        ("agcnn.version", VERSION.to_string()),
        ("agcnn.backbone", meta.backbone.clone()),
        ("agcnn.pool", meta.pool.clone()),
        ("agcnn.findings", cxr::output_names().join(",")),
        ("agcnn.key", meta.key.clone()),
    ]);
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_safetensors(path, tensors, &metadata)
}

/// Reads what [`write`](fn@write) wrote, in the order it was given.
///
/// # Errors
/// No file of ours, a newer version, another finding order, a damaged file.
pub fn read(path: &Path, device: &Device) -> Result<(Tensors, Meta)> {
    let (tensors, mut metadata) = read_safetensors(path, device)?;
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
    if version != VERSION.to_string() {
        return Err(mismatch("format version", version, VERSION.to_string()));
    }
    let (findings, expected) = (field("agcnn.findings")?, cxr::output_names().join(","));
    if findings != expected {
        return Err(mismatch("finding order", findings, expected));
    }
    let meta = Meta { backbone: field("agcnn.backbone")?, pool: field("agcnn.pool")?, key: field("agcnn.key")? };
    Ok((tensors, meta))
}

/// Writes a safetensors file of f32 tensors by way of a temporary file.
///
/// The crate `safetensors` writes metadata in an order that changes from run to run; this does not.
pub(crate) fn write_safetensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
    metadata: &BTreeMap<&str, String>,
) -> Result<()> {
    let tensors: Vec<_> = tensors.collect();
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut offset = 0;
    for (name, tensor) in &tensors {
        let end = offset + tensor.elem_count() * DType::F32.size_in_bytes();
        let entry = json!({"dtype": "F32", "shape": tensor.dims(), "data_offsets": [offset, end]});
        header.insert((*name).to_owned(), entry);
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' '); // the data begin aligned

    write_atomic(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in &tensors {
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            file.write_all(&bytes)?;
        }
        Ok(())
    })
}

/// Reads a safetensors file: tensors as f32 in the order of their data, metadata.
pub(crate) fn read_safetensors(path: &Path, device: &Device) -> Result<(Tensors, HashMap<String, String>)> {
    let bytes = fs_err::read(path)?;
    let damaged = |error| Error::malformed(path, format!("no whole safetensors file: {error}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut tensors = Vec::with_capacity(file.len());
    for name in header.offset_keys() {
        let view = file.tensor(&name).map_err(damaged)?;
        let values = import::floats(view.data(), &format!("{:?}", view.dtype()))
            .map_err(|reason| Error::malformed(path, format!("{name}: {reason}")))?;
        if let Some(values) = values {
            tensors.push((name, Tensor::from_vec(values, view.shape(), device)?));
        }
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

/// Writes `path` whole or not at all: a temporary file beside it, synced, renamed, the folder synced.
pub(crate) fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut std::io::BufWriter<fs_err::File>) -> Result<()>,
) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = (|| -> Result<()> {
        let mut file = std::io::BufWriter::new(fs_err::File::create(&part)?);
        write(&mut file)?;
        let file = file.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()?;
        fs_err::rename(&part, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => {
                fs_err::File::open(folder)?.sync_all()?;
            }
            _ => {}
        }
        Ok(())
    })();
    if written.is_err() {
        let _ = fs_err::remove_file(&part); // the first error matters
    }
    written
}
