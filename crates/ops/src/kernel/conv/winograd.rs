//! 3x3 convolutions at stride 1 with 2.25 times fewer multiplications: Winograd's minimal filtering F(2x2, 3x3), as
//! Lavin and Gray (CVPR 2016, <https://arxiv.org/abs/1509.09308>) use it.
//!
//! A *tile* is 2x2 output pixels and the 4x4 input pixels under them. Input tiles `d` and filters `g` are transformed,
//! multiplied point by point and summed over the channels, which is one matrix product for each of the 16 *points*, and
//! transformed back:
//!
//! * forward: `y = A' [(G g G') (B' d B)] A`; the input gradient is the same with the filters turned round;
//! * weight gradient: `dg = G' [sum over tiles of (A dy A') (B' d B)] G`.
//!
//! The transforms add and halve, no more, so the results are as good as direct ones (measured: closer to `f64`). Tiles
//! are transformed a block at a time, into scratch memory that stays in the second-level cache; on the way in, they are
//! normalised like patches are.

mod transforms;

use std::{cell::RefCell, mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{
    Change, Epilogue, Geometry, Precision, Source, TASKS, balanced, close_pairs,
    finish::Sums,
    gather::{Patches, Spot},
    in_steps, reserve,
    shared::Shared,
    summed,
};
use crate::{
    buffer::{self, Aligned},
    kernel::{
        Element, bf16,
        dispatch::Form,
        moments,
        tile::{MAX_ROWS, Operands, PITCH, Tile},
        vectorised,
    },
};

/// Points of a transformed tile.
const POINTS: usize = 16;
/// Most channels whose transformed tiles lie side by side.
const DEPTH: usize = PITCH - 16;
/// Most floats of a block's transformed tiles.
const BLOCK: usize = 128 << 10;
/// Most and fewest tiles of a block of the forward pass.
const TILES: Range<usize> = 28..56;
/// Fewest output channels of a task.
const MIN_CHANNELS: usize = 64;
/// Tiles of a block of the weight gradient, and channels of its sides.
const GRAD_TILES: usize = 112;
const GRAD_CHANNELS: usize = 64;
/// Floats from row to row there; no multiple of 4 KiB apart.
const GRAD_PITCH: usize = GRAD_CHANNELS + 16;

/// Whether a convolution has enough channels for the transforms to pay.
pub(super) fn suits(g: &Geometry) -> bool {
    let square = (g.kh, g.kw, g.stride) == (3, 3, 1) && g.padding <= 2;
    // Numbers that are rounded but multiplied as `f32` gain nothing.
    let fast = g.precision == Precision::F32 || g.precision.tile().group == 2;
    square && fast && g.ci >= 16 && g.co >= 16
}

/// The input gradient of `g` as a forward pass.
pub(super) fn turned(g: &Geometry) -> Geometry {
    Geometry { h: g.oh, w: g.ow, ci: g.co, co: g.ci, padding: 2 - g.padding, oh: g.h, ow: g.w, ..*g }
}

/// The 4x4 patches under the tiles.
fn tiles(g: &Geometry) -> Patches {
    let origin = -(g.padding as isize);
    let (grid_h, grid_w) = (g.oh.div_ceil(2), g.ow.div_ceil(2));
    Patches { n: g.n, h: g.h, w: g.w, c: g.ci, kh: 4, kw: 4, step: 2, y: origin, x: origin, grid_h, grid_w }
}

/// How a forward pass is cut into blocks of tiles.
pub(super) fn blocks(g: &Geometry) -> Vec<Range<usize>> {
    let most = (BLOCK / POINTS / g.ci.max(1)).clamp(TILES.start, TILES.end);
    balanced(0..tiles(g).pixels(), most)
}

/// How many output pixels each block has.
pub(super) fn block_pixels(g: &Geometry) -> Vec<usize> {
    let tiles = tiles(g);
    let pixels = |spot: Spot| inside(g, spot).count();
    blocks(g).into_iter().map(|block| tiles.spots(block).map(pixels).sum()).collect()
}

/// The output pixels of a tile: which of its four, and the index among all.
fn inside(g: &Geometry, spot: Spot) -> impl Iterator<Item = (usize, usize)> {
    let (oh, ow) = (g.oh, g.ow);
    (0..4).filter_map(move |at| {
        let (row, column) = (2 * spot.row + at / 2, 2 * spot.column + at % 2);
        (row < oh && column < ow).then(|| (at, (spot.image * oh + row) * ow + column))
    })
}

/// Transformed filters in the order in which they are read: `[panel][point][depth][width]`, as
/// [`Packed`](super::packed::Packed); where a step of the tile takes two values of `k`, `depth` counts steps.
pub(crate) struct Filters {
    panels: Aligned,
    depth: usize,
    channels: usize,
    tile: Tile,
}

impl Filters {
    /// `load(k, tap, first, lanes)` reads a tap of the filters from the depth `k` to the channels from `first` on.
    fn new(
        precision: Precision,
        depth: usize,
        channels: usize,
        load: impl Fn(usize, usize, usize, &mut [f32]) + Sync,
    ) -> Filters {
        const WIDEST: usize = 32;
        let tile = precision.tile();
        let (width, steps) = (tile.columns, depth.div_ceil(tile.group));
        let panel = POINTS * steps * width;
        let write = |panels: &mut [MaybeUninit<f32>]| {
            panels.par_chunks_mut(panel).enumerate().for_each(|(index, panel)| {
                let first = index * width;
                let lanes = width.min(channels - first);
                vectorised(|| {
                    let (mut taps, mut points) = ([[0.0; WIDEST]; 9], [[[0.0; WIDEST]; POINTS]; 2]);
                    for step in 0..steps {
                        for (k, points) in (step * tile.group..).zip(&mut points[..tile.group]) {
                            if k == depth {
                                *points = [[0.0; WIDEST]; POINTS]; // half of a pair
                                continue;
                            }
                            taps.iter_mut()
                                .enumerate()
                                .for_each(|(tap, values)| load(k, tap, first, &mut values[..lanes]));
                            filter(&taps, points);
                        }
                        let [low, high] = &points;
                        for (point, (low, high)) in low.iter().zip(high).enumerate() {
                            let row = &mut panel[(point * steps + step) * width..][..width];
                            if tile.group == 1 {
                                row.write_copy_of_slice(&low[..width]);
                                continue;
                            }
                            for (row, (low, high)) in row.iter_mut().zip(low.iter().zip(high)) {
                                row.write(f32::from_bits(bf16::pair(*low, *high)));
                            }
                        }
                    }
                });
            });
        };
        // SAFETY: chunks of whole panels cover the buffer; each is written for every point and depth.
        let panels = unsafe { Aligned::filled(channels.div_ceil(width) * panel, write) };
        Filters { panels, depth, channels, tile }
    }

    /// From `w [channels, 3, 3, depth]`.
    pub(super) fn forward(precision: Precision, depth: usize, channels: usize, w: &[f32]) -> Filters {
        Filters::new(precision, depth, channels, |k, tap, first, lanes| {
            let values = w[(first * 9 + tap) * depth + k..].iter().step_by(9 * depth);
            lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = *value);
        })
    }

    /// From `w [depth, 3, 3, channels]`, turned round.
    pub(super) fn turned(precision: Precision, depth: usize, channels: usize, w: &[f32]) -> Filters {
        Filters::new(precision, depth, channels, |k, tap, first, lanes| {
            lanes.copy_from_slice(&w[(k * 9 + 8 - tap) * channels + first..][..lanes.len()]);
        })
    }

    /// The row of a point that `k`, the first of a step, is in, and those behind it.
    fn from(&self, panel: usize, point: usize, k: usize) -> &[f32] {
        let steps = |k: usize| k.div_ceil(self.tile.group);
        &self.panels[((panel * POINTS + point) * steps(self.depth) + steps(k)) * self.tile.columns..]
    }
}

/// `G g G'`, for several filters side by side.
#[inline(always)]
fn filter<const L: usize>(taps: &[[f32; L]; 9], points: &mut [[f32; L]; POINTS]) {
    for lane in 0..L {
        // Along the rows, then along the columns.
        let mut half = [0.0; 12];
        for row in 0..3 {
            let (a, b, c) = (taps[3 * row][lane], taps[3 * row + 1][lane], taps[3 * row + 2][lane]);
            let (sum, b) = (0.5 * (a + c), 0.5 * b);
            (half[4 * row], half[4 * row + 1], half[4 * row + 2], half[4 * row + 3]) = (a, sum + b, sum - b, c);
        }
        for column in 0..4 {
            let (a, b, c) = (half[column], half[4 + column], half[8 + column]);
            let (sum, b) = (0.5 * (a + c), 0.5 * b);
            points[column][lane] = a;
            points[4 + column][lane] = sum + b;
            points[8 + column][lane] = sum - b;
            points[12 + column][lane] = c;
        }
    }
}

/// Memory of a thread, kept from task to task.
struct Scratch {
    /// Transformed tiles `[chunk][point][tile][PITCH]`, or `[point][tile][GRAD_PITCH]`.
    tiles: Vec<f32>,
    /// The other factor: products `[point][tile][width]`, or transformed gradients.
    others: Vec<f32>,
    /// Finished pixels.
    pixels: Vec<f32>,
    spots: Vec<Spot>,
    /// Where the finished pixels go, and where they are.
    places: Vec<usize>,
    rows: Vec<usize>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch {
            tiles: Vec::new(),
            others: Vec::new(),
            pixels: Vec::new(),
            spots: Vec::new(),
            places: Vec::new(),
            rows: Vec::new(),
        })
    };
}

/// Writes the convolution of `x`, by way of the epilogue, to pixels `pitch` apart; the moments of block and channel to
/// `sums`, as [`moments::Parts`] has them.
pub(super) fn forward<T: Element>(
    g: &Geometry,
    x: Source<T>,
    filters: &Filters,
    epilogue: Epilogue<T>,
    out: Shared<T>,
    pitch: usize,
    sums: Option<Shared<f64>>,
) {
    let width = filters.tile.columns;
    let blocks = blocks(g);
    let panels = filters.channels.div_ceil(width);
    let groups = TASKS.div_ceil(blocks.len().max(1)).min(panels / MIN_CHANNELS.div_ceil(width)).max(1);
    let groups = balanced(0..panels, panels.div_ceil(groups).max(1));
    let patches = tiles(g);
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
                    close_pairs(tiles, channels.len());
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
                    // The pixels that are kept close up.
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
                        places.push(pixel * pitch + channel);
                    }
                }
                rows.clear();
                rows.extend((0..places.len()).map(|row| row * width));
                let memory = Shared::written(pixels);
                // SAFETY: `pixels` is this task's own, and it alone writes these pixels and channels of `out`.
                unsafe { epilogue.apply(Sums { memory, rows, places, from: 0, channel, lanes }) };
                let finished = pixels.chunks_exact(width).map(|row| &row[..lanes]).take(places.len());
                for (place, row) in places.iter().zip(finished.clone()) {
                    // SAFETY: as above.
                    unsafe { out.put(*place, row) };
                }
                if let Some(sums) = sums {
                    // SAFETY: this task alone writes these moments.
                    let to = unsafe {
                        moments::Parts::at(block, filters.channels).map(|at| sums.slice(at + channel, lanes))
                    };
                    vectorised(|| moments::of_rows(finished, to));
                }
            }
        });
    });
}

/// `B' d B` of the tiles at `spots`, for some channels: the points `step` floats apart, and a tile in each at its `place`.
fn transform<T: Element>(
    patches: &Patches,
    x: &Source<T>,
    spots: &[Spot],
    channels: Range<usize>,
    step: usize,
    place: impl Fn(usize) -> (usize, Form),
    tiles: &mut [f32],
) {
    let change = x.change.map(|change| Change {
        scale: &change.scale[channels.clone()],
        shift: &change.shift[channels.clone()],
        relu: change.relu,
    });
    for (tile, spot) in spots.iter().enumerate() {
        let pixels: [Option<&[T]>; POINTS] = std::array::from_fn(|point| {
            let y = (2 * spot.row + point / 4) as isize + patches.y;
            let x_at = (2 * spot.column + point % 4) as isize + patches.x;
            let inside = (0..patches.h as isize).contains(&y) && (0..patches.w as isize).contains(&x_at);
            let at = || ((spot.image * patches.h + y as usize) * patches.w + x_at as usize) * x.pitch;
            inside.then(|| &x.data[at() + channels.start..][..channels.len()])
        });
        let (start, form) = place(tile);
        transforms::input(form, pixels, channels.len(), change, &mut tiles[start..], step);
    }
}

/// The products of one point and panel: `[tile][width]`, of one chunk of channels, added to those of the chunks before.
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
        };
        let mut c = [std::ptr::null_mut(); MAX_ROWS];
        let rows = products[range.start * columns..range.end * columns].chunks_exact_mut(columns);
        c.iter_mut().zip(rows).for_each(|(c, row)| *c = row.as_mut_ptr());
        // SAFETY: `A`, `B` and each row of `C` are the slices above, as long as a tile of these rows reads and writes.
        unsafe { pitched(range.len(), &operands, &c) };
    }
}

/// `[co, 3, 3, ci]` from `x` and `dy`, which is not changed on the way.
pub(super) fn weight_grad<T: Element>(g: &Geometry, x: Source<T>, dy: Source<T>) -> Vec<f32> {
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

/// One side of `G' u G`: three rows, `step` apart.
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

/// The sums over `range` of the tiles, for some channels of both sides: `[point][co][ci]` from `first` on.
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
            // A tile reads whole vectors: up to one behind the last row.
            let len = POINTS * steps * GRAD_PITCH + 32;
            let (inputs, grads) = (reserve(tiles, len), reserve(others, len));
            transform(patches, &x, spots, columns.clone(), steps * GRAD_PITCH, place, inputs);
            spread(g, &dy, spots, rows.clone(), steps * GRAD_PITCH, place, grads);
            for point in 0..POINTS {
                let start = point * steps * GRAD_PITCH;
                for column in (0..columns.len()).step_by(tile.columns) {
                    let width = tile.columns.min(columns.len() - column);
                    for tile_rows in &tile_rows {
                        let at = |row: usize| {
                            let row = point * g.co + rows.start + tile_rows.start + row;
                            first + row * g.ci + columns.start + column
                        };
                        let operands = Operands {
                            depth: steps,
                            a: grads[start + tile_rows.start..].as_ptr(),
                            a_step: GRAD_PITCH,
                            b: inputs[start + column..].as_ptr(),
                            b_step: GRAD_PITCH,
                            accumulate: index > 0,
                        };
                        // SAFETY: `A` and `B` have a row of GRAD_PITCH floats for each of the tiles, and 32 more; a
                        // tile reads at most 14 and 32 from where it starts, below GRAD_CHANNELS; this task alone
                        // writes these points and channels of `out`.
                        unsafe {
                            out.write(tile.adjacent, tile_rows.len(), width, tile.columns, operands, &mut spill, at);
                        }
                    }
                }
            }
        }
    });
}

/// `A dy A'` of the tiles at `spots`, for some channels, left as by [`transform`].
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
