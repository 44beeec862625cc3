//! The forward pass, and the input gradient, which is a forward pass with rotated filters.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    filters::Filters,
    tiles::{self, SCRATCH, Scratch, blocks, inside, transform},
    transforms::{self, POINTS},
};
use crate::kernel::{
    conv::{
        finish::Sums,
        geometry::{Epilogue, Geometry},
        scratch::{DEPTH, close_pairs, reserve},
        shared::Shared,
        tasks::{TASKS, balanced, in_steps},
    },
    element::Element,
    form::Form,
    isa::vectorised,
    moments,
    operands::{Operands, PITCH, Tile},
    prologue::Source,
};

/// The fewest output channels of a task.
const MIN_CHANNELS: usize = 64;

/// Writes the convolution of `x`, after the epilogue, to `out`, or, if `adds`, adds it to what `out` holds, and the moments of each block and channel to `moments`, stored
/// as in [`moments::Parts`].
pub(in crate::kernel::conv) fn forward<T: Element>(
    g: &Geometry,
    x: Source<T>,
    filters: &Filters,
    epilogue: Epilogue<T>,
    (out, adds): (Shared<T>, bool),
    moments: Option<Shared<f64>>,
) {
    let width = filters.tile.columns;
    let blocks = blocks(g);
    let panels = filters.channels.div_ceil(width);
    let groups = TASKS.div_ceil(blocks.len().max(1)).min(panels / MIN_CHANNELS.div_ceil(width)).max(1);
    let groups = balanced(0..panels, panels.div_ceil(groups).max(1));
    let patches = tiles::tiles(g);
    (0..blocks.len() * groups.len()).into_par_iter().for_each(|task| {
        let (block, panels) = (task / groups.len(), &groups[task % groups.len()]);
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { tiles, others, pixels, spots, places, rows } = scratch;
            spots.clear();
            spots.extend(patches.spots(blocks[block].clone()));
            let chunks = in_steps(filters.depth, DEPTH, filters.tile.group);
            let chunk_len = POINTS * spots.len() * PITCH;
            let tiles = reserve(tiles, chunks.len() * chunk_len);
            let products = reserve(others, POINTS * spots.len() * width);
            for (channels, tiles) in chunks.iter().zip(tiles.chunks_exact_mut(chunk_len)) {
                let form = if filters.tile.group == 1 { Form::Floats } else { Form::Halves };
                let place = |tile| (tile * PITCH, form);
                transform(&patches, &x, spots, channels.clone(), spots.len() * PITCH, place, tiles);
                if form == Form::Halves {
                    close_pairs(tiles, channels.len(), filters.tile.steps_of(channels.len()));
                }
            }
            let pixels = reserve(pixels, 4 * spots.len() * width);
            for panel in panels.clone() {
                for (chunk, channels) in chunks.iter().enumerate() {
                    for point in 0..POINTS {
                        let tiles = &tiles[chunk * chunk_len + point * spots.len() * PITCH..];
                        let products = &mut products[point * spots.len() * width..][..spots.len() * width];
                        multiply(filters, panel, point, channels.clone(), tiles, products, spots.len());
                    }
                }
                let channel = panel * width;
                let lanes = width.min(filters.channels - channel);
                places.clear();
                for (tile, spot) in spots.iter().enumerate() {
                    // The pixels outside are dropped, the others move up.
                    let first = places.len();
                    transforms::output(
                        &products[tile * width..],
                        spots.len() * width,
                        width,
                        &mut pixels[first * width..],
                    );
                    for (at, pixel) in inside(g, *spot) {
                        let row = places.len();
                        if first + at != row {
                            pixels.copy_within((first + at) * width..(first + at) * width + lanes, row * width);
                        }
                        places.push(pixel * g.co);
                    }
                }
                rows.clear();
                rows.extend((0..places.len()).map(|row| row * width));
                if let Some(moments) = moments {
                    let finished = pixels.chunks_exact(width).map(|row| &row[..lanes]).take(places.len());
                    // SAFETY: this task alone writes these moments.
                    let to = unsafe {
                        moments::Parts::at(block, filters.channels).map(|at| moments.slice(at + channel, lanes))
                    };
                    vectorised(|| moments::of_rows(finished, to));
                }
                let memory = Shared::written(pixels);
                // SAFETY: `pixels` belongs to this task, and it alone writes these pixels and channels of `out`.
                unsafe { epilogue.write(Sums { memory, rows, from: 0, places, channel, lanes }, out, adds) };
            }
        });
    });
}

/// Writes the products of one point and panel, `[tile][width]`, for one chunk of channels; added to the
/// products of the chunks before it.
fn multiply(
    filters: &Filters,
    panel: usize,
    point: usize,
    channels: Range<usize>,
    tiles: &[f32],
    products: &mut [f32],
    count: usize,
) {
    let Tile { columns, pitched, group, .. } = filters.tile;
    let panel = filters.from(panel, point, channels.start);
    let depth = channels.len().div_ceil(group);
    for range in balanced(0..count, filters.tile.rows) {
        let a = &tiles[range.start * PITCH..(range.end - 1) * PITCH + depth];
        let b = &panel[..depth * columns];
        let operands = Operands {
            depth,
            a: a.as_ptr(),
            a_step: 1,
            b: b.as_ptr(),
            b_step: columns,
            accumulate: channels.start > 0,
            c: products[range.start * columns..range.end * columns].as_mut_ptr(),
            c_row: columns,
        };
        // SAFETY: `A`, `B` and `C` are the slices above, as long as a tile of these rows reads and writes.
        unsafe { pitched(range.len(), &operands) };
    }
}
