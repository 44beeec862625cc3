//! The forms in which kernels store their results.

/// How a kernel stores a row of `f32` results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    /// As `f32`.
    Floats = FLOATS,
    /// As bf16, packed: two in the space of an `f32`.
    Halves = HALVES,
    /// As bf16 in the lower half of each `f32`'s space; the upper half becomes zero.
    Low = LOW,
    /// As bf16 in the upper half of each `f32`'s space; the lower half is kept.
    High = HIGH,
    /// Two rows interleaved in one: the first as [`Form::Low`], the second as [`Form::High`].
    Pairs = PAIRS,
    /// As [`Form::Halves`], in a row of its own for each of a value's [`PARTS`](super::operands::PARTS).
    HalfParts = HALF_PARTS,
    /// As [`Form::Pairs`], in a row of its own for each of the values' parts.
    PairParts = PAIR_PARTS,
}

pub(super) const FLOATS: u8 = 0;
pub(super) const HALVES: u8 = 1;
pub(super) const LOW: u8 = 2;
pub(super) const HIGH: u8 = 3;
pub(super) const PAIRS: u8 = 4;
pub(super) const HALF_PARTS: u8 = 5;
pub(super) const PAIR_PARTS: u8 = 6;
/// One of the two rows of [`PAIR_PARTS`].
pub(super) const LOW_PARTS: u8 = 7;
pub(super) const HIGH_PARTS: u8 = 8;

impl Form {
    /// How many elements fit into a row of `floats` floats.
    pub(super) fn capacity(self, floats: usize) -> usize {
        if matches!(self, Form::Halves | Form::HalfParts) { 2 * floats } else { floats }
    }
}
