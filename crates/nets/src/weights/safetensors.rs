//! Safetensors files: named tensors and texts.
//!
//! Files that we write carry a digest of themselves, the metadata [`DIGEST`]: BLAKE3 of the whole file, hex, taken with
//! 64 zeros in its own place. Readers of tensors compare it with the bytes that they parse. Files of others have none.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use serde_json::json;

use crate::canonical::canonical;
use crate::error::{Error, Result};

/// Named tensors, in order.
pub type Tensors = Vec<(String, Tensor)>;

/// The largest header that is read, in bytes: the limit of the crate `safetensors`.
const MAX_HEADER: u64 = 100_000_000;

/// The most bytes of a file of weights; those of the largest backbone have 0.1 GB.
pub(crate) const MAX_FILE: u64 = 1 << 32;

/// Metadata key of a file's own digest.
pub(crate) const DIGEST: &str = "agcnn.blake3";

/// Stands in the place of a file's own digest while that is taken.
const NOT_YET: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Writes a safetensors file of f32 tensors by way of a temporary file, with its own digest.
///
/// The crate `safetensors` writes metadata in an order that changes from run to run; this does not.
pub(crate) fn write_safetensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
    metadata: &BTreeMap<&str, String>,
) -> Result<()> {
    let tensors: Vec<_> = tensors.collect();
    let mut header = serde_json::Map::new();
    let mut metadata = metadata.clone();
    metadata.insert(DIGEST, NOT_YET.to_owned());
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut offset = 0;
    for (name, tensor) in &tensors {
        let end = offset + tensor.elem_count() * DType::F32.size_in_bytes();
        let entry = json!({"dtype": "F32", "shape": tensor.dims(), "data_offsets": [offset, end]});
        header.insert((*name).to_owned(), entry);
        offset = end;
    }
    let mut header = canonical(&serde_json::Value::Object(header)).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' '); // the data begin aligned

    let place =
        8 + place_of_digest(&header).ok_or_else(|| Error::malformed(path, "a tensor is called as the digest is"))?;
    write_atomic(path, |file| {
        let mut hasher = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| -> Result<()> {
            hasher.update(bytes);
            Ok(file.write_all(bytes)?)
        };
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        for (_, tensor) in &tensors {
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            put(&bytes)?;
        }
        file.seek(SeekFrom::Start(place as u64))?;
        Ok(file.write_all(hasher.finalize().to_hex().as_bytes())?)
    })
}

/// Where the 64 digits of the digest begin in a header; `None` where there is none, or more than one.
fn place_of_digest(header: &[u8]) -> Option<usize> {
    let before = format!("\"{DIGEST}\":\"");
    let mut found = header.windows(before.len()).enumerate().filter(|(_, window)| *window == before.as_bytes());
    let (at, _) = found.next()?;
    let digits = at + before.len();
    let whole = header.get(digits..digits + NOT_YET.len()).is_some_and(|text| text.iter().all(u8::is_ascii_hexdigit));
    (found.next().is_none() && whole).then_some(digits)
}

/// The header of a file that is what its own digest says; of a file without one nothing is known.
///
/// # Errors
/// A damaged header; the digest is another one.
pub(crate) fn own_digest(path: &Path, bytes: &[u8]) -> Result<Metadata> {
    let damaged = |error| Error::malformed(path, format!("no whole safetensors file: {error}"));
    let (length, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    if let Some(metadata) = header.metadata() {
        verify(bytes, 8..8 + length, metadata).map_err(|reason| Error::malformed(path, reason))?;
    }
    Ok(header)
}

fn verify(
    bytes: &[u8],
    header: std::ops::Range<usize>,
    metadata: &HashMap<String, String>,
) -> std::result::Result<(), String> {
    let Some(expected) = metadata.get(DIGEST) else { return Ok(()) };
    let place = bytes.get(header.clone()).and_then(place_of_digest);
    let place = header.start + place.ok_or_else(|| format!("{DIGEST} is {expected:?}, expected 64 hex digits"))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..place]).update(NOT_YET.as_bytes()).update(&bytes[place + NOT_YET.len()..]);
    let got = hasher.finalize().to_hex();
    match got.as_str() == expected {
        true => Ok(()),
        false => Err(format!("it was changed or damaged since it was written: BLAKE3 {got}, expected {expected}")),
    }
}

/// The metadata of a safetensors file; reads nothing but the header.
///
/// # Errors
/// The disk; a file whose header is damaged, or that does not hold the data that its header lists.
pub(crate) fn read_metadata(path: &Path) -> Result<HashMap<String, String>> {
    let damaged = |error: &dyn std::fmt::Display| Error::malformed(path, format!("no whole safetensors file: {error}"));
    let mut file = guard::open(path)?;
    let size = file.metadata()?.len();
    let mut length = [0; 8];
    let mut header = Vec::new();
    file.read_exact(&mut length).map_err(|error| damaged(&error))?;
    let length = u64::from_le_bytes(length);
    if length > size.min(MAX_HEADER) {
        return Err(damaged(&format!("a header of {length} bytes")));
    }
    file.take(length).read_to_end(&mut header)?;
    let (end, metadata) = parse_header(&header).map_err(|error| damaged(&error))?;
    if size != 8 + length + end {
        return Err(damaged(&format!("{size} bytes, expected {}", 8 + length + end)));
    }
    Ok(metadata)
}

/// Where the data end, and the metadata.
fn parse_header(header: &[u8]) -> serde_json::Result<(u64, HashMap<String, String>)> {
    let mut entries: HashMap<String, serde_json::Value> = serde_json::from_slice(header)?;
    let metadata = entries.remove("__metadata__").map(serde_json::from_value).transpose()?.unwrap_or_default();
    let ends = entries.values().filter_map(|entry| entry["data_offsets"][1].as_u64());
    Ok((ends.max().unwrap_or(0), metadata))
}

/// Reads a safetensors file: tensors as f32 in the order of their data, metadata.
pub(crate) fn read_safetensors(path: &Path, device: &Device) -> Result<(Tensors, HashMap<String, String>)> {
    let bytes = guard::read(path, MAX_FILE)?;
    let damaged = |error| Error::malformed(path, format!("no whole safetensors file: {error}"));
    let header = own_digest(path, &bytes)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut tensors = Vec::with_capacity(file.len());
    for name in header.offset_keys() {
        let view = file.tensor(&name).map_err(damaged)?;
        let values = floats(view.data(), &format!("{:?}", view.dtype()))
            .map_err(|reason| Error::malformed(path, format!("{name}: {reason}")))?;
        if let Some(values) = values {
            tensors.push((name, Tensor::from_vec(values, view.shape(), device)?));
        }
    }
    Ok((tensors, metadata))
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

/// Little-endian `data` as f32; `None` for integers, which no weight is.
///
/// `dtype` is safetensors' name, e.g. `BF16`.
///
/// # Errors
/// A type that is no number, or a number of bytes that is no multiple of its size.
pub(crate) fn floats(data: &[u8], dtype: &str) -> std::result::Result<Option<Vec<f32>>, String> {
    fn each<const B: usize>(
        data: &[u8],
        dtype: &str,
        value: impl Fn([u8; B]) -> f32,
    ) -> std::result::Result<Vec<f32>, String> {
        let (values, rest) = data.as_chunks::<B>();
        if rest.is_empty() {
            Ok(values.iter().copied().map(value).collect())
        } else {
            Err(format!("{} bytes of {dtype}, expected a multiple of {B}", data.len()))
        }
    }
    Ok(Some(match dtype {
        "F32" => each(data, dtype, f32::from_le_bytes)?,
        "F16" => each(data, dtype, |bytes| half::f16::from_le_bytes(bytes).to_f32())?,
        "BF16" => each(data, dtype, |bytes| half::bf16::from_le_bytes(bytes).to_f32())?,
        "F64" => each(data, dtype, |bytes| f64::from_le_bytes(bytes) as f32)?,
        "BOOL" | "U8" | "I8" | "U16" | "I16" | "U32" | "I32" | "U64" | "I64" => return Ok(None),
        other => return Err(format!("type {other}, expected F32, F16, BF16 or F64")),
    }))
}
