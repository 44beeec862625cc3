//! Kernels on slices, independent of candle.

mod bf16;
pub(crate) mod conv;
mod dispatch;
mod element;
mod form;
mod isa;
pub(crate) mod moments;
mod prologue;
pub(crate) mod rows;
mod tile;
mod vector;
pub(crate) mod windows;

pub(crate) use element::Element;
pub(crate) use isa::vectorised;
pub use isa::{Isa, has_bf16, isa};
pub(crate) use prologue::{Prologue, Source};
pub(crate) use tile::exercise;
