//! The weight gradient of kernels with several taps, by tiles that take pairs of values.
//!
//! A pair is one pixel of two images. So the pixels of the padded images, gathered once, row by row, are what every tap is
//! multiplied with: under another tap, the gradient's pixels meet pixels that are further by the same number of pairs. The
//! gradient has as many pixels in a row as a padded image; the last of them are zeros.
//!
//! With a stride `s`, the pixels of each remainder modulo `s` along each axis (a *phase*) are gathered as an image of their own.
//! Where pixels have few values, those under a row of the kernel are one tap: they follow one another in a line, and what the
//! next pixel of the gradient meets begins some values further.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{
    gather::{Gather, Patches, Spot},
    geometry::Geometry,
    scratch::{SCRATCH, Scratch, reserve, turn},
    shared::Shared,
    tasks::{balanced, in_steps, sum_parts, summed, tiled},
    weight_grad::load,
};
use crate::{
    buffer::{self, Aligned},
    kernel::{
        element::Element,
        form::Form,
        operands::{DEPTH, LINES, MAX_ROWS, ONE_TAP, Operands, PART, PITCH, Tile},
        prologue::Source,
    },
};

/// The most pairs whose pixels are gathered at once.
const BAND: usize = 512;
/// The most channels of `x` in a block.
const CHANNELS: usize = 64;
/// The most taps, so that the sums of a block stay in the second-level cache.
const TAPS: usize = 16;
/// The share of what is multiplied that must be more than zeros for this to pay.
const ENOUGH: f64 = 0.7;
/// Where lines are gathered: the most pairs in one.
const IN_LINE: usize = 64;
/// Floats from line to line.
const LINE: usize = 448;

/// Whether a weight gradient is faster so.
pub(super) fn suits(g: &Geometry) -> bool {
    let tile = g.precision.tile();
    let images = g.n as f64 / (2 * g.n.div_ceil(2)) as f64;
    let steps = (g.oh * width(g)).next_multiple_of(tile.steps);
    let used = images * (g.oh * g.ow) as f64 / steps as f64;
    let by_pixels = (2..=TAPS).contains(&(g.kh * g.kw)) && g.ci >= 32 && used >= ENOUGH;
    tile.group == 2 && tile.adjacent.is_none() && (by_pixels || by_lines(g, &tile) && images >= ENOUGH)
}

/// Whether lines are gathered.
fn by_lines(g: &Geometry, tile: &Tile) -> bool {
    let (line, used) = (g.kw * g.ci, g.ow as f64 / g.ow.next_multiple_of(tile.steps) as f64);
    let fits = line <= tile.columns && g.kh <= LINES && (IN_LINE - 1) * g.stride * g.ci + tile.columns + g.ci <= LINE;
    // Few values in a line would be multiplied as many.
    fits && g.kh * g.kw > 1 && 2 * line > tile.columns && used >= ENOUGH
}

/// Pixels in a row.
fn width(g: &Geometry) -> usize {
    g.ow + g.kw.saturating_sub(1) / g.stride
}

/// `[co, kh, kw, ci]` from `x` and `dy`, which must have no prologue.
pub(super) fn weight_grad<T: Element>(g: &Geometry, x: Source<T>, dy: Source<T>) -> Vec<f32> {
    let pass = Pass::new(g, x, dy);
    let sides = [balanced(0..g.co, DEPTH), in_steps(pass.values, CHANNELS, pass.tile.columns)];
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
                for (row, sums) in rows.clone().zip(scratch.results.chunks(pass.pitch())) {
                    for (tap, sums) in sums.chunks_exact(CHANNELS).enumerate().take(pass.taps) {
                        let at = part * len + row * depth + tap * pass.values + columns.start;
                        // SAFETY: this task alone writes these values of both sides in this part.
                        unsafe { out.put(at, &sums[..columns.len()]) };
                    }
                }
            });
        });
    };
    // SAFETY: blocks cover all taps and values of both sides, in every part, of which there is one at least.
    summed(unsafe { buffer::filled(parts.len() * len, fill) }, len)
}

/// The operands of all blocks.
struct Pass<'a, T> {
    g: Geometry,
    tile: Tile,
    grads: Gather<'a, T>,
    input: Gathered<'a, T>,
    /// Pixels of the gradient in a row, with the zeros behind it.
    width: usize,
    /// Ranges of the pixels of an image.
    bands: Vec<Range<usize>>,
    taps: usize,
    /// The values of a tap.
    values: usize,
}

/// How `x` is gathered.
enum Gathered<'a, T> {
    Pixels(Vec<Phase<'a, T>>),
    /// The patches of one row that a line has.
    Lines(Gather<'a, T>),
}

/// The pixels that some taps are multiplied with.
struct Phase<'a, T> {
    gather: Gather<'a, T>,
    /// How many follow the last that the first tap is multiplied with.
    more: usize,
}

/// Where tiles find what they multiply a part of the gradient with: floats from the start of what is gathered.
#[derive(Default)]
struct Places {
    /// For the first tap, of each part.
    parts: Vec<(Range<usize>, usize)>,
    /// From that to each tap.
    taps: Vec<usize>,
    /// From pair to pair.
    step: usize,
    /// From part to part of the values.
    part: usize,
}

impl<'a, T: Element> Pass<'a, T> {
    fn new(g: &Geometry, x: Source<'a, T>, dy: Source<'a, T>) -> Self {
        let (tile, s, patches) = (g.precision.tile(), g.stride, Patches::forward(g));
        let grads = Gather::new(Patches::of_output(g), dy);
        if by_lines(g, &tile) {
            let kw = (IN_LINE - 1) * s + tile.columns.div_ceil(g.ci);
            let input = Gathered::Lines(Gather::new(Patches { kh: 1, kw, step: 1, ..patches }, x));
            let width = g.ow.next_multiple_of(tile.steps);
            // A band is a piece of a row, or of several.
            let bands = (0..g.oh * width).step_by(width).flat_map(|row| {
                let pieces = in_steps(width, IN_LINE, tile.steps);
                pieces.into_iter().map(move |piece| row + piece.start..row + piece.end)
            });
            return Pass { g: *g, tile, grads, input, width, bands: bands.collect(), taps: g.kh, values: g.kw * g.ci };
        }
        let width = width(g);
        let phase = |(py, px): (usize, usize)| {
            let (rows, columns) = ((g.kh - 1 - py) / s, (g.kw - 1 - px) / s);
            let (y, x_from) = (patches.y + py as isize, patches.x + px as isize);
            let patches = Patches { kh: 1, kw: 1, y, x: x_from, grid_h: g.oh + rows, grid_w: width, ..patches };
            Phase { gather: Gather::new(patches, x), more: rows * width + columns }
        };
        let phases = (0..s.min(g.kh)).flat_map(|py| (0..s.min(g.kw)).map(move |px| (py, px)));
        let input = Gathered::Pixels(phases.map(phase).collect());
        let bands = in_steps(g.oh * width, BAND, tile.steps);
        Pass { g: *g, tile, grads, input, width, bands, taps: g.kh * g.kw, values: g.ci }
    }

    /// Floats from row to row of the sums: no power of two.
    fn pitch(&self) -> usize {
        self.taps * CHANNELS + 16
    }

    /// Writes the sums over some bands of pairs of images, for some channels of the gradient and values of each tap,
    /// `[rows][tap][CHANNELS]`, to the scratch memory of the results.
    fn block(&self, units: Range<usize>, rows: Range<usize>, columns: Range<usize>, scratch: &mut Scratch) {
        let Scratch { left: grads, right: input, turned, results, spots, .. } = scratch;
        let (tile, pitch) = (&self.tile, self.pitch());
        let sums = reserve(results, (rows.len() + MAX_ROWS) * pitch);
        let tiles = tiled(rows.len(), tile);
        let mut places = Places::default();
        let mut accumulate = false;
        for unit in units {
            let (pair, band) = (unit / self.bands.len(), &self.bands[unit % self.bands.len()]);
            match &self.input {
                Gathered::Pixels(phases) => self.pixels(phases, pair, band, columns.clone(), input, spots, &mut places),
                Gathered::Lines(lines) => self.lines(lines, pair, band, input, &mut places),
            }
            for (pixels, start) in &places.parts {
                self.spots(pair, pixels.clone(), spots);
                load(&self.grads, spots, rows.clone(), (self.g.precision, tile), grads);
                let steps = pixels.len();
                for part in 0..tile.parts {
                    turn(&grads[part * steps * PITCH..], (steps, rows.len()), turned, part * PART);
                }
                for tile_rows in &tiles {
                    for column in (0..columns.len()).step_by(tile.columns) {
                        for (tap, further) in places.taps.iter().enumerate() {
                            let at = tile_rows.start * pitch + tap * CHANNELS + column;
                            let operands = Operands {
                                depth: steps,
                                a: turned[tile_rows.start * PITCH..].as_ptr(),
                                a_step: 1,
                                b: input[start + further + column..].as_ptr(),
                                b_step: places.step,
                                b_part: places.part,
                                taps: ONE_TAP,
                                b_tap: 0,
                                accumulate,
                                c: sums[at..][..MAX_ROWS * pitch - column].as_mut_ptr(),
                                c_row: pitch,
                            };
                            // SAFETY: `A` has a row of PITCH floats for each of 256 channels and MAX_ROWS more, `B` for each
                            // pair under this tap, of every part, and `C` has MAX_ROWS rows.
                            unsafe { (tile.pitched)(tile_rows.len(), &operands) };
                        }
                    }
                }
                accumulate = true;
            }
        }
    }

    /// Gathers the pixels that those of a band of the gradient are multiplied with, as pairs of two images.
    #[allow(clippy::too_many_arguments)] // what is read, where to, and what says where it is
    fn pixels(
        &self,
        phases: &[Phase<T>],
        pair: usize,
        band: &Range<usize>,
        columns: Range<usize>,
        to: &mut Aligned,
        spots: &mut Vec<Spot>,
        places: &mut Places,
    ) {
        let (tile, Geometry { kh, kw, stride: s, .. }) = (&self.tile, self.g);
        let steps = band.len().next_multiple_of(tile.steps);
        // Phases lie one behind the other.
        let starts = |phase: usize| phases[..phase].iter().map(|phase| steps + phase.more).sum::<usize>() * PITCH;
        places.step = PITCH;
        places.part = starts(phases.len());
        let parts = in_steps(steps, tile.depth / 2, tile.steps).into_iter();
        places.parts = parts.map(|part| (band.start + part.start..band.start + part.end, part.start * PITCH)).collect();
        let tap = |y: usize, x: usize| starts(y % s * s.min(kw) + x % s) + (y / s * self.width + x / s) * PITCH;
        places.taps = (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))).map(|(y, x)| tap(y, x)).collect();
        let to = reserve(to, tile.parts * places.part + PITCH);
        for (index, phase) in phases.iter().enumerate() {
            self.spots(pair, band.start..band.start + steps + phase.more, spots);
            phase.gather.block(spots, columns.clone(), (self.form(), places.part), &mut to[starts(index)..]);
        }
    }

    /// Gathers the lines that the pixels of a band of the gradient, in one row, are multiplied with, as pairs of two images.
    fn lines(&self, lines: &Gather<T>, pair: usize, band: &Range<usize>, to: &mut Aligned, places: &mut Places) {
        let Geometry { kh, ci, stride: s, .. } = self.g;
        let (row, column) = (band.start / self.width, band.start % self.width);
        places.step = s * ci;
        places.part = kh * LINE;
        places.parts = vec![(band.clone(), 0)];
        places.taps = (0..kh).map(|y| y * LINE).collect();
        let to = reserve(to, self.tile.parts * places.part + LINE);
        for line in 0..kh {
            let spots = self.pair(pair, row * s + line, column * s);
            lines.block(&spots, 0..lines.patches.depth(), (self.form(), places.part), &mut to[line * LINE..]);
        }
    }

    fn form(&self) -> Form {
        if self.tile.parts > 1 { Form::PairParts } else { Form::Pairs }
    }

    /// The places of some pixels of a pair of images, each twice, once for each image.
    fn spots(&self, pair: usize, pixels: Range<usize>, spots: &mut Vec<Spot>) {
        spots.clear();
        for at in pixels {
            spots.extend(self.pair(pair, at / self.width, at % self.width));
        }
    }

    /// A place in each image of a pair. The image behind the last has none.
    fn pair(&self, pair: usize, row: usize, column: usize) -> [Spot; 2] {
        /// Below every image.
        const NOWHERE: usize = 1 << 40;
        let second = if 2 * pair + 1 < self.g.n { row } else { NOWHERE };
        [Spot { image: 2 * pair, row, column }, Spot { image: 2 * pair + 1, row: second, column }]
    }
}
