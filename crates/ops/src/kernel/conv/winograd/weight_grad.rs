//! The weight gradient.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{
    tiles::{Results, SCRATCH, Scratch, inside, tiles, transform},
    transforms::{self, OUTSIDE, POINTS},
};
use crate::{
    buffer,
    kernel::{
        conv::{
            gather::{Patches, Spot},
            geometry::Geometry,
            scratch::reserve,
            shared::Shared,
            tasks::{TASKS, balanced, summed},
        },
        element::Element,
        form::Form,
        operands::{ONE_TAP, Operands, Tile},
        prologue::Source,
    },
};

/// Tiles of a block, and channels of its sides.
const GRAD_TILES: usize = 112;
const GRAD_CHANNELS: usize = 64;
/// Floats from row to row; no multiple of 4 KiB.
const GRAD_PITCH: usize = GRAD_CHANNELS + 16;

/// `[co, 3, 3, ci]` from `x` and `dy`, which must have no prologue.
pub(in crate::kernel::conv) fn weight_grad<T: Element>(g: &Geometry, x: Source<T>, dy: Source<T>) -> Vec<f32> {
    let patches = tiles(g);
    let count = patches.pixels();
    let sides = [balanced(0..g.co, GRAD_CHANNELS), balanced(0..g.ci, GRAD_CHANNELS)];
    let blocks = sides[0].len() * sides[1].len();
    let parts = TASKS.div_ceil(blocks).min(count / GRAD_TILES).max(1);
    let parts = balanced(0..count, count.div_ceil(parts).max(1));
    if parts.is_empty() {
        return vec![0.0; g.co * 9 * g.ci];
    }
    let tile = g.precision.vector_tile();
    let len = g.co * 9 * g.ci;
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let out = Shared::new(out);
        (0..parts.len() * blocks).into_par_iter().for_each(|task| {
            let (part, block) = (task / blocks, task % blocks);
            let (rows, columns) = (&sides[0][block / sides[1].len()], &sides[1][block % sides[1].len()]);
            SCRATCH.with_borrow_mut(|scratch| {
                let range = parts[part].clone();
                weight_block(g, &patches, x, dy, range, rows.clone(), columns.clone(), &tile, scratch);
                let points = (&scratch.results.pixels[..], GRAD_CHANNELS * GRAD_CHANNELS, GRAD_CHANNELS);
                let at = part * len + rows.start * 9 * g.ci + columns.start;
                // SAFETY: this task alone writes these channels of both sides in this part.
                unsafe { transforms::gather(points, rows.len(), columns.len(), (out, at, g.ci)) };
            });
        });
    };
    // SAFETY: blocks cover all taps and channels of both sides, in every part, of which there is one at least.
    summed(unsafe { buffer::filled(parts.len() * len, fill) }, len)
}

/// Writes the sums over a range of the tiles, for some channels of both sides, `[point][GRAD_CHANNELS][GRAD_CHANNELS]`, to the
/// scratch memory of the results.
#[allow(clippy::too_many_arguments)] // one loop nest, split off for its length
fn weight_block<T: Element>(
    g: &Geometry,
    patches: &Patches,
    x: Source<T>,
    dy: Source<T>,
    range: Range<usize>,
    rows: Range<usize>,
    columns: Range<usize>,
    tile: &Tile,
    scratch: &mut Scratch,
) {
    let Scratch { tiles, others, results: Results { pixels: sums, spots, .. }, .. } = scratch;
    let sums = reserve(sums, POINTS * GRAD_CHANNELS * GRAD_CHANNELS);
    let Some(adjacent) = tile.adjacent else { unreachable!("`suits` is false for such tiles") };
    let tile_rows = balanced(0..rows.len(), tile.rows);
    for (index, range) in balanced(range, GRAD_TILES).into_iter().enumerate() {
        spots.clear();
        spots.extend(patches.spots(range));
        // Pairs of tiles, where a step takes two.
        let steps = spots.len().div_ceil(tile.group);
        let place = |index: usize| match tile.group {
            1 => (index * GRAD_PITCH, Form::Floats),
            _ if index.is_multiple_of(2) => (index / 2 * GRAD_PITCH, Form::Low),
            _ => (index / 2 * GRAD_PITCH, Form::High),
        };
        // A tile reads whole vectors: up to one beyond the last row.
        let len = POINTS * steps * GRAD_PITCH + 32;
        let (inputs, grads) = (reserve(tiles, len), reserve(others, len));
        transform(patches, &x, spots, columns.clone(), steps * GRAD_PITCH, place, inputs);
        spread(g, &dy, spots, rows.clone(), steps * GRAD_PITCH, place, grads);
        for (point, sums) in sums.chunks_exact_mut(GRAD_CHANNELS * GRAD_CHANNELS).enumerate() {
            let start = point * steps * GRAD_PITCH;
            for column in (0..columns.len()).step_by(tile.columns) {
                for rows in &tile_rows {
                    let sums = &mut sums[rows.start * GRAD_CHANNELS + column..rows.end * GRAD_CHANNELS];
                    let operands = Operands {
                        depth: steps,
                        a: grads[start + rows.start..].as_ptr(),
                        a_step: GRAD_PITCH,
                        b: inputs[start + column..].as_ptr(),
                        b_step: GRAD_PITCH,
                        b_part: 0,
                        taps: ONE_TAP,
                        b_tap: 0,
                        accumulate: index > 0,
                        c: sums.as_mut_ptr(),
                        c_row: GRAD_CHANNELS,
                    };
                    // SAFETY: `A` and `B` have a row of GRAD_PITCH floats for each of the tiles, and 32 more; a tile reads at
                    // most 14 and 32 from where it starts, below GRAD_CHANNELS, which are the columns that `C` has in each
                    // of its rows.
                    unsafe { adjacent(rows.len(), &operands) };
                }
            }
        }
    }
}

/// Writes `A dy A'` of the tiles at `spots`, for some channels, as [`transform`] does.
fn spread<T: Element>(
    g: &Geometry,
    dy: &Source<T>,
    spots: &[Spot],
    channels: Range<usize>,
    step: usize,
    place: impl Fn(usize) -> (usize, Form),
    tiles: &mut [f32],
) {
    for (tile, spot) in spots.iter().enumerate() {
        let mut pixels = [OUTSIDE; 4];
        for (at, pixel) in inside(g, *spot) {
            pixels[at] = pixel * dy.pitch + channels.start;
        }
        let (start, form) = place(tile);
        transforms::spread(form, (dy.data, pixels), channels.len(), &mut tiles[start..], step);
    }
}
