//! Patches times weights: the blocked matrix product of the forward pass and the input gradient.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    finish::Sums,
    gather::{Gather, Spot},
    geometry::{Epilogue, Precision},
    packed::Packed,
    scratch::{DEPTH, SCRATCH, Scratch, close_pairs, reserve, round_rows},
    shared::Shared,
    tasks::{TASKS, balanced, in_steps},
};
use crate::kernel::{
    element::Element,
    form::Form,
    isa::vectorised,
    moments,
    operands::{MAX_ROWS, Operands, PITCH, Tile},
    tile::prefetch,
};

/// The fewest output channels of a task: with fewer, gathering costs more than multiplying.
const MIN_CHANNELS: usize = 128;
/// The most floats of weights that are read again for every few rows of the result: 128 KiB.
const ROW_WEIGHTS: usize = 32 << 10;

/// Where the patches of a pass have their results in `[n, h, w, c]`.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) h: usize,
    pub(super) w: usize,
    /// Elements from pixel to pixel.
    pub(super) pitch: usize,
    /// Pixels from one result to the next, along both axes.
    pub(super) step: usize,
    /// Row and column of the first result.
    pub(super) y: usize,
    pub(super) x: usize,
}

impl Layout {
    /// The index of the first channel of a patch's result.
    fn index(&self, spot: &Spot) -> usize {
        let (row, column) = (self.y + spot.row * self.step, self.x + spot.column * self.step);
        ((spot.image * self.h + row) * self.w + column) * self.pitch
    }
}

/// Multiplies every patch with the weights, applies the epilogue, and writes the results to where `layout` says.
pub(super) struct Product<'a, T> {
    pub(super) gather: &'a Gather<'a, T>,
    pub(super) weights: &'a Packed,
    pub(super) layout: Layout,
    pub(super) epilogue: Epilogue<'a, T>,
    pub(super) out: Shared<T>,
    /// Whether the results are added to what `out` holds, which is then initialised.
    pub(super) adds: bool,
    /// If given, the moments of each block of [`blocks`] and channel, stored as in [`moments::Parts`].
    pub(super) moments: Option<Shared<f64>>,
}

/// How the pixels of a product are divided.
pub(super) fn blocks(pixels: usize, tile: &Tile) -> Vec<Range<usize>> {
    balanced(0..pixels, tile.pixels)
}

/// The results of one task while they are summed up.
#[derive(Clone, Copy)]
struct Partial<'a> {
    memory: Shared<f32>,
    /// Whether `memory` is the output.
    direct: bool,
    /// Where each pixel starts in `memory`.
    rows: &'a [usize],
    /// Where each pixel starts in the output.
    places: &'a [usize],
    /// The channel at which both start.
    first: usize,
}

impl<T: Element> Product<'_, T> {
    pub(super) fn run(&self) {
        if self.adds && self.weights.depth == 0 {
            return; // nothing is added
        }
        let blocks = blocks(self.gather.patches.pixels(), &self.weights.tile);
        let panels = self.weights.channels.div_ceil(self.weights.tile.columns);
        let panels_min = MIN_CHANNELS.div_ceil(self.weights.tile.columns);
        let groups = TASKS.div_ceil(blocks.len().max(1)).min(panels / panels_min).max(1);
        let groups = balanced(0..panels, panels.div_ceil(groups).max(1));
        (0..blocks.len() * groups.len()).into_par_iter().for_each(|task| {
            let (block, panels) = (task / groups.len(), &groups[task % groups.len()]);
            self.block(block, blocks[block].clone(), panels.clone());
        });
    }

    /// One task: some pixels by some panels of the weights.
    fn block(&self, block: usize, pixels: Range<usize>, panels: Range<usize>) {
        let Packed { depth, channels, tile, .. } = *self.weights;
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { left: patches, results, spots, places, rows, .. } = scratch;
            let mut spill = [0.0; MAX_ROWS * 32];
            let tiles = balanced(0..pixels.len(), tile.rows);
            let first = panels.start * tile.columns;
            let width = (panels.end * tile.columns).min(channels) - first;
            spots.clear();
            spots.extend(self.gather.patches.spots(pixels));
            places.clear();
            places.extend(spots.iter().map(|spot| self.layout.index(spot) + first));
            rows.clear();
            // The output itself holds the sums if it is `f32` and they are complete after one pass over the weights.
            let direct = self.out.floats().filter(|_| depth <= DEPTH * tile.group);
            let memory = if let Some(out) = direct {
                rows.extend_from_slice(places);
                out
            } else {
                let pitch = width.next_multiple_of(tile.columns) + 16; // no power of two
                rows.extend((0..spots.len()).map(|row| row * pitch));
                Shared::written(reserve(results, spots.len() * pitch))
            };
            let sums = Partial { memory, direct: direct.is_some(), rows, places, first };
            let mut depths = in_steps(depth, DEPTH * tile.group, tile.unit());
            if depths.is_empty() {
                depths.push(0..0); // no tap reads these pixels: zeros
            }
            for depths in depths {
                self.load(spots, depths.clone(), patches);
                let last = depths.end == depth;
                // Few weights stay in the cache: then every row of the result is written as a whole.
                let steps = tile.steps_of(depths.len());
                let whole_rows = steps * panels.len() * tile.columns <= ROW_WEIGHTS;
                let band = if whole_rows { 1 } else { tiles.len() };
                for tiles in tiles.chunks(band.max(1)) {
                    for panel in panels.clone() {
                        for rows in tiles {
                            self.tile(sums, patches, panel, &depths, rows, &mut spill);
                        }
                        if !whole_rows && last {
                            self.write_moments(sums, block, panel);
                        }
                    }
                    if last && direct.is_none() {
                        let end = tiles.last().map_or(0, |tile| tile.end);
                        for row in tiles.first().map_or(0, |tile| tile.start)..end {
                            // SAFETY: this task alone has written these sums, and alone writes these pixels and channels.
                            unsafe { self.out.put(sums.places[row], memory.slice(sums.rows[row], width)) };
                        }
                    }
                }
                if whole_rows && last {
                    panels.clone().for_each(|panel| self.write_moments(sums, block, panel));
                }
            }
        });
    }

    /// Gathers the values `depths` of the patches at `spots`, in the form that tiles read.
    fn load(&self, spots: &[Spot], depths: Range<usize>, patches: &mut [f32]) {
        let Packed { precision, tile, .. } = *self.weights;
        if tile.group == 1 {
            self.gather.block(spots, depths.clone(), Form::Floats, patches);
            if precision == Precision::Bf16 {
                round_rows(patches, spots.len(), depths.len());
            }
        } else {
            self.gather.block(spots, depths.clone(), Form::Halves, patches);
            close_pairs(&mut patches[..spots.len() * PITCH], depths.len(), tile.steps_of(depths.len()));
        }
    }

    /// Some rows of the result by one panel: adds the products of `depths`, and finishes the sums after the last of them.
    #[inline(always)]
    fn tile(
        &self,
        sums: Partial,
        patches: &[f32],
        panel: usize,
        depths: &Range<usize>,
        tile_rows: &Range<usize>,
        spill: &mut [f32; MAX_ROWS * 32],
    ) {
        let Packed { depth, channels, tile, .. } = *self.weights;
        let channel = panel * tile.columns;
        let (lanes, from) = (tile.columns.min(channels - channel), channel - sums.first);
        let (rows, places) = (&sums.rows[tile_rows.clone()], &sums.places[tile_rows.clone()]);
        let last = depths.end == depth;
        let operands = Operands {
            depth: tile.steps_of(depths.len()),
            a: patches[tile_rows.start * PITCH..].as_ptr(),
            a_step: 1,
            b: self.weights.from(panel, depths.start).as_ptr(),
            b_step: tile.columns,
            accumulate: depths.start > 0 || sums.direct && self.adds,
        };
        let onto = (self.adds && !sums.direct).then_some(self.out);
        let residual = self.epilogue.residual.map(<[T]>::as_ptr).or(onto.map(|out| out.start().cast_const()));
        if let (true, Some(residual)) = (last, residual) {
            for place in places {
                let row = residual.wrapping_add(place + from).cast::<f32>();
                prefetch(row);
                prefetch(row.wrapping_add(16));
            }
        }
        // SAFETY: `A` is `patches`, which has a row of PITCH floats for each of a block's pixels and MAX_ROWS more; `B` is a panel from `depths.start` on, which has a row for
        // each step; this task alone writes these pixels and channels of `memory`.
        unsafe {
            let at = |row: usize| rows[row] + from;
            sums.memory.write(tile.pitched, rows.len(), lanes, tile.columns, operands, spill, at);
            if last {
                self.epilogue.apply(Sums { memory: sums.memory, rows, places, from, channel, lanes }, onto);
            }
        }
    }

    /// Writes the moments of a block and panel, if they are asked for; its sums must be finished.
    fn write_moments(&self, sums: Partial, block: usize, panel: usize) {
        let Some(moments) = self.moments else { return };
        let Packed { channels, tile, .. } = *self.weights;
        let channel = panel * tile.columns;
        let lanes = tile.columns.min(channels - channel);
        // SAFETY: this task alone has written these pixels and channels, and alone writes these moments.
        let (rows, to) = unsafe {
            let rows = sums.rows.iter().map(|at| &*sums.memory.slice(at + channel - sums.first, lanes));
            (rows, moments::Parts::at(block, channels).map(|at| moments.slice(at + channel, lanes)))
        };
        vectorised(|| moments::of_rows(rows, to));
    }
}
