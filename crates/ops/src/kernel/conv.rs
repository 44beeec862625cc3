//! The three passes of a convolution, as blocked matrix products over gathered patches.
//!
//! A *patch* is the input under one output pixel: `kh kw ci` values, of which each row of `kw ci` is contiguous in
//! channels-last memory. A *block* is up to [`Tile::pixels`](super::operands::Tile) patches by up to [`scratch::DEPTH`] of their values,
//! gathered into scratch memory that stays in the second-level cache:
//!
//! * forward: `y[p][o] = sum_k patch[p][k] w[o][k]`, a block times packed weights;
//! * input gradient: the same with the weights rotated by 180°, for each phase of the stride;
//! * weight gradient: `dw[o][k] = sum_p dy[p][o] patch[p][k]`, a block of `dy`, transposed, times a block of patches.
//!
//! Where patches overlap and tiles are tall, a block gathers the pixels under its patches, each once, and multiplies them tap
//! by tap ([`plan`]). Their weight gradient does the same with pairs of images ([`tap_grad`]).
//!
//! Gathering copies, so a normalisation in front of the convolution costs nothing more
//! ([`Prologue`](crate::kernel::Prologue)); where each value is gathered several times, it is applied once before. The moments
//! of the result are computed while it is still in the first-level cache.
//!
//! Tensors of bf16 are multiplied as bf16: the gathered values and the weights are rounded first, and sums are `f32` until a
//! block of the result is finished. Where the CPU has no bf16 instructions, the rounded numbers are multiplied as `f32`. Where
//! it has matrix tiles of bf16, an `f32` is multiplied as the sum of three bf16 numbers, its *parts*, and the result is as exact (`kernel/amx.rs`).
//!
//! The shape alone decides how work is divided and in which order sums are added: the result does not depend on the number
//! of threads.

mod finish;
mod gather;
mod geometry;
mod input_grad;
mod packed;
mod plan;
mod product;
mod scratch;
mod shared;
mod tap_grad;
mod tasks;
#[cfg(test)]
mod tests;
mod weight_grad;
mod winograd;

use std::mem::MaybeUninit;

pub(crate) use self::geometry::{Epilogue, Geometry, Precision};
use self::{
    gather::{Gather, Patches},
    packed::Packed,
    plan::{Plan, by_lines, by_pixels},
    product::{Layout, Product},
    shared::Shared,
};
use super::{
    element::Element,
    moments::{self, Moments},
    prologue::Source,
    rows,
};
use crate::buffer;

/// The height and width of a result for which kept weights are made; they serve others, but may not be the fastest there.
const KEPT_FOR: usize = 112;

/// The weights of a forward pass in the order in which it reads them.
pub(crate) enum Weights<'a> {
    /// For products with patches.
    Patches(Packed),
    /// For products with transformed tiles.
    Tiles(winograd::Filters<'a>),
}

impl Weights<'_> {
    /// From `w [co, kh, kw, ci]`; for any number and size of images, whatever `g` says of them.
    pub(crate) fn new(g: &Geometry, w: &[f32]) -> Weights<'static> {
        match Weights::once(&Geometry { oh: KEPT_FOR, ow: KEPT_FOR, ..*g }, w) {
            Weights::Patches(packed) => Weights::Patches(packed),
            Weights::Tiles(filters) => Weights::Tiles(filters.kept()),
        }
    }

    /// As [`Weights::new`], for one pass.
    pub(crate) fn once<'a>(g: &Geometry, w: &'a [f32]) -> Weights<'a> {
        if winograd::suits(g) {
            return Weights::Tiles(winograd::Filters::forward(g.precision, g.ci, g.co, w));
        }
        if by_lines(&Patches::forward(g), &g.precision.tile()) {
            return Weights::Patches(Packed::of_lines(g, w));
        }
        Weights::Patches(Packed::forward(g.precision, g.kh * g.kw * g.ci, g.co, w))
    }
}

/// `[n, oh, ow, co]` from `x` and the weights, which must have been made for a convolution like `g`.
pub(crate) fn forward<T: Element>(g: &Geometry, x: Source<T>, w: &Weights, epilogue: Epilogue<T>) -> Vec<T> {
    let pass = |out: &mut [MaybeUninit<T>]| forward_to(g, x, w, epilogue, Shared::new(out), None);
    // SAFETY: one pass over all pixels at step 1 writes every element of the output.
    unsafe { buffer::filled(g.n * g.oh * g.ow * g.co, pass) }
}

/// As [`forward`], with the moments of every channel. Requires at least one pixel.
pub(crate) fn forward_moments<T: Element>(g: &Geometry, x: Source<T>, w: &Weights) -> (Vec<T>, Moments) {
    let blocks = match w {
        Weights::Tiles(_) => winograd::block_pixels(g),
        Weights::Patches(weights) => Plan::new(&Patches::forward(g), &weights.tile, weights.lines).counts(),
    };
    let mut parts = moments::Parts::new(blocks, g.co);
    let pass = |out: &mut [MaybeUninit<T>]| {
        forward_to(g, x, w, Epilogue::default(), Shared::new(out), Some(Shared::new(parts.values())));
    };
    // SAFETY: as above.
    let y = unsafe { buffer::filled(g.n * g.oh * g.ow * g.co, pass) };
    (y, parts.total())
}

fn forward_to<T: Element>(
    g: &Geometry,
    x: Source<T>,
    w: &Weights,
    epilogue: Epilogue<T>,
    out: Shared<T>,
    moments: Option<Shared<f64>>,
) {
    match w {
        Weights::Tiles(filters) => winograd::forward(g, x, filters, epilogue, (out, false), moments),
        Weights::Patches(weights) => {
            let patches = Patches::forward(g);
            let once = weights.lines || by_pixels(&patches, &weights.tile);
            let applied = if once { None } else { applied(g, x, 1) };
            let gather = &Gather::new(patches, or_applied(x, &applied));
            let layout = Layout { h: g.oh, w: g.ow, pitch: g.co, step: 1, y: 0, x: 0 };
            Product { gather, weights, layout, epilogue, out, adds: false, moments }.run();
        }
    }
}

/// `[n, h, w, ci]` from `dy` and `w`.
pub(crate) fn input_grad<T: Element>(g: &Geometry, dy: Source<T>, w: &[f32]) -> Vec<T> {
    let fill = |out: &mut [MaybeUninit<T>]| input_grad_to(g, dy, w, Shared::new(out), false);
    // SAFETY: every pixel belongs to one phase along each axis, and the pass of that phase writes it.
    unsafe { buffer::filled(g.n * g.h * g.w * g.ci, fill) }
}

/// As [`input_grad`], added to `into`.
pub(crate) fn input_grad_add<T: Element>(g: &Geometry, dy: Source<T>, w: &[f32], into: &mut [T]) {
    assert_eq!(into.len(), g.n * g.h * g.w * g.ci);
    input_grad_to(g, dy, w, Shared::written(into), true);
}

fn input_grad_to<T: Element>(g: &Geometry, dy: Source<T>, w: &[f32], out: Shared<T>, adds: bool) {
    if winograd::applies(g) && winograd::suits(&winograd::rotated(g)) {
        let filters = winograd::Filters::rotated(g.precision, g.co, g.ci, w);
        return winograd::forward(&winograd::rotated(g), dy, &filters, Epilogue::default(), (out, adds), None);
    }
    input_grad::input_grad(g, dy, w, out, adds);
}

/// `[co, kh, kw, ci]` from `x` and `dy`, which must have no prologue.
pub(crate) fn weight_grad<T: Element>(g: &Geometry, x: Source<T>, dy: Source<T>) -> Vec<f32> {
    if tap_grad::suits(g) {
        return tap_grad::weight_grad(g, x, dy);
    }
    if winograd::applies(g) {
        return winograd::weight_grad(g, x, dy);
    }
    let applied = applied(g, x, weight_grad::reads(g));
    weight_grad::weight_grad(g, or_applied(x, &applied), dy)
}

/// The input after its prologue, where a pass that gathers every patch `times` times would apply it to a value more than
/// once.
fn applied<T: Element>(g: &Geometry, x: Source<T>, times: usize) -> Option<Vec<T>> {
    let repeats = g.kh * g.kw * times > g.stride * g.stride;
    (repeats && x.prologue.is_some() && x.pitch == g.ci).then(|| rows::sum(g.ci, x, None, false))
}

/// The input as [`applied`] made it, or as it is if nothing was made.
fn or_applied<'a, T: Element>(x: Source<'a, T>, applied: &'a Option<Vec<T>>) -> Source<'a, T> {
    applied.as_ref().map_or(x, |data| Source { data, prologue: None, ..x })
}
