//! Weights files: our own, and ImageNet's.

pub(crate) mod file;
pub mod import;
mod pickle;
mod pth;
pub(crate) mod safetensors;
#[cfg(test)]
mod tests;

pub use file::{Meta, VERSION, meta, read, write};
pub use safetensors::Tensors;
