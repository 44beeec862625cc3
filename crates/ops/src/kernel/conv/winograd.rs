//! 3x3 convolutions at stride 1 with 2.25 times fewer multiplications: Winograd's minimal filtering F(2x2, 3x3), as
//! Lavin and Gray (CVPR 2016, <https://arxiv.org/abs/1509.09308>) use it.
//!
//! A *tile* is 2x2 output pixels and the 4x4 input pixels under them. Input tiles `d` and filters `g` are transformed,
//! multiplied point by point and summed over the channels, which is one matrix product for each of the 16 *points*, and
//! transformed back:
//!
//! * forward: `y = A' [(G g G') (B' d B)] A`; the input gradient is the same with the filters rotated by 180°;
//! * weight gradient: `dg = G' [sum over tiles of (A dy A') (B' d B)] G`.
//!
//! The transforms only add and halve, so the results are as exact as direct ones (measured: closer to `f64`). Tiles are
//! transformed a block at a time, into scratch memory that stays in the second-level cache. The input's prologue is applied
//! while a tile is loaded.

mod filters;
mod forward;
mod tiles;
mod transforms;
mod weight_grad;

pub(crate) use self::filters::Filters;
pub(super) use self::{forward::forward, tiles::block_pixels, weight_grad::weight_grad};
use super::{
    gather::Patches,
    geometry::{Geometry, Precision},
    plan::by_pixels,
};

/// Whether a forward pass is faster so.
pub(super) fn suits(g: &Geometry) -> bool {
    // Tall tiles read overlapping patches where they lie, and multiply faster than values are transformed.
    applies(g) && !by_pixels(&Patches::forward(g), &g.precision.tile())
}

/// Whether the algorithm applies, and the convolution has enough channels for the transforms to pay.
pub(super) fn applies(g: &Geometry) -> bool {
    let square = (g.kh, g.kw, g.stride) == (3, 3, 1) && g.padding <= 2;
    let tile = g.precision.vector_tile();
    // bf16 numbers that are multiplied as `f32` gain nothing; matrix tiles multiply faster than values are transformed.
    let fast = g.precision == Precision::F32 || (tile.group == 2 && tile.adjacent.is_some());
    square && fast && g.ci >= 16 && g.co >= 16
}

/// The input gradient of `g` as a forward pass.
pub(super) fn rotated(g: &Geometry) -> Geometry {
    Geometry { h: g.oh, w: g.ow, ci: g.co, co: g.ci, padding: 2 - g.padding, oh: g.h, ow: g.w, ..*g }
}
