//! What PyTorch's own functions make of their arguments.

use super::value::{Global, Id, Storage, Value, View};

/// Dimensions that a tensor may have.
const MAX_RANK: usize = 8;

/// What a persistent id stands for: `("storage", class, key, device, count)`, before 1.6 with a view behind, which weights
/// never have; `("module", class, file, source)` is the class.
pub(super) fn persistent<'a>(values: &[Value<'a>], id: Id) -> Result<Value<'a>, String> {
    let Value::Tuple(ids) = &values[id] else {
        return Err("a storage that is no tuple".to_owned());
    };
    let parts: Vec<&Value> = ids.iter().take(7).map(|&id| &values[id]).collect();
    match parts[..] {
        [
            Value::Text("storage"),
            Value::Global(Global::Storage(dtype, size)),
            Value::Text(key),
            _,
            Value::Int(count),
        ]
        | [
            Value::Text("storage"),
            Value::Global(Global::Storage(dtype, size)),
            Value::Text(key),
            _,
            Value::Int(count),
            Value::Other,
        ] => {
            let count = usize::try_from(*count).map_err(|_| "a storage of negative size")?;
            Ok(Value::Storage(Box::new(Storage { key, dtype, size: *size, count })))
        }
        // a type that no weight has, e.g. quantised or complex; the class of a whole model
        [Value::Text("storage"), Value::Foreign(..), ..] | [Value::Text("module"), ..] => Ok(Value::Other),
        _ => Err("a storage that is not described as PyTorch does".to_owned()),
    }
}

/// The tensor of these arguments; `Other` where the storage is of a type that no weight has, or the tensor is empty.
pub(super) fn tensor<'a>(values: &[Value<'a>], [storage, offset, shape, stride]: [Id; 4]) -> Result<Value<'a>, String> {
    let storage = match &values[storage] {
        Value::Storage(storage) => storage,
        Value::Other | Value::Object(_) => return Ok(Value::Other),
        _ => return Err("a tensor without storage".to_owned()),
    };
    let size = |id: Id| match values[id] {
        Value::Int(value) => usize::try_from(value).map_err(|_| format!("a size of {value}")),
        _ => Err("a size that is no integer".to_owned()),
    };
    let sizes = |id: Id| match &values[id] {
        Value::Tuple(sizes) if sizes.len() <= MAX_RANK => sizes.iter().map(|&id| size(id)).collect(),
        _ => Err(format!("a shape or stride that is no tuple of at most {MAX_RANK}")),
    };
    let (offset, shape, stride): (usize, Vec<usize>, Vec<usize>) = (size(offset)?, sizes(shape)?, sizes(stride)?);
    if shape.len() != stride.len() {
        return Err(format!("shape {shape:?} with stride {stride:?}"));
    }
    let elements = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
    if elements == Some(0) {
        return Ok(Value::Other);
    }
    let last = shape
        .iter()
        .zip(&stride)
        .try_fold(offset, |last, (&side, &step)| last.checked_add(side.checked_sub(1)?.checked_mul(step)?));
    match (elements, last) {
        (Some(elements), Some(last)) if elements <= storage.count && last < storage.count => {
            Ok(Value::Tensor(Box::new(View { storage: (**storage).clone(), offset, shape, stride })))
        }
        _ => Err(format!(
            "shape {shape:?} with stride {stride:?} from element {offset} is not within {} elements",
            storage.count
        )),
    }
}
