//! The stack machine.

use std::collections::HashMap;

use super::torch;
use super::value::{Global, Id, Unpickled, Value};

/// Instructions that a pickle may have; ResNet-101's has 40,000. Bounds memory and time.
const MAX_STEPS: usize = 4 << 20;

/// Arguments that a call of PyTorch's may have; it gives 7.
const MAX_ARGS: usize = 16;

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
            b'(' | b')' | 0x85..=0x87 | b't' | b']' | b'a' | b'e' | b'}' | b's' | b'u' | 0x8f..=0x91 => {
                self.container(op)?;
            }
            // POP, POP_MARK, DUP
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_marked()?),
            b'2' => self.stack.push(self.top()?),
            b'c' | 0x93 | b'Q' | b'R' | b'b' | b'i' | b'o' | 0x81..=0x84 | 0x92 => self.object(op)?,
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
                let value = long(self.take(length.into())?);
                self.push(value);
            }
            // LONG4
            0x8b => {
                let length = self.length4()?;
                let value = long(self.take(length)?);
                self.push(value);
            }
            // BINUNICODE, BINSTRING (Python 2), SHORT_BINUNICODE, SHORT_BINSTRING, BINUNICODE8
            b'X' | b'T' => {
                let length = self.length4()?;
                self.text(length)?;
            }
            0x8c | b'U' => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            0x8d => {
                let length = self.length8()?;
                self.text(length)?;
            }
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => {
                let [length] = self.array()?;
                self.bytes(length.into())?;
            }
            b'B' => {
                let length = self.length4()?;
                self.bytes(length)?;
            }
            0x8e | 0x96 => {
                let length = self.length8()?;
                self.bytes(length)?;
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
            // EMPTY_SET, ADDITEMS, FROZENSET: no weight is in a set
            0x8f => self.push(Value::Other),
            0x90 => drop(self.pop_marked()?),
            0x91 => {
                self.pop_marked()?;
                self.push(Value::Other);
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
                self.push(named(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
                    return Err("a global whose name is no text".to_owned());
                };
                let global = named(module, name);
                self.push(global);
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                let value = torch::persistent(&self.values, id)?;
                self.push(value);
            }
            // REDUCE; NEWOBJ, which PyTorch uses for no tensor
            b'R' => {
                let (args, callable) = (self.pop()?, self.pop()?);
                self.reduce(callable, args)?;
            }
            0x81 => {
                self.pop_many(2)?;
                self.push(Value::Object(Box::default()));
            }
            // NEWOBJ_EX
            0x92 => {
                self.pop_many(3)?;
                self.push(Value::Object(Box::default()));
            }
            // INST, OBJ
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.make(named(module, name)); // for a message
                self.pop_marked()?;
                self.push(Value::Object(Box::default()));
            }
            b'o' => {
                self.pop_marked()?;
                self.push(Value::Object(Box::default()));
            }
            // EXT1, EXT2, EXT4: numbers of a registry that files do not have
            0x82..=0x84 => {
                self.take(1 << (op - 0x82))?;
                self.push(Value::Other);
            }
            // BUILD
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                match &mut self.values[top] {
                    Value::Object(object) => object.state = Some(state),
                    // e.g. the `_metadata` of a state_dict, attributes of a parameter: not looked at
                    Value::Dict(_) | Value::Tensor(_) | Value::Other => {}
                    _ => return Err("attributes on what has none".to_owned()),
                }
            }
            op => return Err(refused(op)),
        }
        Ok(())
    }

    /// Calls a function of PyTorch's; what any other would make is an object.
    fn reduce(&mut self, callable: Id, args: Id) -> Result<(), String> {
        let callable = match self.values[callable] {
            Value::Global(callable) => callable,
            Value::Foreign(..) | Value::Object(_) | Value::Other => {
                self.push(Value::Object(Box::default()));
                return Ok(());
            }
            _ => return Err("a call of what is no function".to_owned()),
        };
        let args = self.arguments(args)?;
        let made = self.call(callable, &args)?;
        self.stack.push(made);
        Ok(())
    }

    fn arguments(&self, args: Id) -> Result<Vec<Id>, String> {
        match &self.values[args] {
            Value::Tuple(args) if args.len() <= MAX_ARGS => Ok(args.clone()),
            _ => Err(format!("a call whose arguments are no tuple of at most {MAX_ARGS}")),
        }
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

    fn length4(&mut self) -> Result<usize, String> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn length8(&mut self) -> Result<usize, String> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| "cut short".to_owned())
    }

    /// A text; one that is not UTF-8 (Python 2, lone surrogates) is no name of a tensor.
    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(length)?);
        self.push(text.map_or(Value::Other, Value::Text));
        Ok(())
    }

    fn bytes(&mut self, length: usize) -> Result<(), String> {
        self.take(length)?;
        self.push(Value::Other);
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
            Value::Object(_) | Value::Other => {} // a list of another class, which no weight is in
            _ => return Err("items for what is no list".to_owned()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[top] {
            _ if !rest.is_empty() => return Err("a key without value".to_owned()),
            Value::Dict(dict) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Object(object) => object.entries.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Other => {}
            _ => return Err("entries for what is no dict".to_owned()),
        }
        Ok(())
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
                let tensor = torch::tensor(&self.values, [storage, offset, shape, stride])?;
                Ok(self.make(tensor))
            }
            // (tensor, requires_grad, backward hooks, …)
            (Global::RebuildParameter, &[tensor, ..]) => Ok(tensor),
            // (function, class, its arguments, …)
            (Global::RebuildSubclass, &[function, _, args, ..]) => match self.values[function] {
                Value::Global(function) if function != Global::RebuildSubclass => {
                    let args = self.arguments(args)?;
                    self.call(function, &args)
                }
                _ => Ok(self.make(Value::Object(Box::default()))),
            },
            (callable, args) => Err(format!("{callable:?} called with {} arguments", args.len())),
        }
    }
}

fn refused(op: u8) -> String {
    format!("instruction {op:#04x} is refused")
}

fn named<'a>(module: &'a str, name: &'a str) -> Value<'a> {
    Global::find(module, name).map_or(Value::Foreign(module, name), Value::Global)
}

/// A little-endian two's complement integer; one of more than 64 bits is no size.
fn long<'a>(bytes: &[u8]) -> Value<'a> {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}
