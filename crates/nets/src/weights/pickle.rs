//! The part of Python's pickle that PyTorch's `state_dict` files use.
//!
//! A pickle is a program for a stack machine that may name any Python function and call it. Here the names are a closed
//! list ([`Global`]) and a call is a match arm, so no file can do more than describe tensors. Values live in one arena
//! and refer to each other by index: sharing costs nothing, and neither cycles nor depth can exhaust the call stack.

use std::collections::HashMap;

/// Instructions that a pickle may have; ResNet-101's has 40,000. Bounds memory and time.
const MAX_STEPS: usize = 4 << 20;

/// Arguments that a call may have; PyTorch's have 7.
const MAX_ARGS: usize = 16;

/// Dimensions that a tensor may have.
const MAX_RANK: usize = 8;

/// Index of a value in the arena.
pub(crate) type Id = usize;

/// A value that a pickle can make; texts are borrowed from it.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    /// `None`, a number that is no integer, or anything else that no tensor needs.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage<'a>),
    Tensor(View<'a>),
}

/// A function or class that a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// A storage class: safetensors' name of the type, and its size in bytes.
    Storage(&'static str, usize),
}

impl Global {
    fn find(module: &str, name: &str) -> Result<Global, String> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
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
            _ => {
                return Err(format!(
                    "names {module}.{name}, which is refused; \
                     only a state_dict of tensors is read: torch.save(model.state_dict(), path)"
                ));
            }
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
    values: Vec<Value<'a>>,
    root: Id,
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
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }
}

/// Runs the pickle at the start of `bytes`; returns its values, and the bytes after it.
pub(crate) fn unpickle(bytes: &[u8]) -> Result<(Unpickled<'_>, &[u8]), String> {
    let mut machine =
        Machine { rest: bytes, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    for _ in 0..MAX_STEPS {
        let at = bytes.len() - machine.rest.len();
        let stop = machine.step().map_err(|reason| format!("pickle, byte {at}: {reason}"))?;
        if let Some(root) = stop {
            return Ok((Unpickled { values: machine.values, root }, machine.rest));
        }
    }
    Err(format!("pickle: more than {MAX_STEPS} instructions"))
}

struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction; returns the result at the end of the pickle.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let [op] = self.array()?;
        match op {
            b'.' => return self.pop().map(Some),
            // PROTO, FRAME
            0x80 => drop(self.array::<1>()?),
            0x95 => drop(self.array::<8>()?),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo_instruction(op)?,
            b'(' | b')' | 0x85..=0x87 | b't' | b']' | b'a' | b'e' | b'}' | b's' | b'u' => self.container(op)?,
            b'c' | 0x93 | b'Q' | b'R' | b'b' => self.object(op)?,
            op => self.literal(op)?,
        }
        Ok(None)
    }

    /// Pushes a constant.
    fn literal(&mut self, op: u8) -> Result<(), String> {
        match op {
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT
            b'N' => self.push(Value::Other),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Other);
            }
            // BININT1, BININT2, BININT, LONG1
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => {
                let [length] = self.array()?;
                let value = long(self.take(length.into())?)?;
                self.push(Value::Int(value));
            }
            // BINUNICODE, BINSTRING (Python 2), SHORT_BINUNICODE, SHORT_BINSTRING
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)?;
            }
            0x8c | b'U' => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            op => return Err(refused(op)),
        }
        Ok(())
    }

    /// Stores or recalls a value.
    fn memo_instruction(&mut self, op: u8) -> Result<(), String> {
        match op {
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let [slot] = self.array()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?, // at most MAX_STEPS
            b'h' => {
                let [slot] = self.array()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            op => return Err(refused(op)),
        }
        Ok(())
    }

    /// Makes or fills a tuple, list or dict.
    fn container(&mut self, op: u8) -> Result<(), String> {
        match op {
            // MARK, EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(op - 0x84))?;
                self.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.pop_marked()?;
                self.push(Value::Tuple(items));
            }
            // EMPTY_LIST, APPEND, APPENDS
            b']' => self.push(Value::List(Vec::new())),
            b'a' => {
                let items = self.pop_many(1)?;
                self.extend_list(items)?;
            }
            b'e' => {
                let items = self.pop_marked()?;
                self.extend_list(items)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let items = self.pop_many(2)?;
                self.extend_dict(&items)?;
            }
            b'u' => {
                let items = self.pop_marked()?;
                self.extend_dict(&items)?;
            }
            op => return Err(refused(op)),
        }
        Ok(())
    }

    /// Names a global, calls one, or makes a storage.
    fn object(&mut self, op: u8) -> Result<(), String> {
        match op {
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(Global::find(module, name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
                    return Err("a global whose name is no text".to_owned());
                };
                let global = Global::find(module, name)?;
                self.push(Value::Global(global));
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage));
            }
            // REDUCE, BUILD
            b'R' => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let Value::Global(callable) = self.values[callable] else {
                    return Err("a call of what is no function".to_owned());
                };
                let args = match &self.values[args] {
                    Value::Tuple(args) if args.len() <= MAX_ARGS => args.clone(),
                    _ => return Err(format!("a call whose arguments are no tuple of at most {MAX_ARGS}")),
                };
                let made = self.call(callable, &args)?;
                self.stack.push(made);
            }
            b'b' => {
                // attributes, e.g. the `_metadata` of a state_dict: not looked at
                self.pop()?;
                if !matches!(self.values[self.top()?], Value::Dict(_)) {
                    return Err("attributes on what is no dict".to_owned());
                }
            }
            op => return Err(refused(op)),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("cut short")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or("cut short")?;
        self.rest = rest;
        Ok(*taken)
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or("cut short")?;
        let line = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|error| error.to_string())
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|error| error.to_string())?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn make(&mut self, value: Value<'a>) -> Id {
        self.values.push(value);
        self.values.len() - 1
    }

    fn push(&mut self, value: Value<'a>) {
        let id = self.make(value);
        self.stack.push(id);
    }

    /// Height below which the values belong to an open mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, String> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        if self.stack.len() - self.floor() < count {
            return Err("the stack is empty".to_owned());
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let id = self.memo.get(&slot).ok_or_else(|| format!("no value {slot} to recall"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            _ => return Err("items for what is no list".to_owned()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[top] {
            Value::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Dict(_) => return Err("a key without value".to_owned()),
            _ => return Err("entries for what is no dict".to_owned()),
        }
        Ok(())
    }

    /// `("storage", class, key, device, count)`, before 1.6 with a view behind, which `state_dict`s never have.
    fn storage(&self, id: Id) -> Result<Storage<'a>, String> {
        let Value::Tuple(parts) = &self.values[id] else {
            return Err("a storage that is no tuple".to_owned());
        };
        let parts: Vec<&Value> = parts.iter().map(|&id| &self.values[id]).collect();
        match parts[..] {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype, size)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(count),
            ]
            | [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype, size)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(count),
                Value::Other,
            ] => {
                let count = usize::try_from(*count).map_err(|_| "a storage of negative size")?;
                Ok(Storage { key, dtype, size: *size, count })
            }
            _ => Err("a storage that is not described as PyTorch does".to_owned()),
        }
    }

    fn call(&mut self, callable: Global, args: &[Id]) -> Result<Id, String> {
        match (callable, args) {
            (Global::OrderedDict, []) => Ok(self.make(Value::Dict(Vec::new()))),
            (Global::OrderedDict, &[items]) => {
                // Python 2: a list of [key, value]; it is consumed, so that no file can have it copied without end
                let Value::List(items) = &mut self.values[items] else {
                    return Err("a dict that is not made of a list".to_owned());
                };
                let items = std::mem::take(items);
                let entry = |&id: &Id| match &self.values[id] {
                    Value::List(pair) | Value::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
                    _ => Err("a dict with an entry that is no pair".to_owned()),
                };
                let entries = items.iter().map(entry).collect::<Result<Vec<_>, String>>()?;
                Ok(self.make(Value::Dict(entries)))
            }
            // (storage, offset, shape, stride, requires_grad, backward hooks, …)
            (Global::RebuildTensor, &[storage, offset, shape, stride, ..]) => {
                let tensor = self.tensor(storage, offset, shape, stride)?;
                Ok(self.make(Value::Tensor(tensor)))
            }
            // (tensor, requires_grad, backward hooks)
            (Global::RebuildParameter, &[tensor, ..]) => Ok(tensor),
            (callable, args) => Err(format!("{callable:?} called with {} arguments", args.len())),
        }
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, stride: Id) -> Result<View<'a>, String> {
        let Value::Storage(storage) = &self.values[storage] else {
            return Err("a tensor without storage".to_owned());
        };
        let size = |id: Id| match self.values[id] {
            Value::Int(value) => usize::try_from(value).map_err(|_| format!("a size of {value}")),
            _ => Err("a size that is no integer".to_owned()),
        };
        let sizes = |id: Id| match &self.values[id] {
            Value::Tuple(sizes) if sizes.len() <= MAX_RANK => sizes.iter().map(|&id| size(id)).collect(),
            _ => Err(format!("a shape or stride that is no tuple of at most {MAX_RANK}")),
        };
        let (offset, shape, stride): (usize, Vec<usize>, Vec<usize>) = (size(offset)?, sizes(shape)?, sizes(stride)?);
        if shape.len() != stride.len() {
            return Err(format!("shape {shape:?} with stride {stride:?}"));
        }
        let elements = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        let last = shape.iter().zip(&stride).try_fold(offset, |last, (&side, &step)| {
            last.checked_add(side.checked_sub(1)?.checked_mul(step)?) // an empty tensor is no weight
        });
        match (elements, last) {
            (Some(elements), Some(last)) if elements <= storage.count && last < storage.count => {
                Ok(View { storage: storage.clone(), offset, shape, stride })
            }
            _ => Err(format!(
                "shape {shape:?} with stride {stride:?} from element {offset} is not within {} elements",
                storage.count
            )),
        }
    }
}

fn refused(op: u8) -> String {
    format!("instruction {op:#04x} is refused")
}

/// A little-endian two's complement integer.
fn long(bytes: &[u8]) -> Result<i64, String> {
    if bytes.len() > 8 {
        return Err(format!("an integer of {} bytes", bytes.len()));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(wide))
}
