//! The part of Python's pickle that PyTorch's files use.
//!
//! A pickle is a program for a stack machine that may name any Python function and call it. Here nothing is called: the
//! functions that make tensors are a closed list ([`Global`]), whose calls are match arms; any other name, and whatever
//! its calls would make, is an [`Object`] of which only the entries and attributes are kept. So no file can do more than
//! describe tensors. Values live in one arena and refer to each other by index: sharing costs nothing, and neither cycles
//! nor depth can exhaust the call stack.

mod found;
mod machine;
mod torch;
mod value;

pub(crate) use found::{Found, found};
pub(crate) use machine::unpickle;
pub(crate) use value::{Storage, Unpickled, Value, View};
