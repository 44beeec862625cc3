//! The weight gradient of kernels with several taps, by tiles that take pairs of values.
//!
//! A pair is one pixel of two images. So the pixels of the padded images, gathered once, row by row, are what every tap is
//! multiplied with: under another tap, the gradient's pixels meet pixels that are further by the same number of pairs. The
//! gradient has as many pixels in a row as a padded image; the last of them are zeros.
//!
//! With a stride `s`, the pixels of each remainder modulo `s` along each axis (a *phase*) are gathered as an image of their own.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{
    gather::{Gather, Patches, Spot},
    geometry::{Geometry, Precision},
    scratch::{SCRATCH, Scratch, reserve, turn},
    shared::Shared,
    tasks::{balanced, in_steps, sum_parts, summed, tiled},
    weight_grad::load,
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

/// The most pairs whose pixels are gathered at once.
const BAND: usize = 512;
/// The most channels of `x` in a block.
const CHANNELS: usize = 64;
/// The most taps, so that the sums of a block stay in the second-level cache.
const TAPS: usize = 16;
/// The share of the pairs' pixels that must be some for this to pay.
const ENOUGH: f64 = 0.7;

/// Whether a weight gradient is faster so.
pub(super) fn suits(g: &Geometry) -> bool {
    let (tile, taps) = (g.precision.tile(), g.kh * g.kw);
    let steps = (g.oh * width(g)).next_multiple_of(tile.steps);
    let used = (g.n * g.oh * g.ow) as f64 / (2 * g.n.div_ceil(2) * steps) as f64;
    tile.group == 2 && tile.adjacent.is_none() && (2..=TAPS).contains(&taps) && g.ci >= 32 && used >= ENOUGH
}

/// Pixels in a row.
fn width(g: &Geometry) -> usize {
    g.ow + (g.kw - 1) / g.stride
}

/// What some taps are multiplied with.
struct Phase<'a, T> {
    /// Single pixels.
    gather: Gather<'a, T>,
    /// How many follow the last that the first tap is multiplied with.
    more: usize,
}

/// `[co, kh, kw, ci]` from `x` and `dy`, which must have no prologue.
pub(super) fn weight_grad<T: Element>(g: &Geometry, x: Source<T>, dy: Source<T>) -> Vec<f32> {
    let (tile, s, width) = (g.precision.tile(), g.stride, width(g));
    let phase = |py: usize, px: usize| {
        let (rows, columns) = ((g.kh - 1 - py) / s, (g.kw - 1 - px) / s);
        let patches = Patches::forward(g);
        let (y, x_from) = (patches.y + py as isize, patches.x + px as isize);
        let patches = Patches { kh: 1, kw: 1, y, x: x_from, grid_h: g.oh + rows, grid_w: width, ..patches };
        Phase { gather: Gather::new(patches, x), more: rows * width + columns }
    };
    let (high, wide) = (s.min(g.kh), s.min(g.kw));
    let phases: Vec<_> = (0..high).flat_map(|py| (0..wide).map(move |px| (py, px))).map(|(y, x)| phase(y, x)).collect();
    // Phase of each tap, and the first pixel that it is multiplied with.
    let tap = |tap: usize| {
        let (y, x) = (tap / g.kw, tap % g.kw);
        (y % s * wide + x % s, y / s * width + x / s)
    };
    let pass = Pass {
        n: g.n,
        width,
        grads: Gather::new(Patches::of_output(g), dy),
        phases,
        taps: (0..g.kh * g.kw).map(tap).collect(),
        precision: g.precision,
        tile,
        bands: in_steps(g.oh * width, BAND, tile.steps),
    };

    let sides = [balanced(0..g.co, DEPTH), in_steps(g.ci, CHANNELS, tile.columns)];
    let blocks = sides[0].len() * sides[1].len();
    let units = g.n.div_ceil(2) * pass.bands.len();
    let depth = g.kh * g.kw * g.ci;
    let len = g.co * depth;
    let parts = sum_parts(blocks, g.n * (g.h * g.w * g.ci + g.oh * g.ow * g.co), len).min(units).max(1);
    let parts = balanced(0..units, units.div_ceil(parts).max(1));
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let out = Shared::new(out);
        (0..parts.len() * blocks).into_par_iter().for_each(|task| {
            let (part, block) = (task / blocks, task % blocks);
            let (rows, columns) = (&sides[0][block / sides[1].len()], &sides[1][block % sides[1].len()]);
            SCRATCH.with_borrow_mut(|scratch| {
                pass.block(parts[part].clone(), rows.clone(), columns.clone(), scratch);
                let pitch = pass.pitch();
                for (row, sums) in rows.clone().zip(scratch.results.chunks(pitch)) {
                    for (tap, sums) in sums.chunks_exact(CHANNELS).enumerate().take(pass.taps.len()) {
                        let at = part * len + row * depth + tap * g.ci + columns.start;
                        // SAFETY: this task alone writes these channels of both sides in this part.
                        unsafe { out.put(at, &sums[..columns.len()]) };
                    }
                }
            });
        });
    };
    // SAFETY: blocks cover all taps and channels of both sides, in every part, of which there is one at least.
    summed(unsafe { buffer::filled(parts.len() * len, fill) }, len)
}

/// The operands of all blocks.
struct Pass<'a, T> {
    n: usize,
    /// Pixels in a row.
    width: usize,
    grads: Gather<'a, T>,
    phases: Vec<Phase<'a, T>>,
    /// The phase of each tap, and the first pixel that it is multiplied with.
    taps: Vec<(usize, usize)>,
    precision: Precision,
    tile: Tile,
    /// Ranges of the pixels of an image.
    bands: Vec<Range<usize>>,
}

impl<T: Element> Pass<'_, T> {
    /// Floats from row to row of the sums: no power of two.
    fn pitch(&self) -> usize {
        self.taps.len() * CHANNELS + 16
    }

    /// Writes the sums over some bands of pairs of images, for some channels of both sides, `[rows][tap][CHANNELS]`, to the
    /// scratch memory of the results.
    fn block(&self, units: Range<usize>, rows: Range<usize>, columns: Range<usize>, scratch: &mut Scratch) {
        let Scratch { left: grads, right: pixels, turned, results, spots, .. } = scratch;
        let (tile, pitch) = (&self.tile, self.pitch());
        let sums = reserve(results, (rows.len() + MAX_ROWS) * pitch);
        let tiles = tiled(rows.len(), tile);
        let parted = tile.parts > 1;
        let mut accumulate = false;
        for unit in units {
            let (pair, band) = (unit / self.bands.len(), &self.bands[unit % self.bands.len()]);
            let steps = band.len().next_multiple_of(tile.steps);
            // Phases lie one behind the other.
            let mut starts = Vec::with_capacity(self.phases.len());
            let mut total = 0;
            for phase in &self.phases {
                starts.push(total);
                total += steps + phase.more;
            }
            let b_part = total * PITCH;
            let pixels = reserve(pixels, tile.parts * b_part + PITCH);
            for (phase, start) in self.phases.iter().zip(&starts) {
                self.spots(pair, band.start..band.start + steps + phase.more, spots);
                let form = if parted { Form::PairParts } else { Form::Pairs };
                phase.gather.block(spots, columns.clone(), (form, b_part), &mut pixels[start * PITCH..]);
            }
            for chunk in in_steps(steps, tile.depth / 2, tile.steps) {
                self.spots(pair, band.start + chunk.start..band.start + chunk.end, spots);
                load(&self.grads, spots, rows.clone(), (self.precision, tile), grads);
                for part in 0..tile.parts {
                    turn(&grads[part * chunk.len() * PITCH..], (chunk.len(), rows.len()), turned, part * PART);
                }
                for tile_rows in &tiles {
                    for column in (0..columns.len()).step_by(tile.columns) {
                        for (tap, (phase, first)) in self.taps.iter().enumerate() {
                            let sums = &mut sums[tile_rows.start * pitch + tap * CHANNELS + column..]
                                [..MAX_ROWS * pitch - column];
                            let operands = Operands {
                                depth: chunk.len(),
                                a: turned[tile_rows.start * PITCH..].as_ptr(),
                                a_step: 1,
                                b: pixels[(starts[*phase] + chunk.start + first) * PITCH + column..].as_ptr(),
                                b_step: PITCH,
                                b_part,
                                taps: ONE_TAP,
                                b_tap: 0,
                                accumulate,
                                c: sums.as_mut_ptr(),
                                c_row: pitch,
                            };
                            // SAFETY: `A` has a row of PITCH floats for each of 256 channels and MAX_ROWS more, `B` for each
                            // pixel of the chunk under this tap, of every part, and `C` has MAX_ROWS rows of CHANNELS floats.
                            unsafe { (tile.pitched)(tile_rows.len(), &operands) };
                        }
                    }
                }
                accumulate = true;
            }
        }
    }

    /// The places of some pixels of a pair of images, each twice, once for each image. The image behind the last has none.
    fn spots(&self, pair: usize, pixels: Range<usize>, spots: &mut Vec<Spot>) {
        /// Below every image.
        const NOWHERE: usize = 1 << 40;
        spots.clear();
        let second = if 2 * pair + 1 < self.n { 0 } else { NOWHERE };
        for at in pixels {
            let spot = Spot { image: 2 * pair, row: at / self.width, column: at % self.width };
            spots.extend([spot, Spot { image: 2 * pair + 1, row: spot.row + second, ..spot }]);
        }
    }
}
