//! Kernels on slices: no candle here.

mod bf16;
pub(crate) mod conv;
mod dispatch;
mod element;
mod isa;
pub(crate) mod moments;
pub(crate) mod rows;
mod tile;
mod vector;
pub(crate) mod windows;

pub use dispatch::bf16 as has_bf16;
pub(crate) use element::Element;
pub(crate) use isa::vectorised;
pub use isa::{Isa, isa};
pub(crate) use tile::exercise;
