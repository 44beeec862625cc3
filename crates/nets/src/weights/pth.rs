//! The two kinds of file that `torch.save` has written: both hold pickles and the storages of tensors.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use candle_core::{Device, Tensor};
use zip::ZipArchive;

use crate::weights::pickle::{Storage, Unpickled, Value, View, unpickle};
use crate::weights::safetensors::{Tensors, floats};

/// The number of first bytes that tell the kind.
pub(crate) const SNIFF: usize = 16;

/// Since PyTorch 1.6.
const ZIP: &[u8] = b"PK\x03\x04";

/// Before: the pickle of the number 0x1950a86a20f9469cfc6c.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Keys under which a checkpoint that is more than a state_dict has its state_dict.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Whether a file that starts so is for [`read`].
pub(crate) fn is_pth(start: &[u8]) -> bool {
    start.starts_with(ZIP) || start.starts_with(LEGACY)
}

/// The tensors of floats in the order of the file.
pub(crate) fn read(bytes: &[u8]) -> Result<Tensors, String> {
    match bytes.strip_prefix(LEGACY) {
        Some(rest) => read_legacy(rest),
        None => read_zip(bytes),
    }
}

/// `NAME/data.pkl`, `NAME/byteorder`, `NAME/data/KEY` per storage; nothing is compressed.
fn read_zip(bytes: &[u8]) -> Result<Tensors, String> {
    let damaged = |error| format!("no whole PyTorch file: {error}");
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let names = zip.file_names().map(|name| name.map(|name| name.into_owned()));
    let names = names.collect::<Result<Vec<String>, _>>().map_err(damaged)?;
    let root = names.iter().find_map(|name| name.strip_suffix("data.pkl"));
    let root = root.ok_or("a zip file without data.pkl: not PyTorch's")?;

    let mut left = bytes.len(); // entries do not overlap, so together they are no larger than the file
    let mut entry = |name: &str| -> Result<Vec<u8>, String> {
        let named = |error: &dyn std::fmt::Display| format!("{name}: {error}");
        let entry = zip.by_name(name).map_err(|error| named(&error))?;
        let mut data = Vec::new();
        entry.take(left as u64 + 1).read_to_end(&mut data).map_err(|error| named(&error))?;
        left = left.checked_sub(data.len()).ok_or_else(|| named(&"larger than the file"))?;
        Ok(data)
    };
    let order = format!("{root}byteorder");
    if names.contains(&order) && entry(&order)? != b"little" {
        return Err("written on a big-endian machine".to_owned());
    }
    let pickle = entry(&format!("{root}data.pkl"))?;
    let (pickle, _) = unpickle(&pickle)?;
    tensors(&pickle, bytes.len(), |storage| {
        let data = entry(&format!("{root}data/{}", storage.key))?;
        decode(storage, &data)
    })
}

/// Pickles of the version, of the machine, of the tensors, of the storages' keys; then each storage's number of elements
/// and its elements.
fn read_legacy(bytes: &[u8]) -> Result<Tensors, String> {
    let (version, rest) = unpickle(bytes)?;
    if !matches!(version.root(), Value::Int(1001)) {
        return Err("another version of PyTorch's old format than 1001".to_owned());
    }
    let (machine, rest) = unpickle(rest)?;
    if let Some(Value::Bool(false)) = machine.entry(machine.root(), "little_endian") {
        return Err("written on a big-endian machine".to_owned());
    }
    let (pickle, rest) = unpickle(rest)?;
    let (keys, mut rest) = unpickle(rest)?;
    let Value::List(ids) = keys.root() else {
        return Err("no list of storages".to_owned());
    };
    let known: HashMap<&str, &Storage> = pickle.storages().map(|storage| (storage.key, storage)).collect();
    let mut found: HashMap<&str, &[u8]> = HashMap::new();
    for &id in ids {
        let storage = match keys.get(id) {
            Value::Text(key) => known.get(key),
            _ => None,
        };
        let storage = storage.ok_or("a storage that no tensor uses")?;
        let (count, behind) = rest.split_first_chunk().ok_or("cut short")?;
        let bytes = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(storage.size));
        let (data, behind) = bytes.and_then(|bytes| behind.split_at_checked(bytes)).ok_or("cut short")?;
        found.insert(storage.key, data);
        rest = behind;
    }
    tensors(&pickle, bytes.len(), |storage| {
        let data = found.get(storage.key).ok_or_else(|| format!("storage {}: missing", storage.key))?;
        decode(storage, data)
    })
}

/// The elements of a storage; `None` for integers.
fn decode(storage: &Storage, data: &[u8]) -> Result<Option<Vec<f32>>, String> {
    if storage.count.checked_mul(storage.size) != Some(data.len()) {
        let Storage { key, count, dtype, .. } = storage;
        return Err(format!("storage {key}: {} bytes, expected {count} of {dtype}", data.len()));
    }
    floats(data, storage.dtype)
}

/// Every tensor of the state_dict, together at most `left` elements; `load` gives a storage's and is asked once for each.
///
/// Tied weights share a storage, so there may be more elements than are stored, but no file needs one for every byte.
fn tensors<'a>(
    pickle: &Unpickled<'a>,
    mut left: usize,
    mut load: impl FnMut(&Storage<'a>) -> Result<Option<Vec<f32>>, String>,
) -> Result<Tensors, String> {
    let Value::Dict(entries) = state_dict(pickle)? else {
        return Err("no state_dict: a dict of tensors by name".to_owned());
    };
    let mut loaded: HashMap<&str, Option<Vec<f32>>> = HashMap::new();
    let mut tensors = Vec::with_capacity(entries.len());
    for &(name, tensor) in entries {
        let (Value::Text(name), Value::Tensor(view)) = (pickle.get(name), pickle.get(tensor)) else {
            continue; // a number, a text: no weight
        };
        let storage = &view.storage;
        if !loaded.contains_key(storage.key) {
            let values = load(storage).map_err(|reason| format!("{name}: {reason}"))?;
            loaded.insert(storage.key, values);
        }
        let Some(Some(values)) = loaded.get(storage.key) else { continue };
        left = left.checked_sub(view.elements()).ok_or("tensors with more elements than the file has bytes")?;
        let values = gather(values, view).ok_or_else(|| format!("{name}: not within its storage"))?;
        let tensor =
            Tensor::from_vec(values, view.shape.as_slice(), &Device::Cpu).map_err(|error| error.to_string())?;
        tensors.push(((*name).to_owned(), tensor));
    }
    Ok(tensors)
}

/// The dict of tensors by name, itself or inside a checkpoint.
fn state_dict<'u, 'a>(pickle: &'u Unpickled<'a>) -> Result<&'u Value<'a>, String> {
    let root = pickle.root();
    let Value::Dict(entries) = root else {
        return Err("no state_dict: a dict of tensors by name".to_owned());
    };
    if entries.iter().any(|(_, value)| matches!(pickle.get(*value), Value::Tensor(_))) {
        return Ok(root);
    }
    let inner = WRAPPERS.iter().find_map(|key| pickle.entry(root, key));
    inner.ok_or_else(|| format!("a checkpoint without any of {}", WRAPPERS.join(", ")))
}

/// The elements of a view in row-major order; `None` if one is outside.
fn gather(values: &[f32], view: &View) -> Option<Vec<f32>> {
    let elements = view.elements();
    if view.is_contiguous() {
        return Some(values.get(view.offset..view.offset + elements)?.to_vec());
    }
    let mut gathered = Vec::with_capacity(elements);
    let mut at = vec![0; view.shape.len()];
    for _ in 0..elements {
        let steps = at.iter().zip(&view.stride).map(|(index, stride)| index * stride);
        gathered.push(*values.get(view.offset + steps.sum::<usize>())?);
        for (index, &side) in at.iter_mut().zip(&view.shape).rev() {
            *index += 1;
            if *index < side {
                break;
            }
            *index = 0;
        }
    }
    Some(gathered)
}
