//! Scratch memory of a thread, and the blocks of patches in it.

use std::cell::RefCell;

use super::gather::Spot;
use crate::{
    buffer::Aligned,
    kernel::{bf16, isa::vectorised, tile::PITCH},
};

/// Pixels in a block: 112 KiB of patches, half of a small second-level cache.
pub(super) const PIXELS: usize = 112;
/// The most floats of a patch in a block.
pub(super) const DEPTH: usize = PITCH - 16;

/// A thread's scratch memory, kept from task to task.
pub(super) struct Scratch {
    pub(super) left: Aligned,
    pub(super) right: Aligned,
    /// Sums of a block of the result.
    pub(super) results: Vec<f32>,
    pub(super) spots: Vec<Spot>,
    /// Where the results go in the output.
    pub(super) places: Vec<usize>,
    /// Where the sums are until they are finished.
    pub(super) rows: Vec<usize>,
}

thread_local! {
    pub(super) static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        left: Aligned::zeros(PIXELS * PITCH),
        right: Aligned::zeros(PIXELS * PITCH),
        results: Vec::new(),
        spots: Vec::with_capacity(PIXELS),
        places: Vec::with_capacity(PIXELS),
        rows: Vec::with_capacity(PIXELS),
    });
}

/// The first `len` floats of a buffer, which grows if it is too short.
pub(super) fn reserve(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        *buffer = vec![0.0; len];
    }
    &mut buffer[..len]
}

/// Rounds the first `floats` of each of the first `rows` of a block to bf16.
pub(super) fn round_rows(block: &mut [f32], rows: usize, floats: usize) {
    vectorised(|| block.chunks_mut(PITCH).take(rows).for_each(|row| bf16::round(&mut row[..floats])));
}

/// If rows have an odd number of bf16 values, zeroes the unused half of each last pair. Rows are [`PITCH`] floats apart.
pub(super) fn close_pairs(rows: &mut [f32], len: usize) {
    if len % 2 == 1 {
        rows.chunks_mut(PITCH).for_each(|row| {
            let last = &mut row[len / 2];
            *last = f32::from_bits(last.to_bits() & 0xffff);
        });
    }
}
