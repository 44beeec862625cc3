//! Tiles of 2x2 output pixels: where they are, and scratch memory for them.

use std::{cell::RefCell, ops::Range};

use super::transforms::{self, POINTS};
use crate::kernel::{
    conv::{
        gather::{Patches, Spot},
        geometry::Geometry,
        tasks::balanced,
    },
    element::Element,
    form::Form,
    prologue::{Prologue, Source},
};

/// The most floats of a block's transformed tiles.
const BLOCK: usize = 128 << 10;
/// The fewest and the most tiles of a block of the forward pass.
const TILES: Range<usize> = 28..56;

/// The 4x4 input patches under the tiles.
pub(super) fn tiles(g: &Geometry) -> Patches {
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
    /// Transformed tiles `[chunk][point][tile][PITCH]`, or `[point][tile][GRAD_PITCH]`.
    pub(super) tiles: Vec<f32>,
    /// Products `[point][tile][width]`, or transformed gradients `[point][tile][GRAD_PITCH]`.
    pub(super) others: Vec<f32>,
    /// Finished pixels.
    pub(super) pixels: Vec<f32>,
    pub(super) spots: Vec<Spot>,
    /// Where each finished pixel goes in the output.
    pub(super) places: Vec<usize>,
    /// Where each finished pixel is in `pixels`.
    pub(super) rows: Vec<usize>,
}

thread_local! {
    pub(super) static SCRATCH: RefCell<Scratch> = const {
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
    for (tile, spot) in spots.iter().enumerate() {
        let pixels: [Option<&[T]>; POINTS] = std::array::from_fn(|point| {
            let y = (2 * spot.row + point / 4) as isize + patches.y;
            let x_at = (2 * spot.column + point % 4) as isize + patches.x;
            let inside = (0..patches.h as isize).contains(&y) && (0..patches.w as isize).contains(&x_at);
            let at = || ((spot.image * patches.h + y as usize) * patches.w + x_at as usize) * x.pitch;
            inside.then(|| &x.data[at() + channels.start..][..channels.len()])
        });
        let (start, form) = place(tile);
        transforms::input(form, pixels, channels.len(), prologue, &mut tiles[start..], step);
    }
}
