//! The three passes of a convolution, by blocked matrix products over gathered patches.
//!
//! A *patch* is the input under one output pixel: `kh kw ci` floats, of which each row of `kw ci` is contiguous in
//! channels-last memory. A *block* is up to [`PIXELS`] patches by up to [`DEPTH`] of their floats, gathered into scratch
//! memory that stays in the second-level cache:
//!
//! * forward: `y[p][o] = sum_k patch[p][k] w[o][k]`, a block times packed weights;
//! * input gradient: the same with the weights turned round, for each class of pixels that a stride tells apart;
//! * weight gradient: `dw[o][k] = sum_p dy[p][o] patch[p][k]`, a block of `dy`, transposed, times a block of patches.
//!
//! Gathering copies, so a normalisation in front of the convolution costs nothing more there ([`Change`]); and the
//! moments of the result are taken while it is still in the first-level cache.
//!
//! Tensors of bf16 are multiplied as such: what has been gathered, and the weights, are rounded before; sums stay `f32`
//! until a block of the result is finished. Where the CPU has no bf16 instructions, the rounded numbers are multiplied
//! as `f32`.
//!
//! Work is divided, and sums are ordered, by the shape alone: the result does not depend on the number of threads.

mod finish;
mod gather;
mod packed;
mod shared;
mod winograd;

use std::{cell::RefCell, mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use self::{
    finish::Sums,
    gather::{Gather, Patches, Spot},
    packed::Packed,
    shared::Shared,
};
use super::{
    Element, bf16,
    dispatch::Form,
    moments::{self, Moments},
    tile::{MAX_ROWS, Operands, PITCH, Tile, bf16_tile, prefetch, tile},
    vectorised,
};
use crate::buffer::{self, Aligned};

/// Pixels of a block: 112 KiB of patches, half of a small second-level cache.
const PIXELS: usize = 112;
/// Most floats of a patch in a block.
const DEPTH: usize = PITCH - 16;
/// Tasks that a pass is divided into if it is large enough: several per core, so that cores finish together.
const TASKS: usize = 48;
/// Fewest output channels of a task of the forward pass: with less, gathering costs more than multiplying.
const MIN_CHANNELS: usize = 128;
/// Most floats of weights that are read again for every few rows of the result: 128 KiB.
const ROW_WEIGHTS: usize = 32 << 10;
/// Fewest pixels of a task of the weight gradient.
const MIN_PIXELS: usize = 4 * PIXELS;

/// In what numbers a convolution multiplies: those that its tensors are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    /// Twice the speed on a CPU with AVX512-BF16, three digits instead of seven.
    Bf16,
}

impl Precision {
    pub(crate) const fn of<T: Element>() -> Precision {
        if T::BF16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// Of an element.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }

    pub(crate) fn tile(self) -> Tile {
        match self {
            Precision::F32 => tile(),
            Precision::Bf16 => bf16_tile().unwrap_or_else(tile),
        }
    }
}

/// The shape of a convolution: `x [n, h, w, ci]`, `w [co, kh, kw, ci]`, `y [n, oh, ow, co]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) ci: usize,
    pub(crate) co: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    pub(crate) precision: Precision,
}

/// Pixels in memory, and what happens to them on the way out of it.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, T> {
    /// From the first element of the first pixel to the last of the last.
    pub(crate) data: &'a [T],
    /// Elements from pixel to pixel: the channels, or more where these are a part of a wider tensor.
    pub(crate) pitch: usize,
    pub(crate) change: Option<Change<'a>>,
}

/// `scale x + shift` per channel, and what is negative becomes zero if `relu`.
#[derive(Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) relu: bool,
}

impl Change<'_> {
    /// The least value that is left.
    pub(crate) fn floor(&self) -> f32 {
        if self.relu { 0.0 } else { f32::NEG_INFINITY }
    }
}

/// What is done to the sums before they are left.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a, T> {
    /// Added to every pixel: `[co]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// Added element by element: `[n, oh, ow, co]`.
    pub(crate) residual: Option<&'a [T]>,
    /// Whether negative results become zero.
    pub(crate) relu: bool,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Epilogue { bias: None, residual: None, relu: false }
    }
}

/// The weights of a forward pass in the order in which it reads them.
pub(crate) enum Weights {
    /// For products with patches.
    Patches(Packed),
    /// For products with transformed tiles.
    Tiles(winograd::Filters),
}

impl Weights {
    /// From `w [co, kh, kw, ci]`; for images of any number and size.
    pub(crate) fn new(g: &Geometry, w: &[f32]) -> Weights {
        if winograd::suits(g) {
            return Weights::Tiles(winograd::Filters::forward(g.precision, g.ci, g.co, w));
        }
        Weights::Patches(Packed::forward(g.precision, g.kh * g.kw * g.ci, g.co, w))
    }
}

/// `[n, oh, ow, co]` from `x` and the weights, which were made for a convolution like `g`.
pub(crate) fn forward<T: Element>(g: &Geometry, x: Source<T>, w: &Weights, epilogue: Epilogue<T>) -> Vec<T> {
    let pass = |out: &mut [MaybeUninit<T>]| forward_to(g, x, w, epilogue, Shared::new(out), g.co, None);
    // SAFETY: one pass over all pixels at step 1 writes every element of the output.
    unsafe { buffer::filled(g.n * g.oh * g.ow * g.co, pass) }
}

/// As [`forward`], with the moments of every channel; at least one pixel.
pub(crate) fn forward_moments<T: Element>(g: &Geometry, x: Source<T>, w: &Weights) -> (Vec<T>, Moments) {
    let blocks = if winograd::suits(g) {
        winograd::block_pixels(g)
    } else {
        balanced(0..g.n * g.oh * g.ow, PIXELS).iter().map(Range::len).collect()
    };
    let mut sums = moments::Parts::new(blocks, g.co);
    let pass = |out: &mut [MaybeUninit<T>]| {
        forward_to(g, x, w, Epilogue::default(), Shared::new(out), g.co, Some(Shared::new(sums.values())));
    };
    // SAFETY: as above.
    let y = unsafe { buffer::filled(g.n * g.oh * g.ow * g.co, pass) };
    (y, sums.total())
}

/// Writes the result's pixels `pitch` apart.
fn forward_to<T: Element>(
    g: &Geometry,
    x: Source<T>,
    w: &Weights,
    epilogue: Epilogue<T>,
    out: Shared<T>,
    pitch: usize,
    sums: Option<Shared<f64>>,
) {
    match w {
        Weights::Tiles(filters) => winograd::forward(g, x, filters, epilogue, out, pitch, sums),
        Weights::Patches(packed) => {
            let gather = Gather::new(Patches::forward(g), x);
            let place = Place { h: g.oh, w: g.ow, pitch, step: 1, y: 0, x: 0 };
            multiply(&gather, packed, place, epilogue, out, sums);
        }
    }
}

/// `[n, h, w, ci]` from `dy` and `w`; `residual`, of the same shape, is added.
pub(crate) fn input_grad<T: Element>(g: &Geometry, dy: Source<T>, w: &[f32], residual: Option<&[T]>) -> Vec<T> {
    let s = g.stride;
    let epilogue = Epilogue { residual, ..Epilogue::default() };
    let fill = |out: &mut [MaybeUninit<T>]| {
        let out = Shared::new(out);
        if winograd::suits(g) {
            let filters = winograd::Filters::turned(g.precision, g.co, g.ci, w);
            return winograd::forward(&winograd::turned(g), dy, &filters, epilogue, out, g.ci, None);
        }
        // Input row `i` meets kernel row `t` where `i + padding = s j + t`: rows that leave the same remainder meet the
        // same taps.
        for (ry, rx) in (0..s).flat_map(|ry| (0..s).map(move |rx| (ry, rx))) {
            let rows = Class::new(g.h, g.kh, s, g.padding, ry);
            let columns = Class::new(g.w, g.kw, s, g.padding, rx);
            let patches = Patches {
                n: g.n,
                h: g.oh,
                w: g.ow,
                c: g.co,
                kh: rows.taps,
                kw: columns.taps,
                step: 1,
                y: rows.origin,
                x: columns.origin,
                grid_h: rows.count,
                grid_w: columns.count,
            };
            // The taps of the class, last first.
            let taps = (0..rows.taps).rev().flat_map(|ty| (0..columns.taps).rev().map(move |tx| (ty, tx)));
            let taps: Vec<usize> = taps.map(|(ty, tx)| (ry + s * ty) * g.kw + rx + s * tx).collect();
            let weights = Packed::turned(g, &taps, w);
            let place = Place { h: g.h, w: g.w, pitch: g.ci, step: s, y: rows.first, x: columns.first };
            multiply(&Gather::new(patches, dy), &weights, place, epilogue, out, None);
        }
    };
    // SAFETY: every pixel leaves one remainder along each axis, and its class's pass writes it.
    unsafe { buffer::filled(g.n * g.h * g.w * g.ci, fill) }
}

/// `[co, kh, kw, ci]` from `x` and `dy`, which is not changed on the way.
pub(crate) fn weight_grad<T: Element>(g: &Geometry, x: Source<T>, dy: Source<T>) -> Vec<f32> {
    if winograd::suits(g) {
        return winograd::weight_grad(g, x, dy);
    }
    let gather = Gather::new(Patches::forward(g), x);
    let grads = Gather::new(Patches::of_output(g), dy);
    let (depth, pixels) = (gather.patches.depth(), gather.patches.pixels());
    if pixels == 0 {
        return vec![0.0; g.co * depth];
    }
    let depths = balanced(0..depth, DEPTH);
    let channels = balanced(0..g.co, DEPTH);
    let blocks = depths.len() * channels.len();
    let parts = TASKS.div_ceil(blocks).min(pixels / MIN_PIXELS).max(1);
    let parts = balanced(0..pixels, pixels.div_ceil(parts).max(1));
    let tile = g.precision.tile();

    // One gradient per part of the pixels.
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

/// The sum of arrays of `len` floats that lie one after the other, of which there is one at least.
fn summed(mut parts: Vec<f32>, len: usize) -> Vec<f32> {
    if parts.len() > len {
        let (sum, others) = parts.split_at_mut(len);
        sum.par_chunks_mut(4096).enumerate().for_each(|(chunk, sum)| {
            for other in others.chunks_exact(len) {
                let other = &other[chunk * 4096..][..sum.len()];
                vectorised(|| sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other));
            }
        });
        parts.truncate(len);
        parts.shrink_to_fit();
    }
    parts
}

/// Memory of a thread, kept from task to task.
struct Scratch {
    left: Aligned,
    right: Aligned,
    /// Sums of a block of the result.
    results: Vec<f32>,
    spots: Vec<Spot>,
    /// Where the results go.
    places: Vec<usize>,
    /// Where the sums are until they are finished.
    rows: Vec<usize>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        left: Aligned::zeros(PIXELS * PITCH),
        right: Aligned::zeros(PIXELS * PITCH),
        results: Vec::new(),
        spots: Vec::with_capacity(PIXELS),
        places: Vec::with_capacity(PIXELS),
        rows: Vec::with_capacity(PIXELS),
    });
}

/// At least so many floats.
fn reserve(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        *buffer = vec![0.0; len];
    }
    &mut buffer[..len]
}

/// Which part of a matrix in [`Shared`] memory.
struct Block {
    /// Where the matrix starts.
    first: usize,
    /// Floats from row to row.
    pitch: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// `to = sum over pixels of dy[p][rows] patch[p][columns]`.
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
        let Scratch { left: rows, right: columns, results, spots, .. } = scratch;
        // Summed where rows are no power of two apart, which would share few places of the caches.
        let sums = Shared::written(reserve(results, to.rows.len() * PITCH));
        let mut spill = [0.0; MAX_ROWS * 32];
        let tiles = balanced(0..to.rows.len(), tile.rows);
        let mut accumulate = false;
        let mut chunks = balanced(pixels.clone(), PIXELS);
        if chunks.is_empty() {
            chunks.push(pixels);
        }
        for pixels in chunks {
            spots.clear();
            spots.extend(patches.patches.spots(pixels.clone()));
            let form = if tile.group == 1 { Form::Floats } else { Form::Pairs };
            patches.block(spots, to.columns.clone(), form, columns);
            grads.block(spots, to.rows.clone(), form, rows);
            if tile.group == 1 && precision == Precision::Bf16 {
                round_rows(rows, pixels.len(), to.rows.len());
                round_rows(columns, pixels.len(), to.columns.len());
            }
            for column in (0..to.columns.len()).step_by(tile.columns) {
                for tile_rows in &tiles {
                    let operands = Operands {
                        depth: pixels.len().div_ceil(tile.group),
                        a: rows[tile_rows.start..].as_ptr(),
                        a_step: PITCH,
                        b: columns[column..].as_ptr(),
                        b_step: PITCH,
                        accumulate,
                    };
                    let at = |row: usize| (tile_rows.start + row) * PITCH + column;
                    let width = tile.columns;
                    // SAFETY: `A` is `rows`, `B` is `columns`: PIXELS rows of PITCH floats, of which a tile reads at
                    // most DEPTH + 14 from where it starts; `sums` is this task's own.
                    unsafe { sums.write(tile.adjacent, tile_rows.len(), width, width, operands, &mut spill, at) };
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

/// Rounds the first floats of the first rows of a block.
fn round_rows(block: &mut [f32], rows: usize, floats: usize) {
    vectorised(|| block.chunks_mut(PITCH).take(rows).for_each(|row| bf16::round(&mut row[..floats])));
}

/// Where input pixels that leave one remainder are, along one axis.
struct Class {
    /// The first of them.
    first: usize,
    /// How many.
    count: usize,
    /// How many kernel taps meet them.
    taps: usize,
    /// The output that the first tap (the last of the kernel) takes for the first pixel.
    origin: isize,
}

impl Class {
    fn new(size: usize, kernel: usize, stride: usize, padding: usize, remainder: usize) -> Class {
        let first = (remainder + stride * padding - padding) % stride; // first + padding leaves the remainder
        let taps = kernel.saturating_sub(remainder).div_ceil(stride);
        let origin = ((first + padding - remainder) / stride) as isize - (taps as isize - 1);
        Class { first, count: size.saturating_sub(first).div_ceil(stride), taps, origin }
    }
}

/// Where the patches of a pass have their results in `[n, h, w, c]`.
#[derive(Clone, Copy)]
struct Place {
    h: usize,
    w: usize,
    /// Floats from pixel to pixel.
    pitch: usize,
    /// Pixels from one result to the next, both ways.
    step: usize,
    /// The first result.
    y: usize,
    x: usize,
}

/// Multiplies every patch with the weights, and leaves the results, by way of the epilogue, at their places; the moments
/// of block and channel in `sums`, as [`moments::Parts`] has them.
fn multiply<T: Element>(
    gather: &Gather<T>,
    weights: &Packed,
    place: Place,
    epilogue: Epilogue<T>,
    out: Shared<T>,
    sums: Option<Shared<f64>>,
) {
    let blocks = balanced(0..gather.patches.pixels(), PIXELS);
    let panels = weights.channels.div_ceil(weights.tile.columns);
    let panels_min = MIN_CHANNELS.div_ceil(weights.tile.columns);
    let groups = TASKS.div_ceil(blocks.len().max(1)).min(panels / panels_min).max(1);
    let groups = balanced(0..panels, panels.div_ceil(groups).max(1));
    (0..blocks.len() * groups.len()).into_par_iter().for_each(|task| {
        let (block, panels) = (task / groups.len(), &groups[task % groups.len()]);
        let sums = sums.map(|sums| (sums, block));
        multiply_block(gather, weights, place, epilogue, out, sums, blocks[block].clone(), panels.clone());
    });
}

#[allow(clippy::too_many_arguments)] // one loop nest, split off for its length
fn multiply_block<T: Element>(
    gather: &Gather<T>,
    weights: &Packed,
    place: Place,
    epilogue: Epilogue<T>,
    out: Shared<T>,
    sums: Option<(Shared<f64>, usize)>,
    pixels: Range<usize>,
    panels: Range<usize>,
) {
    let Packed { depth, channels, precision, tile, .. } = *weights;
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { left: block, results, spots, places, rows, .. } = scratch;
        let mut spill = [0.0; MAX_ROWS * 32];
        let tiles = balanced(0..pixels.len(), tile.rows);
        let first = panels.start * tile.columns;
        let width = (panels.end * tile.columns).min(channels) - first;
        spots.clear();
        spots.extend(gather.patches.spots(pixels.clone()));
        // Where the first channel of every pixel goes in the end, and where its sums are until then.
        places.clear();
        places.extend(spots.iter().map(|spot| {
            let (row, column) = (place.y + spot.row * place.step, place.x + spot.column * place.step);
            ((spot.image * place.h + row) * place.w + column) * place.pitch + first
        }));
        rows.clear();
        let direct = out.floats().filter(|_| depth <= DEPTH * tile.group);
        let to = if let Some(out) = direct {
            rows.extend_from_slice(places);
            out
        } else {
            let pitch = width.next_multiple_of(tile.columns) + 16; // no power of two
            rows.extend((0..spots.len()).map(|row| row * pitch));
            Shared::written(reserve(results, spots.len() * pitch))
        };
        let mut depths = in_steps(depth, DEPTH * tile.group, tile.group);
        if depths.is_empty() {
            depths.push(0..0); // no tap meets these pixels: zeros
        }
        // Of the channels of one panel, once they are finished.
        let leave_moments = |channel: usize| {
            let Some((sums, block)) = sums else { return };
            let lanes = tile.columns.min(channels - channel);
            // SAFETY: this task alone has written these pixels and channels, and writes these moments.
            let (rows, to) = unsafe {
                let rows = rows.iter().map(|at| &*to.slice(at + channel - first, lanes));
                (rows, moments::Parts::at(block, channels).map(|at| sums.slice(at + channel, lanes)))
            };
            vectorised(|| moments::of_rows(rows, to));
        };
        for depths in depths {
            if tile.group == 1 {
                gather.block(spots, depths.clone(), Form::Floats, block);
                if precision == Precision::Bf16 {
                    round_rows(block, spots.len(), depths.len());
                }
            } else {
                gather.block(spots, depths.clone(), Form::Halves, block);
                close_pairs(&mut block[..spots.len() * PITCH], depths.len());
            }
            let last = depths.end == depth;
            let steps = depths.len().div_ceil(tile.group);
            // Few weights stay in the cache: then every row of the result is written as a whole.
            let whole_rows = steps * panels.len() * tile.columns <= ROW_WEIGHTS;
            let band = if whole_rows { 1 } else { tiles.len() };
            for tiles in tiles.chunks(band.max(1)) {
                for panel in panels.clone() {
                    let channel = panel * tile.columns;
                    let lanes = tile.columns.min(channels - channel);
                    let panel = weights.from(panel, depths.start);
                    for tile_rows in tiles {
                        let operands = Operands {
                            depth: steps,
                            a: block[tile_rows.start * PITCH..].as_ptr(),
                            a_step: 1,
                            b: panel.as_ptr(),
                            b_step: tile.columns,
                            accumulate: depths.start > 0,
                        };
                        let at = |row: usize| rows[tile_rows.start + row] + channel - first;
                        let residual_at = |row: usize| places[tile_rows.start + row] + channel - first;
                        if let (true, Some(residual)) = (last, epilogue.residual) {
                            for row in 0..tile_rows.len() {
                                let row = residual[residual_at(row)..].as_ptr().cast::<f32>();
                                prefetch(row);
                                prefetch(row.wrapping_add(16));
                            }
                        }
                        // SAFETY: `A` is `block`, PIXELS rows of PITCH floats; `B` is a panel from `depths.start` on,
                        // which has a row for each step left; this task alone writes these pixels and channels of
                        // `to`.
                        unsafe {
                            to.write(tile.pitched, tile_rows.len(), lanes, tile.columns, operands, &mut spill, at);
                            if last {
                                let (rows, places) = (&rows[tile_rows.clone()], &places[tile_rows.clone()]);
                                let from = channel - first;
                                epilogue.apply(Sums { memory: to, rows, places, from, channel, lanes });
                            }
                        }
                    }
                    if !whole_rows && last {
                        leave_moments(channel);
                    }
                }
                if last && direct.is_none() {
                    let finished = tiles.first().map_or(0, |tile| tile.start)..tiles.last().map_or(0, |tile| tile.end);
                    for (at, place) in rows[finished.clone()].iter().zip(&places[finished]) {
                        // SAFETY: this task alone has written these sums, and writes these pixels and channels.
                        unsafe { out.put(*place, to.slice(*at, width)) };
                    }
                }
            }
            if whole_rows && last {
                panels.clone().for_each(|panel| leave_moments(panel * tile.columns));
            }
        }
    });
}

/// [`balanced`] pieces of `0..depth` that start with a step of `group` values.
fn in_steps(depth: usize, most: usize, group: usize) -> Vec<Range<usize>> {
    let steps = balanced(0..depth.div_ceil(group), most / group);
    steps.into_iter().map(|steps| steps.start * group..(steps.end * group).min(depth)).collect()
}

/// Where rows of an odd number of bf16 end with half of a pair, makes the other half zero; rows are [`PITCH`] apart.
fn close_pairs(rows: &mut [f32], len: usize) {
    if len % 2 == 1 {
        rows.chunks_mut(PITCH).for_each(|row| {
            let last = &mut row[len / 2];
            *last = f32::from_bits(last.to_bits() & 0xffff);
        });
    }
}

/// Cuts a range into as few pieces of at most `most` as possible, all of about the same length.
fn balanced(range: Range<usize>, most: usize) -> Vec<Range<usize>> {
    let pieces = range.len().div_ceil(most);
    let cut = |piece: usize| range.start + piece * range.len() / pieces.max(1);
    (0..pieces).map(|piece| cut(piece)..cut(piece + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(data: &[f32], pitch: usize) -> Source<'_, f32> {
        Source { data, pitch, change: None }
    }

    /// Kernel tap and input pixel of every term of every output pixel.
    fn terms(g: &Geometry, mut each: impl FnMut(usize, usize, usize)) {
        for p in 0..g.n * g.oh * g.ow {
            let (n, oy, ox) = (p / (g.oh * g.ow), p / g.ow % g.oh, p % g.ow);
            for t in 0..g.kh * g.kw {
                let (iy, ix) = (oy * g.stride + t / g.kw, ox * g.stride + t % g.kw);
                if iy >= g.padding && iy < g.h + g.padding && ix >= g.padding && ix < g.w + g.padding {
                    each(p, t, (n * g.h + iy - g.padding) * g.w + ix - g.padding);
                }
            }
        }
    }

    /// The three passes by definition, in f64.
    fn naive(g: &Geometry, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f64>; 3] {
        let taps = g.kh * g.kw;
        let mut y = vec![0.0; g.n * g.oh * g.ow * g.co];
        let mut dx = vec![0.0; x.len()];
        let mut dw = vec![0.0; w.len()];
        terms(g, |p, t, q| {
            for (o, i) in (0..g.co).flat_map(|o| (0..g.ci).map(move |i| (o, i))) {
                let (at_x, at_y, at_w) = (q * g.ci + i, p * g.co + o, (o * taps + t) * g.ci + i);
                y[at_y] += f64::from(x[at_x]) * f64::from(w[at_w]);
                dx[at_x] += f64::from(dy[at_y]) * f64::from(w[at_w]);
                dw[at_w] += f64::from(dy[at_y]) * f64::from(x[at_x]);
            }
        });
        [y, dx, dw]
    }

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(next).collect()
    }

    fn close(what: &str, g: &Geometry, got: &[f32], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        let scale = expected.iter().fold(1e-9, |most, value| value.abs().max(most));
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            let error = (f64::from(*got) - expected).abs() / scale;
            assert!(error < 3e-6, "{what} of {g:?} at {index}: {got}, expected {expected}");
        }
    }

    #[test]
    fn all_passes_match_their_definition() {
        // n, h, w, ci, co, kh, kw, stride, padding
        for [n, h, w, ci, co, kh, kw, stride, padding] in [
            [2, 9, 9, 3, 8, 7, 7, 2, 3],
            [1, 14, 14, 64, 64, 3, 3, 1, 1],
            [3, 7, 7, 40, 33, 1, 1, 1, 0],
            [2, 8, 8, 16, 70, 1, 1, 2, 0],
            [2, 9, 12, 5, 32, 3, 3, 2, 1],
            [1, 5, 6, 300, 7, 3, 2, 1, 0],
            [1, 4, 4, 2, 3, 3, 3, 1, 3],
            [2, 11, 7, 4, 6, 2, 3, 3, 1],
            [1, 1, 1, 1, 1, 1, 1, 1, 0],
            [4, 30, 30, 4, 5, 3, 3, 1, 1], // several parts in the weight gradient
            [1, 6, 6, 8, 530, 3, 3, 1, 1], // several groups of channels
            // By Winograd's algorithm:
            [2, 7, 7, 40, 33, 3, 3, 1, 1],
            [1, 9, 6, 300, 18, 3, 3, 1, 1], // two chunks of channels
            [2, 5, 8, 16, 16, 3, 3, 1, 0],
            [1, 4, 5, 17, 150, 3, 3, 1, 2],
            [3, 30, 31, 16, 70, 3, 3, 1, 1], // several parts in the weight gradient
        ] {
            let out = |size: usize, kernel: usize| (size + 2 * padding - kernel) / stride + 1;
            let g = Geometry {
                n,
                h,
                w,
                ci,
                co,
                kh,
                kw,
                stride,
                padding,
                oh: out(h, kh),
                ow: out(w, kw),
                precision: Precision::F32,
            };
            let x = values(n * h * w * ci, 1);
            let weight = values(co * kh * kw * ci, 2);
            let dy = values(n * g.oh * g.ow * co, 3);
            let [y, dx, dw] = naive(&g, &x, &weight, &dy);
            close("y", &g, &forward(&g, plain(&x, ci), &Weights::new(&g, &weight), Epilogue::default()), &y);
            close("dx", &g, &input_grad(&g, plain(&dy, co), &weight, None), &dx);
            close("dw", &g, &weight_grad(&g, plain(&x, ci), plain(&dy, co)), &dw);

            let (bias, residual) = (values(co, 4), values(y.len(), 5));
            let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), relu: true };
            let finished = y
                .iter()
                .enumerate()
                .map(|(index, y)| (y + f64::from(bias[index % co]) + f64::from(residual[index])).max(0.0));
            close(
                "finished y",
                &g,
                &forward(&g, plain(&x, ci), &Weights::new(&g, &weight), epilogue),
                &finished.collect::<Vec<_>>(),
            );
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let g = Geometry {
            n: 3,
            h: 28,
            w: 28,
            ci: 20,
            co: 40,
            kh: 3,
            kw: 3,
            stride: 1,
            padding: 1,
            oh: 28,
            ow: 28,
            precision: Precision::F32,
        };
        let (x, w) = (values(3 * 28 * 28 * 20, 1), values(40 * 9 * 20, 2));
        let dy = values(3 * 28 * 28 * 40, 3);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                (
                    forward(&g, plain(&x, 20), &Weights::new(&g, &w), Epilogue::default()),
                    input_grad(&g, plain(&dy, 40), &w, None),
                    weight_grad(&g, plain(&x, 20), plain(&dy, 40)),
                )
            })
        };
        assert!(with(1) == with(3));
    }
}
