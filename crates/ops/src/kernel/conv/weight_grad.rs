//! The weight gradient by blocked matrix products.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{
    gather::{Gather, Patches, Spot},
    geometry::{Geometry, Precision},
    scratch::{SCRATCH, Scratch, reserve, round_rows, turn},
    shared::Shared,
    tasks::{balanced, sum_parts, summed, tiled},
};
use crate::{
    buffer,
    kernel::{
        element::Element,
        form::Form,
        operands::{DEPTH, MAX_ROWS, ONE_TAP, Operands, PART, PITCH, Tile},
        prologue::Source,
    },
};

/// The fewest pixels of a task.
const MIN_PIXELS: usize = 448;

/// How many times a weight gradient gathers every patch.
pub(super) fn reads(g: &Geometry) -> usize {
    g.co.div_ceil(DEPTH)
}

/// `[co, kh, kw, ci]` from `x` and `dy`, which must have no prologue.
pub(super) fn weight_grad<T: Element>(g: &Geometry, x: Source<T>, dy: Source<T>) -> Vec<f32> {
    let gather = Gather::new(Patches::forward(g), x);
    let grads = Gather::new(Patches::of_output(g), dy);
    let (depth, pixels) = (gather.patches.depth(), gather.patches.pixels());
    if pixels == 0 {
        return vec![0.0; g.co * depth];
    }
    let depths = balanced(0..depth, DEPTH);
    let channels = balanced(0..g.co, DEPTH);
    let blocks = depths.len() * channels.len();
    let read = g.n * (g.h * g.w * g.ci + g.oh * g.ow * g.co);
    let parts = sum_parts(blocks, read, g.co * depth).min(pixels / MIN_PIXELS).max(1);
    let parts = balanced(0..pixels, pixels.div_ceil(parts).max(1));
    let tile = g.precision.tile();

    // One gradient for each part of the pixels.
    let len = g.co * depth;
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let out = Shared::new(out);
        (0..parts.len() * blocks).into_par_iter().for_each(|task| {
            let (part, block) = (task / blocks, task % blocks);
            let (depths, channels) = (&depths[block / channels.len()], &channels[block % channels.len()]);
            let to = Block { first: part * len, pitch: depth, rows: channels.clone(), columns: depths.clone() };
            weight_block(&gather, &grads, g.precision, parts[part].clone(), &to, &tile, out);
        });
    };
    // SAFETY: blocks cover all channels by all depths, in every part, of which there is one at least.
    let grads: Vec<f32> = unsafe { buffer::filled(parts.len() * len, fill) };
    summed(grads, len)
}

/// A part of a matrix in [`Shared`] memory.
struct Block {
    /// Where the matrix starts.
    first: usize,
    /// Floats from row to row.
    pitch: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Writes `sum over pixels of dy[p][rows] patch[p][columns]` to `to`.
fn weight_block<T: Element>(
    patches: &Gather<T>,
    grads: &Gather<T>,
    precision: Precision,
    pixels: Range<usize>,
    to: &Block,
    tile: &Tile,
    out: Shared<f32>,
) {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { left: rows, right: columns, turned, results, spots, .. } = scratch;
        // Rows of the sums are no power of two apart, because such rows would compete for a few cache sets.
        let sums = Shared::written(reserve(results, (to.rows.len() + MAX_ROWS) * PITCH));
        let mut spill = [0.0; MAX_ROWS * 32];
        let tiles = tiled(to.rows.len(), tile);
        let mut accumulate = false;
        // Pairs of pixels take half of a block's rows.
        let most = if tile.adjacent.is_some() { tile.pixels } else { tile.depth.min(tile.pixels * tile.group) };
        let mut chunks = balanced(pixels.clone(), most);
        if chunks.is_empty() {
            chunks.push(pixels);
        }
        for pixels in &chunks {
            spots.clear();
            spots.extend(patches.patches.spots(pixels.clone()));
            let steps = tile.steps_of(pixels.len());
            let b_part = steps * PITCH;
            for (side, channels, to) in [(patches, &to.columns, &mut *columns), (grads, &to.rows, &mut *rows)] {
                load(side, spots, channels.clone(), (precision, tile), to);
            }
            let (run, a_row, a_step, rows) = match tile.adjacent {
                Some(adjacent) => (adjacent, 1, PITCH, &rows[..]),
                None => {
                    for part in 0..tile.parts {
                        turn(&rows[part * b_part..], (steps, to.rows.len()), turned, part * PART);
                    }
                    (tile.pitched, PITCH, 1, &turned[..])
                }
            };
            for column in (0..to.columns.len()).step_by(tile.columns) {
                for tile_rows in &tiles {
                    let operands = Operands {
                        depth: steps,
                        a: rows[tile_rows.start * a_row..].as_ptr(),
                        a_step,
                        b: columns[column..].as_ptr(),
                        b_step: PITCH,
                        b_part,
                        taps: ONE_TAP,
                        b_tap: 0,
                        accumulate,
                        c: std::ptr::null_mut(),
                        c_row: 0,
                    };
                    let (size, at) = ((tile_rows.len(), tile.columns), (tile_rows.start * PITCH + column, PITCH));
                    // SAFETY: `A` is `rows`, `B` is `columns`, which have a row of PITCH floats for each step; a tile
                    // reads up to MAX_ROWS rows or columns behind the last one, which are there; `sums` belongs to this
                    // task.
                    unsafe { sums.write(tile, run, size, at, operands, &mut spill) };
                }
            }
            accumulate = true;
        }
        for (row, sums) in to.rows.clone().zip(results.chunks(PITCH)) {
            // SAFETY: this task alone writes this block of `out`.
            unsafe { out.put(to.first + row * to.pitch + to.columns.start, &sums[..to.columns.len()]) };
        }
    });
}

/// Gathers the values `depths` of the patches at `spots`, in the form that tiles read: a row of a block for each step.
pub(super) fn load<T: Element>(
    gather: &Gather<T>,
    spots: &[Spot],
    depths: Range<usize>,
    (precision, tile): (Precision, &Tile),
    block: &mut [f32],
) {
    let (pixels, len) = (spots.len(), depths.len());
    let part = tile.steps_of(pixels) * PITCH;
    let used = pixels.div_ceil(tile.group) * PITCH;
    if tile.group == 2 {
        let form = if tile.parts > 1 { Form::PairParts } else { Form::Pairs };
        gather.block(spots, depths, (form, part), block);
    } else {
        gather.block(spots, depths, (Form::Floats, 0), block);
        if precision == Precision::Bf16 {
            round_rows(block, pixels, len);
        }
    }
    for part in block.chunks_exact_mut(part.max(1)).take(tile.parts) {
        part[used..].fill(0.0);
    }
}
