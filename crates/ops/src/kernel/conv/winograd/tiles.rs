//! Tiles of 2x2 output pixels: where they are, and scratch memory for them.

use std::{cell::RefCell, ops::Range};

use super::transforms::{self, OUTSIDE, POINTS};
use crate::{
    buffer::Aligned,
    kernel::{
        conv::{
            gather::{Patches, Spot},
            geometry::Geometry,
            tasks::balanced,
        },
        element::Element,
        form::Form,
        prologue::{Prologue, Source},
    },
};

/// The most tiles of a block of the forward pass, and of the only block of one: whole tiles of rows of a product.
const TILES: [usize; 2] = [56, 84];

/// The 4x4 input patches under the tiles.
pub(super) fn tiles(g: &Geometry) -> Patches {
    let origin = -(g.padding as isize);
    let (grid_h, grid_w) = (g.oh.div_ceil(2), g.ow.div_ceil(2));
    Patches { n: g.n, h: g.h, w: g.w, c: g.ci, kh: 4, kw: 4, step: 2, y: origin, x: origin, grid_h, grid_w }
}

/// How a forward pass is cut into blocks of tiles.
pub(super) fn blocks(g: &Geometry) -> Vec<Range<usize>> {
    let (all, [most, alone]) = (tiles(g).pixels(), TILES);
    balanced(0..all, if all <= alone { alone } else { most })
}

/// How many output pixels each block has.
pub(in crate::kernel::conv) fn block_pixels(g: &Geometry) -> Vec<usize> {
    let tiles = tiles(g);
    let pixels = |spot: Spot| inside(g, spot).count();
    blocks(g).into_iter().map(|block| tiles.spots(block).map(pixels).sum()).collect()
}

/// The pixels of a tile inside the output: which of the four, and its index among all output pixels.
pub(super) fn inside(g: &Geometry, spot: Spot) -> impl Iterator<Item = (usize, usize)> {
    let (oh, ow) = (g.oh, g.ow);
    (0..4).filter_map(move |at| {
        let (row, column) = (2 * spot.row + at / 2, 2 * spot.column + at % 2);
        (row < oh && column < ow).then(|| (at, (spot.image * oh + row) * ow + column))
    })
}

/// A thread's scratch memory, kept from task to task.
pub(super) struct Scratch {
    /// Transformed tiles `[point][tile][PITCH]` or `[point][tile][GRAD_PITCH]`.
    pub(super) tiles: Aligned,
    /// Products `[panel][point][tile][width]`, or transformed gradients `[point][tile][GRAD_PITCH]`.
    pub(super) others: Aligned,
    /// A panel of transformed filters.
    pub(super) filters: Aligned,
    pub(super) results: Results,
}

/// What a block's results are made of.
pub(super) struct Results {
    /// Finished pixels, or sums of a weight gradient `[point][GRAD_CHANNELS][GRAD_CHANNELS]`.
    pub(super) pixels: Aligned,
    pub(super) spots: Vec<Spot>,
    /// Where each finished pixel goes in the output.
    pub(super) places: Vec<usize>,
    /// Where each finished pixel is in `pixels`.
    pub(super) rows: Vec<usize>,
}

thread_local! {
    pub(super) static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        tiles: Aligned::zeros(0),
        others: Aligned::zeros(0),
        filters: Aligned::zeros(0),
        results: Results { pixels: Aligned::zeros(0), spots: Vec::new(), places: Vec::new(), rows: Vec::new() },
    });
}

/// Writes `B' d B` of the tiles at `spots`, for some channels. Points are `step` floats apart; `place` says where in a point
/// a tile goes, and in which form.
pub(super) fn transform<T: Element>(
    patches: &Patches,
    x: &Source<T>,
    spots: &[Spot],
    channels: Range<usize>,
    step: usize,
    place: impl Fn(usize) -> (usize, Form),
    tiles: &mut [f32],
) {
    let prologue = x.prologue.map(|prologue| Prologue {
        scale: &prologue.scale[channels.clone()],
        shift: &prologue.shift[channels.clone()],
        relu: prologue.relu,
    });
    let (Patches { h, w, y, x: left, .. }, Source { data, pitch, .. }) = (*patches, *x);
    // The pixels of a tile that are inside, along one axis.
    let within = |first: isize, len: usize| (-first).max(0) as usize..(len as isize - first).clamp(0, 4) as usize;
    for (tile, spot) in spots.iter().enumerate() {
        let (row, column) = ((2 * spot.row) as isize + y, (2 * spot.column) as isize + left);
        let first = ((spot.image * h) as isize + row) * w as isize + column;
        let mut pixels = [OUTSIDE; POINTS];
        for row in within(row, h) {
            for column in within(column, w) {
                pixels[4 * row + column] = (first + (row * w + column) as isize) as usize * pitch + channels.start;
            }
        }
        let (start, form) = place(tile);
        transforms::input(form, (data, pixels), channels.len(), prologue, &mut tiles[start..], step);
    }
}
