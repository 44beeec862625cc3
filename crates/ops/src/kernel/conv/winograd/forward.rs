//! The forward pass, and the input gradient, which is a forward pass with rotated filters.

use std::ops::{Range, RangeInclusive};

use rayon::prelude::*;

use super::{
    filters::Filters,
    tiles::{self, Results, SCRATCH, Scratch, blocks, inside, transform},
    transforms::{self, POINTS},
};
use crate::kernel::{
    conv::{
        finish::Sums,
        gather::Patches,
        geometry::{Epilogue, Geometry},
        scratch::{close_pairs, reserve},
        shared::Shared,
        tasks::{TASKS, balanced, in_steps},
    },
    element::Element,
    form::Form,
    isa::vectorised,
    moments,
    operands::{DEPTH, ONE_TAP, Operands, PITCH, Tile},
    prologue::Source,
};

/// The fewest output channels of a task, and the most where the depth is multiplied in several chunks.
const CHANNELS: RangeInclusive<usize> = 64..=256;

/// Steps of the depth that are multiplied at a time where there are more than [`DEPTH`]. What a task reads again and again
/// then fits into a second-level cache of 2 MB: the tiles of a block (0.46 MB), a panel of filters (0.26 MB), and the products
/// of all its panels (0.92 MB).
const STEPS: usize = 128;

/// The most blocks of a pass that transforms filters where it reads them: each block does it again, which takes less time
/// than to write them to memory and read them from there. Measured with a ResNet-18, batch 16, at 112 px: a training step in
/// 0.43 to 0.52 s of one thread in place of 0.53.
const FEW_BLOCKS: usize = 3;

/// A pass and where its results go.
struct Pass<'a, T> {
    g: &'a Geometry,
    patches: Patches,
    blocks: Vec<Range<usize>>,
    /// The depths that are multiplied at a time.
    chunks: Vec<Range<usize>>,
    tile: Tile,
    channels: usize,
    x: Source<'a, T>,
    epilogue: Epilogue<'a, T>,
    out: Shared<T>,
    adds: bool,
    moments: Option<Shared<f64>>,
}

/// Writes the convolution of `x`, after the epilogue, to `out`, or, if `adds`, adds it to what `out` holds, and the moments of
/// each block and channel to `moments`, stored as in [`moments::Parts`].
pub(in crate::kernel::conv) fn forward<T: Element>(
    g: &Geometry,
    x: Source<T>,
    filters: &Filters,
    epilogue: Epilogue<T>,
    (out, adds): (Shared<T>, bool),
    moments: Option<Shared<f64>>,
) {
    let Filters { depth, channels, tile, .. } = *filters;
    let steps = if depth <= DEPTH { DEPTH } else { STEPS };
    let (patches, chunks) = (tiles::tiles(g), in_steps(depth, steps * tile.group, tile.group));
    let pass = Pass { g, patches, blocks: blocks(g), chunks, tile, channels, x, epilogue, out, adds, moments };
    if filters.are_kept() || pass.blocks.len() <= FEW_BLOCKS {
        return pass.run(filters);
    }
    pass.run(&filters.kept());
}

impl<T: Element> Pass<'_, T> {
    /// A task is a block of tiles by a few panels.
    fn run(&self, filters: &Filters) {
        let width = self.tile.columns;
        let panels = self.channels.div_ceil(width);
        let [least, most] = [CHANNELS.start(), CHANNELS.end()].map(|channels| channels.div_ceil(width));
        let last = self.chunks.len().saturating_sub(1);
        let groups = TASKS.div_ceil(self.blocks.len().max(1)).min(panels / least).max(1);
        // Of several chunks, the products of all panels wait for the last one.
        let groups = if last > 0 { groups.max(panels.div_ceil(most)) } else { groups };
        let groups = balanced(0..panels, panels.div_ceil(groups).max(1));
        (0..self.blocks.len() * groups.len()).into_par_iter().for_each(|task| {
            let (block, panels) = (task / groups.len(), &groups[task % groups.len()]);
            SCRATCH.with_borrow_mut(|scratch| {
                let Scratch { tiles, others, filters: room, results } = scratch;
                let count = self.blocks[block].len();
                let tiles = reserve(tiles, POINTS * count * PITCH);
                let len = POINTS * count * width;
                let products = reserve(others, len * if last > 0 { panels.len() } else { 1 });
                for (chunk, depths) in self.chunks.iter().enumerate() {
                    self.transform(block, depths, results, tiles);
                    for (at, panel) in panels.clone().enumerate() {
                        let products = &mut products[if last > 0 { at * len } else { 0 }..][..len];
                        self.multiply(chunk, filters.panel(panel, depths.clone(), room), tiles, products);
                        if chunk == last {
                            self.finish(block, panel, products, results);
                        }
                    }
                }
            });
        });
    }

    /// Transforms the tiles of a block, `[point][tile][PITCH]`, for some depths.
    fn transform(&self, block: usize, depths: &Range<usize>, results: &mut Results, tiles: &mut [f32]) {
        let spots = &mut results.spots;
        spots.clear();
        spots.extend(self.patches.spots(self.blocks[block].clone()));
        let form = if self.tile.group == 1 { Form::Floats } else { Form::Halves };
        let place = |tile| (tile * PITCH, form);
        transform(&self.patches, &self.x, spots, depths.clone(), spots.len() * PITCH, place, tiles);
        if form == Form::Halves {
            close_pairs(tiles, depths.len(), &self.tile);
        }
    }

    /// Writes the products of the tiles of a block by a panel, `[point][tile][width]`, for one chunk of depths; added to the
    /// products of the chunks before it.
    fn multiply(&self, chunk: usize, (panel, step): (&[f32], usize), tiles: &[f32], products: &mut [f32]) {
        let Tile { columns, pitched, rows, group, .. } = self.tile;
        let count = products.len() / (POINTS * columns);
        let depth = self.chunks[chunk].len().div_ceil(group);
        let ranges = balanced(0..count, rows);
        let points = tiles.chunks_exact(count * PITCH).zip(products.chunks_exact_mut(count * columns));
        for (point, (tiles, products)) in points.enumerate() {
            let b = &panel[point * step..][..depth * columns];
            for range in &ranges {
                let a = &tiles[range.start * PITCH..(range.end - 1) * PITCH + depth];
                let operands = Operands {
                    depth,
                    a: a.as_ptr(),
                    a_step: 1,
                    b: b.as_ptr(),
                    b_step: columns,
                    b_part: 0,
                    taps: ONE_TAP,
                    b_tap: 0,
                    accumulate: chunk > 0,
                    c: products[range.start * columns..range.end * columns].as_mut_ptr(),
                    c_row: columns,
                };
                // SAFETY: `A`, `B` and `C` are the slices above, as long as a tile of these rows reads and writes.
                unsafe { pitched(range.len(), &operands) };
            }
        }
    }

    /// Transforms the products of a block and a panel to pixels, and writes them.
    fn finish(&self, block: usize, panel: usize, products: &[f32], results: &mut Results) {
        let Results { pixels, spots, places, rows } = results;
        spots.clear();
        spots.extend(self.patches.spots(self.blocks[block].clone()));
        let (g, width) = (self.g, self.tile.columns);
        let pixels = reserve(pixels, 4 * spots.len() * width);
        let channel = panel * width;
        let lanes = width.min(self.channels - channel);
        places.clear();
        for (tile, spot) in spots.iter().enumerate() {
            // The pixels outside are dropped, the others move up.
            let first = places.len();
            transforms::output(&products[tile * width..], spots.len() * width, width, &mut pixels[first * width..]);
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
        if let Some(moments) = self.moments {
            let finished = pixels.chunks_exact(width).map(|row| &row[..lanes]).take(places.len());
            // SAFETY: the task of this block and panel alone writes these moments.
            let to = unsafe { moments::Parts::at(block, self.channels).map(|at| moments.slice(at + channel, lanes)) };
            vectorised(|| moments::of_rows(finished, to));
        }
        let memory = Shared::written(pixels);
        // SAFETY: `pixels` belongs to this task, and it alone writes these pixels and channels of `out`.
        unsafe { self.epilogue.write(Sums { memory, rows, from: 0, places, channel, lanes }, self.out, self.adds) };
    }
}
