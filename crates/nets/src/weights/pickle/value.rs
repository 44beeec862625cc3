//! The values that a pickle can make.

use crate::weights::words::brief;

/// Index of a value in the arena.
pub(crate) type Id = usize;

/// A value that a pickle can make; texts are borrowed from it. Large ones are boxed: a file may make millions.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    /// `None`, bytes, a number that is no integer, or anything else that no tensor needs.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// Any other function or class, by its module and name. It is never called.
    Foreign(&'a str, &'a str),
    Object(Box<Object>),
    Storage(Box<Storage<'a>>),
    Tensor(Box<View<'a>>),
}

/// What a foreign function would make.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    /// Entries, where it is used as a dict.
    pub(crate) entries: Vec<(Id, Id)>,
    /// Attributes.
    pub(crate) state: Option<Id>,
}

/// A function or class that makes tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// A subclass of a tensor, by way of another of these.
    RebuildSubclass,
    /// A storage class: safetensors' name of the type, and its size in bytes.
    Storage(&'static str, usize),
}

impl Global {
    pub(crate) fn find(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildSubclass,
            ("torch", "FloatStorage") => Global::Storage("F32", 4),
            ("torch", "DoubleStorage") => Global::Storage("F64", 8),
            ("torch", "HalfStorage") => Global::Storage("F16", 2),
            ("torch", "BFloat16Storage") => Global::Storage("BF16", 2),
            ("torch", "LongStorage") => Global::Storage("I64", 8),
            ("torch", "IntStorage") => Global::Storage("I32", 4),
            ("torch", "ShortStorage") => Global::Storage("I16", 2),
            ("torch", "CharStorage") => Global::Storage("I8", 1),
            ("torch", "ByteStorage") => Global::Storage("U8", 1),
            ("torch", "BoolStorage") => Global::Storage("BOOL", 1),
            _ => return None,
        })
    }
}

/// A flat array in another part of the file.
#[derive(Debug, Clone)]
pub(crate) struct Storage<'a> {
    pub(crate) key: &'a str,
    /// safetensors' name of the type.
    pub(crate) dtype: &'static str,
    /// Bytes of one element.
    pub(crate) size: usize,
    /// Number of elements.
    pub(crate) count: usize,
}

/// A tensor: a strided view of a storage, in elements. All its elements, at least one, are inside the storage, and it
/// has no more elements than the storage.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) storage: Storage<'a>,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) stride: Vec<usize>,
}

impl View<'_> {
    /// Number of elements; the product was checked.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements follow each other in row-major order.
    pub(crate) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.stride).rev().all(|(&side, &step)| {
            let fits = side == 1 || step == expected;
            expected *= side;
            fits
        })
    }
}

/// The values of a pickle that has run.
#[derive(Debug)]
pub(crate) struct Unpickled<'a> {
    pub(crate) values: Vec<Value<'a>>,
    pub(crate) root: Id,
}

impl<'a> Unpickled<'a> {
    /// The outermost value.
    pub(crate) fn root(&self) -> &Value<'a> {
        &self.values[self.root]
    }

    pub(crate) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    /// The value under a text key of a dict.
    pub(crate) fn entry(&self, dict: &Value<'a>, key: &str) -> Option<&Value<'a>> {
        let Value::Dict(entries) = dict else { return None };
        let found = entries.iter().rev().find(|(id, _)| matches!(self.get(*id), Value::Text(text) if *text == key));
        found.map(|(_, id)| self.get(*id))
    }

    /// Every storage that is named.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }

    /// Up to three foreign functions or classes that it names, for a message.
    pub(crate) fn foreign(&self) -> Vec<String> {
        let names = self.values.iter().filter_map(|value| match value {
            Value::Foreign(module, name) => Some(format!("{}.{}", brief(module), brief(name))),
            _ => None,
        });
        names.take(3).collect()
    }
}
