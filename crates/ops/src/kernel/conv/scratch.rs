//! Scratch memory of a thread, and the blocks of patches in it.

use std::cell::RefCell;

use super::{gather::Spot, plan::Block};
use crate::{
    buffer::Aligned,
    kernel::{
        bf16,
        isa::vectorised,
        operands::{MAX_ROWS, PART, PITCH, Tile},
        transpose::transpose,
    },
};

/// The most pixels in a block, with matrix tiles; others have 112: 112 KiB of patches, half of a small second-level cache.
const PIXELS: usize = 256;
/// The most rows in a block: pairs of pixels, once for each of three parts.
const BLOCK_ROWS: usize = 3 * PIXELS / 2;
/// Rows of a block that is turned: a tile may read more rows than it has pixels, and a gradient has a row for each of 256 channels.
const ROWS: usize = 256 + 32;

/// A thread's scratch memory, kept from task to task.
pub(super) struct Scratch {
    pub(super) left: Aligned,
    pub(super) right: Aligned,
    /// `left`, with rows and columns exchanged.
    pub(super) turned: Aligned,
    /// Sums of a block of the result.
    pub(super) results: Aligned,
    pub(super) spots: Vec<Spot>,
    pub(super) block: Block,
    /// Where the results go in the output.
    pub(super) places: Vec<usize>,
    /// Where the sums are until they are finished.
    pub(super) rows: Vec<usize>,
}

thread_local! {
    pub(super) static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        left: Aligned::zeros((BLOCK_ROWS + MAX_ROWS) * PITCH),
        right: Aligned::zeros((BLOCK_ROWS + MAX_ROWS) * PITCH),
        turned: Aligned::zeros(0),
        results: Aligned::zeros(0),
        spots: Vec::with_capacity(PIXELS),
        block: Block::default(),
        places: Vec::with_capacity(PIXELS),
        rows: Vec::with_capacity(PIXELS),
    });
}

/// The first `rows` rows of a block with the first `columns` of each as rows: a row for each column, from its float `at` on.
pub(super) fn turn<'a>(
    block: &[f32],
    (rows, columns): (usize, usize),
    turned: &'a mut Aligned,
    at: usize,
) -> &'a [f32] {
    let turned = &mut reserve(turned, ROWS * PITCH)[at..];
    transpose((rows, columns), (block, PITCH), (turned, PITCH));
    turned
}

/// The first `len` floats of a buffer, which grows if it is too short.
pub(super) fn reserve(buffer: &mut Aligned, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        *buffer = Aligned::zeros(len);
    }
    &mut buffer[..len]
}

/// Rounds the first `floats` of each of the first `rows` of a block to bf16.
pub(super) fn round_rows(block: &mut [f32], rows: usize, floats: usize) {
    vectorised(|| block.chunks_mut(PITCH).take(rows).for_each(|row| bf16::round(&mut row[..floats])));
}

/// Zeroes what a tile reads behind the `len` bf16 values of a row, or of each of its parts: the unused half of a last pair,
/// and pairs up to a whole number of steps. Rows are [`PITCH`] floats apart.
pub(super) fn close_pairs(rows: &mut [f32], len: usize, tile: &Tile) {
    let steps = tile.steps_of(len);
    if len == 2 * steps {
        return;
    }
    for row in rows.chunks_mut(PITCH) {
        for part in row.chunks_mut(if tile.parts > 1 { PART } else { PITCH }).take(tile.parts) {
            if len % 2 == 1 {
                let last = &mut part[len / 2];
                *last = f32::from_bits(last.to_bits() & 0xffff);
            }
            part[len.div_ceil(2)..steps].fill(0.0);
        }
    }
}
