//! The two kinds of file that `torch.save` has written: both hold pickles and the storages of tensors.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use candle_core::{Device, Tensor};
use zip::ZipArchive;

use crate::weights::choose::Table;
use crate::weights::pickle::{Found, Storage, Unpickled, Value, View, found, unpickle};
use crate::weights::safetensors::floats;
use crate::weights::sniff::Kind;
use crate::weights::words::sample;

/// What is inflated of a compressed file, for each of its bytes: floats are compressed to 0.9 of their size, f64 that were
/// f32 to a half.
const INFLATION: usize = 4;

/// A compressed file of any size may have so many bytes.
const SMALL: usize = 1 << 20;

/// Reads a tensor, by the indices of its table and of itself.
pub(crate) type Load<'l> = dyn FnMut(usize, usize) -> Result<Tensor, String> + 'l;

/// Hands what a file has to `take`: its tensors of floats, not read yet, some of the classes that it names, and what reads
/// a tensor.
///
/// # Errors
/// A file that is cut short, damaged or not PyTorch's.
pub(crate) fn open(bytes: &[u8], kind: Kind, take: impl FnOnce(&[Table], &[String], &mut Load)) -> Result<(), String> {
    match kind {
        Kind::Legacy(start) => open_legacy(bytes.get(start..).unwrap_or_default(), take),
        Kind::Pickle => Err("a Python pickle that torch.save did not write; \
                             torch.save(model.state_dict(), PATH) writes one that is read"
            .to_owned()),
        _ => open_zip(bytes, take),
    }
}

/// `NAME/data.pkl`, `NAME/byteorder`, `NAME/data/KEY` per storage. PyTorch compresses nothing; who unpacks it and zips it
/// again does.
fn open_zip(bytes: &[u8], take: impl FnOnce(&[Table], &[String], &mut Load)) -> Result<(), String> {
    let damaged = |error| format!("no whole PyTorch file: {error}");
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let names = zip.file_names().map(|name| name.map(|name| name.into_owned()));
    let names = names.collect::<Result<Vec<String>, _>>().map_err(damaged)?;
    let root = names.iter().find_map(|name| name.strip_suffix("data.pkl")).ok_or_else(|| {
        let has = sample(names.iter().map(String::as_str));
        format!("a zip file without data.pkl, so not PyTorch's; it has {has}: unpack it, if the weights are in it")
    })?;

    let mut left = bytes.len().saturating_mul(INFLATION).saturating_add(SMALL);
    let mut entry = |name: &str| -> Result<Vec<u8>, String> {
        let named = |error: &dyn std::fmt::Display| format!("{name}: {error}");
        let entry = zip.by_name(name).map_err(|error| named(&error))?;
        let mut data = Vec::new();
        entry.take(left as u64 + 1).read_to_end(&mut data).map_err(|error| named(&error))?;
        left = left.checked_sub(data.len()).ok_or_else(|| {
            named(&format_args!("the file inflates to more than {INFLATION} times its size, as no weights do"))
        })?;
        Ok(data)
    };
    let order = format!("{root}byteorder");
    if names.contains(&order) && entry(&order)? != b"little" {
        return Err("written on a big-endian machine".to_owned());
    }
    let pickle = entry(&format!("{root}data.pkl"))?;
    let (pickle, _) = unpickle(&pickle)?;
    tensors(&pickle, take, |storage| {
        let data = entry(&format!("{root}data/{}", storage.key))?;
        decode(storage, &data)
    });
    Ok(())
}

/// Pickles of the version, of the machine, of the tensors, of the storages' keys; then each storage's number of elements
/// and its elements.
fn open_legacy(bytes: &[u8], take: impl FnOnce(&[Table], &[String], &mut Load)) -> Result<(), String> {
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
    tensors(&pickle, take, |storage| {
        let data = found.get(storage.key).ok_or_else(|| format!("storage {}: missing", storage.key))?;
        decode(storage, data)
    });
    Ok(())
}

/// The elements of a storage; `None` for integers.
fn decode(storage: &Storage, data: &[u8]) -> Result<Option<Vec<f32>>, String> {
    if storage.count.checked_mul(storage.size) != Some(data.len()) {
        let Storage { key, count, dtype, .. } = storage;
        return Err(format!("storage {key}: {} bytes, expected {count} of {dtype}", data.len()));
    }
    floats(data, storage.dtype)
}

/// Hands all tensors of floats to `take`; `read` gives a storage's elements and is asked once for each.
fn tensors<'a>(
    pickle: &Unpickled<'a>,
    take: impl FnOnce(&[Table], &[String], &mut Load),
    mut read: impl FnMut(&Storage<'a>) -> Result<Option<Vec<f32>>, String>,
) {
    let mut found = found(pickle);
    for Found { tensors, .. } in &mut found {
        tensors.retain(|(_, view)| matches!(view.storage.dtype, "F32" | "F16" | "BF16" | "F64"));
    }
    let table = |found: &Found<'_, 'a>| Table {
        place: found.place.clone(),
        tensors: found.tensors.iter().map(|(name, view)| (name.clone(), view.shape.clone())).collect(),
    };
    let tables: Vec<Table> = found.iter().map(table).collect();
    let mut loaded: HashMap<&str, Option<Vec<f32>>> = HashMap::new();
    take(&tables, &pickle.foreign(), &mut |table, index| {
        let (name, view) = &found[table].tensors[index];
        let storage = &view.storage;
        if !loaded.contains_key(storage.key) {
            let values = read(storage).map_err(|reason| format!("{name}: {reason}"))?;
            loaded.insert(storage.key, values);
        }
        let values = loaded.get(storage.key).and_then(Option::as_ref);
        let values = values.and_then(|values| gather(values, view));
        let values = values.ok_or_else(|| format!("{name}: not within its storage"))?;
        Tensor::from_vec(values, view.shape.as_slice(), &Device::Cpu).map_err(|error| error.to_string())
    });
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
