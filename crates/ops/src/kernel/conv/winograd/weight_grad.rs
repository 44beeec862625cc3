//! The weight gradient.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{
    tiles::{SCRATCH, Scratch, inside, tiles, transform},
    transforms::{self, POINTS},
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
        isa::vectorised,
        operands::{MAX_ROWS, Operands, Tile},
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
    let tile = g.precision.tile();
    let len = POINTS * g.co * g.ci;
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let out = Shared::new(out);
        (0..parts.len() * blocks).into_par_iter().for_each(|task| {
            let (part, block) = (task / blocks, task % blocks);
            let (rows, columns) = (&sides[0][block / sides[1].len()], &sides[1][block % sides[1].len()]);
            let first = part * len;
            let (rows, columns) = (rows.clone(), columns.clone());
            weight_block(g, &patches, x, dy, parts[part].clone(), rows, columns, &tile, out, first);
        });
    };
    // SAFETY: blocks cover all points and channels of both sides, in every part, of which there is one at least.
    let points = summed(unsafe { buffer::filled(parts.len() * len, fill) }, len);

    let mut grad = vec![0.0; g.co * 9 * g.ci];
    grad.par_chunks_exact_mut(9 * g.ci).enumerate().for_each(|(o, taps)| {
        let mut half = vec![0.0; 12 * g.ci];
        let point = |point: usize| &points[(point * g.co + o) * g.ci..][..g.ci];
        vectorised(|| {
            for (row, out) in half.chunks_exact_mut(3 * g.ci).enumerate() {
                gathered([0, 1, 2, 3].map(|column| point(4 * row + column)), out, g.ci);
            }
            for column in 0..3 {
                let from = [0, 1, 2, 3].map(|row| &half[(3 * row + column) * g.ci..][..g.ci]);
                gathered(from, &mut taps[column * g.ci..], 3 * g.ci);
            }
        });
    });
    grad
}

/// The product with `G'` along one axis: three rows from four, `step` apart.
#[inline(always)]
fn gathered([a, b, c, d]: [&[f32]; 4], out: &mut [f32], step: usize) {
    let n = a.len();
    let (p, out) = out.split_at_mut(step);
    let (q, r) = out.split_at_mut(step);
    let (p, q, r) = (&mut p[..n], &mut q[..n], &mut r[..n]);
    let (b, c, d) = (&b[..n], &c[..n], &d[..n]);
    for i in 0..n {
        let (sum, difference) = (0.5 * (b[i] + c[i]), 0.5 * (b[i] - c[i]));
        p[i] = a[i] + sum;
        q[i] = difference;
        r[i] = sum + d[i];
    }
}

/// Writes the sums over a range of the tiles, for some channels of both sides, to `[point][co][ci]` from `first` on.
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
    out: Shared<f32>,
    first: usize,
) {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { tiles, others, spots, .. } = scratch;
        let Some(adjacent) = tile.adjacent else { unreachable!("`suits` is false for such tiles") };
        let mut spill = [0.0; MAX_ROWS * 32];
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
            for point in 0..POINTS {
                let start = point * steps * GRAD_PITCH;
                for column in (0..columns.len()).step_by(tile.columns) {
                    let width = tile.columns.min(columns.len() - column);
                    for tile_rows in &tile_rows {
                        let row = point * g.co + rows.start + tile_rows.start;
                        let at = (first + row * g.ci + columns.start + column, g.ci);
                        let operands = Operands {
                            depth: steps,
                            a: grads[start + tile_rows.start..].as_ptr(),
                            a_step: GRAD_PITCH,
                            b: inputs[start + column..].as_ptr(),
                            b_step: GRAD_PITCH,
                            accumulate: index > 0,
                            c: std::ptr::null_mut(),
                            c_row: 0,
                        };
                        // SAFETY: `A` and `B` have a row of GRAD_PITCH floats for each of the tiles, and 32 more; a
                        // tile reads at most 14 and 32 from where it starts, below GRAD_CHANNELS; this task alone
                        // writes these points and channels of `out`.
                        unsafe {
                            out.write(tile, adjacent, (tile_rows.len(), width), at, operands, &mut spill);
                        }
                    }
                }
            }
        }
    });
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
        let mut pixels = [None; 4];
        for (at, pixel) in inside(g, *spot) {
            pixels[at] = Some(&dy.data[pixel * dy.pitch + channels.start..][..channels.len()]);
        }
        let (start, form) = place(tile);
        transforms::spread(form, pixels, channels.len(), &mut tiles[start..], step);
    }
}
