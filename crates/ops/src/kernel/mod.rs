//! Kernels on slices: no candle here.

pub(crate) mod conv;
mod isa;
pub(crate) mod moments;
mod tile;

pub(crate) use isa::vectorised;
pub use isa::{Isa, isa};
