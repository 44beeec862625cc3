//! Patches times weights: the blocked matrix product of the forward pass and the input gradient.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    finish::Sums,
    gather::{Gather, Spot},
    geometry::{Epilogue, Precision},
    packed::Packed,
    plan::{Plan, TileRows},
    scratch::{SCRATCH, Scratch, close_pairs, reserve, round_rows},
    shared::Shared,
    tasks::{TASKS, balanced, in_steps},
};
use crate::kernel::{
    element::Element,
    form::Form,
    isa::vectorised,
    moments,
    operands::{MAX_ROWS, ONE_TAP, Operands, PART, PARTS, PITCH, PLANE, Tile},
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

/// The values of `k` of each product, of those that were gathered.
fn spans(depths: &Range<usize>, tile: &Tile) -> Vec<Range<usize>> {
    let most = tile.span.saturating_mul(tile.group);
    if depths.len() <= most {
        return vec![depths.clone()];
    }
    let each = in_steps(depths.len(), most, tile.unit());
    each.into_iter().map(|span| depths.start + span.start..depths.start + span.end).collect()
}

/// The results of one task while they are summed up.
#[derive(Clone, Copy)]
struct Partial<'a> {
    memory: Shared<f32>,
    /// Where each pixel starts in `memory`.
    rows: &'a [usize],
    /// Where each pixel starts in the output.
    places: &'a [usize],
    kind: Kind,
    /// Floats from row to row of `memory`.
    pitch: usize,
}

/// What a tile multiplies by.
struct Step<'a> {
    panel: usize,
    /// The values of `k`, of the first tap.
    depths: Range<usize>,
    /// Where the first of them is in a row of what is gathered.
    from: usize,
    /// Floats from what is gathered for the tile to what it reads for each tap.
    taps: &'a [usize],
    /// The values of `k` of every tap.
    tap_depth: usize,
    /// Whether the sums are complete then.
    last: bool,
}

/// Where the sums of a task are until they are finished.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In the output itself: it is `f32`, its pixels follow one another, and they are complete after one pass over the
    /// weights.
    Output,
    /// Those of one panel, complete after one pass over the weights: they stay in the first-level cache.
    Panel,
    /// Those of all panels of the task, from this channel on.
    Panels { first: usize },
}

impl Kind {
    /// Where a panel's sums start in a row; `channel` is its first.
    fn from(self, channel: usize) -> usize {
        match self {
            Kind::Output => channel,
            Kind::Panel => 0,
            Kind::Panels { first } => channel - first,
        }
    }
}

impl<T: Element> Product<'_, T> {
    pub(super) fn run(&self) {
        if self.adds && self.weights.depth == 0 {
            return; // nothing is added
        }
        let tile = &self.weights.tile;
        let plan = &Plan::new(&self.gather.patches, tile, self.weights.lines);
        let gather = &Gather::new(plan.gathered(), self.gather.source);
        let panels = self.weights.channels.div_ceil(tile.columns);
        let panels_min = MIN_CHANNELS.div_ceil(tile.columns);
        // Every group gathers for itself, so there are no more than the threads need. Their number changes no bit.
        let tasks = TASKS.min(4 * rayon::current_num_threads());
        let groups = tasks.div_ceil(plan.blocks().max(1)).min(panels / panels_min).max(1);
        let groups = balanced(0..panels, panels.div_ceil(groups).max(1));
        (0..plan.blocks() * groups.len()).into_par_iter().for_each(|task| {
            let (block, panels) = (task / groups.len(), &groups[task % groups.len()]);
            self.block(plan, gather, block, panels.clone());
        });
    }

    /// One task: some pixels by some panels of the weights.
    fn block(&self, plan: &Plan, gather: &Gather<T>, index: usize, panels: Range<usize>) {
        let Packed { channels, tile, .. } = *self.weights;
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { left: gathered, results, block, places, rows, .. } = scratch;
            let mut spill = [0.0; MAX_ROWS * 32];
            plan.fill(index, block);
            let first = panels.start * tile.columns;
            let width = (panels.end * tile.columns).min(channels) - first;
            places.clear();
            places.extend(block.patches.iter().map(|spot| self.layout.index(spot)));
            rows.clear();
            let (taps, depth) = (plan.taps(), plan.tap_depth());
            let (count, at_once) = (taps.len(), (tile.taps / tile.steps_of(depth).max(1)).clamp(1, taps.len()));
            let floats = self.out.floats();
            let (kind, pitch) = match floats {
                _ if depth > tile.depth => {
                    // No power of two.
                    (Kind::Panels { first }, width.next_multiple_of(tile.columns) + 16)
                }
                // A tile that computes all its rows would write to those of others.
                Some(_) if self.layout.step == 1 && tile.steps == 1 => (Kind::Output, self.layout.pitch),
                _ => (Kind::Panel, tile.columns),
            };
            let memory = match floats {
                Some(out) if kind == Kind::Output => {
                    rows.extend_from_slice(places);
                    out
                }
                _ => {
                    rows.extend(block.rows.iter().map(|row| row * pitch));
                    let last = block.tiles.last().map_or(0, |tile| tile.to);
                    Shared::written(reserve(results, (last + MAX_ROWS) * pitch))
                }
            };
            let room = if self.weights.lines { PARTS * PLANE } else { (block.gathered.len() + MAX_ROWS) * PITCH };
            let gathered = reserve(gathered, room);
            let sums = Partial { memory, rows, places, kind, pitch };
            let mut depths = in_steps(depth, tile.depth, tile.unit());
            if depths.is_empty() {
                depths.push(0..0); // no tap reads these pixels: zeros
            }
            for depths in depths {
                self.load(gather, &block.gathered, depths.clone(), gathered);
                let last = depths.end == depth;
                // Few weights stay in the cache: then every row of the result is written as a whole.
                let steps = tile.steps_of(depths.len());
                let whole_rows =
                    kind != Kind::Panel && tile.steps == 1 && steps * panels.len() * tile.columns <= ROW_WEIGHTS;
                let band = if whole_rows { 1 } else { block.tiles.len() };
                let spans = spans(&depths, &tile);
                for tiles in block.tiles.chunks(band.max(1)) {
                    for panel in panels.clone() {
                        for (group, taps) in taps.chunks(at_once).enumerate() {
                            let k = group * at_once * depth;
                            let complete = last && (group + 1) * at_once == count;
                            for span in &spans {
                                let step = Step {
                                    panel,
                                    depths: k + span.start..k + span.end,
                                    from: tile.steps_of(span.start - depths.start),
                                    taps,
                                    tap_depth: depth,
                                    last: complete && span.end == depth,
                                };
                                for rows in tiles {
                                    self.tile(sums, gathered, &step, rows, &mut spill);
                                }
                            }
                        }
                        if !whole_rows && last {
                            self.finish(sums, index, panel);
                        }
                    }
                }
                if whole_rows && last {
                    panels.clone().for_each(|panel| self.finish(sums, index, panel));
                }
            }
        });
    }

    /// Gathers the values `depths` of the patches at `spots`, in the form that tiles read.
    fn load(&self, gather: &Gather<T>, spots: &[Spot], depths: Range<usize>, patches: &mut [f32]) {
        let Packed { precision, tile, lines, .. } = *self.weights;
        if lines {
            let form = if tile.parts > 1 { Form::HalfParts } else { Form::Halves };
            gather.block(spots, 0..gather.patches.depth(), (form, PLANE), patches);
        } else if tile.group == 1 {
            gather.block(spots, depths.clone(), (Form::Floats, 0), patches);
            if precision == Precision::Bf16 {
                round_rows(patches, spots.len(), depths.len());
            }
        } else {
            let form = if tile.parts > 1 { Form::HalfParts } else { Form::Halves };
            gather.block(spots, depths.clone(), (form, PART), patches);
            close_pairs(&mut patches[..spots.len() * PITCH], depths.len(), &tile);
        }
    }

    /// Some rows of the result by one panel: adds the products of one step.
    #[inline(always)]
    fn tile(&self, sums: Partial, gathered: &[f32], step: &Step, tile: &TileRows, spill: &mut [f32; MAX_ROWS * 32]) {
        let kernel = &self.weights.tile;
        let (channel, lanes) = self.channels(step.panel);
        let places = &sums.places[tile.patches.clone()];
        let (last, direct) = (step.last, sums.kind == Kind::Output);
        let (first, taps) = if kernel.taps > 0 { (0, step.taps) } else { (step.taps[0], ONE_TAP) };
        let run = kernel.lines.filter(|_| self.weights.lines).unwrap_or(kernel.pitched);
        let operands = Operands {
            depth: kernel.steps_of(step.depths.len()),
            a: gathered[tile.from + first + step.from..].as_ptr(),
            a_step: 1,
            b: self.weights.from(step.panel, step.depths.start).as_ptr(),
            b_step: kernel.columns,
            b_part: self.weights.part,
            taps,
            b_tap: kernel.steps_of(step.tap_depth) * kernel.columns,
            accumulate: step.depths.start > 0 || direct && self.adds,
            c: std::ptr::null_mut(),
            c_row: 0,
        };
        let onto = (self.adds && !direct).then_some(self.out.start().cast_const());
        if let (true, Some(residual)) = (last, onto.or(self.epilogue.residual.map(<[T]>::as_ptr))) {
            for place in places {
                let row = residual.wrapping_add(place + channel).cast::<f32>();
                prefetch(row);
                prefetch(row.wrapping_add(16));
            }
        }
        let from = sums.kind.from(channel);
        let start = if direct { sums.rows[tile.patches.start] } else { tile.to * sums.pitch };
        // SAFETY: `A` is `gathered`, which has a row of PITCH floats for each of a block's patches or pixels and MAX_ROWS
        // more; `B` is a panel from the step's first value on, which has a row for each step; this task alone writes these
        // pixels and channels of `memory`, which has MAX_ROWS more rows than pixels where they are `pitch` apart.
        unsafe {
            sums.memory.write(kernel, run, (tile.count, lanes), (start + from, sums.pitch), operands, spill);
            if last && direct && !self.epilogue.is_empty() {
                let rows = &sums.rows[tile.patches.clone()];
                let sums = Sums { memory: sums.memory, rows, from, places, channel, lanes };
                self.epilogue.write(sums, self.out, false);
            }
        }
    }

    /// The first channel of a panel, and how many it has.
    fn channels(&self, panel: usize) -> (usize, usize) {
        let Packed { channels, tile, .. } = *self.weights;
        let first = panel * tile.columns;
        (first, tile.columns.min(channels - first))
    }

    /// What follows on the sums of a block and panel: their moments, if they are asked for, and their way to the output.
    fn finish(&self, sums: Partial, block: usize, panel: usize) {
        let (channel, lanes) = self.channels(panel);
        let Partial { memory, rows, places, kind, .. } = sums;
        let from = kind.from(channel);
        if let Some(moments) = self.moments {
            // SAFETY: this task alone has written these pixels and channels, and alone writes these moments.
            let (rows, to) = unsafe {
                let rows = rows.iter().map(|at| &*memory.slice(at + from, lanes));
                let at = moments::Parts::at(block, self.weights.channels);
                (rows, at.map(|at| moments.slice(at + channel, lanes)))
            };
            vectorised(|| moments::of_rows(rows, to));
        }
        if kind != Kind::Output {
            // SAFETY: this task alone has written these sums, and alone writes these pixels and channels.
            unsafe { self.epilogue.write(Sums { memory, rows, from, places, channel, lanes }, self.out, self.adds) };
        }
    }
}
