//! Kernels on slices, independent of candle.

#[cfg(target_arch = "x86_64")]
mod amx;
mod bf16;
pub(crate) mod conv;
mod dispatch;
mod element;
mod form;
mod isa;
pub(crate) mod moments;
mod operands;
mod prologue;
pub(crate) mod rows;
mod tile;
mod transpose;
mod vector;
pub(crate) mod windows;

pub(crate) use element::{Element, past_caches};
pub(crate) use isa::vectorised;
pub use isa::{Isa, bf16_is_fast, isa};
pub(crate) use prologue::{Prologue, Source};
pub(crate) use tile::exercise;
