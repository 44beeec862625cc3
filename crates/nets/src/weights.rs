//! Weights files: our own, and ImageNet's.

mod choose;
pub(crate) mod file;
pub(crate) mod import;
mod matched;
mod pickle;
mod pth;
pub(crate) mod safetensors;
mod sniff;
#[cfg(test)]
mod tests;
mod words;

pub use file::{Meta, VERSION, digest, meta, read, write};
pub(crate) use matched::matched;
pub use safetensors::Tensors;
pub use sniff::is_safetensors;
