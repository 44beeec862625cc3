//! Kernels on slices: no candle here.

mod bf16;
pub(crate) mod conv;
mod isa;
pub(crate) mod moments;
mod tile;
mod vector;

pub(crate) use isa::vectorised;
pub use isa::{Isa, isa};
pub(crate) use tile::exercise;
