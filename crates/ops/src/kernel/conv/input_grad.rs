//! The input gradient by blocked matrix products.
//!
//! Input row `i` is read by kernel row `t` where `i + padding = s j + t` for some output row `j`: all rows with one
//! remainder modulo the stride `s` (one *phase*) are read by the same taps. Each phase is a product of its own.

use super::{
    gather::{Gather, Patches},
    geometry::{Epilogue, Geometry},
    packed::Packed,
    product::{Layout, Product},
    shared::Shared,
};
use crate::kernel::{element::Element, prologue::Source};

/// Writes `[n, h, w, ci]` from `dy` and `w` to `out`, or adds it to what `out` holds.
pub(super) fn input_grad<T: Element>(g: &Geometry, dy: Source<T>, w: &[f32], out: Shared<T>, adds: bool) {
    let s = g.stride;
    for (ry, rx) in (0..s).flat_map(|ry| (0..s).map(move |rx| (ry, rx))) {
        let rows = Phase::new(g.h, g.kh, s, g.padding, ry);
        let columns = Phase::new(g.w, g.kw, s, g.padding, rx);
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
        // The taps of the phase, last first.
        let taps = (0..rows.taps).rev().flat_map(|ty| (0..columns.taps).rev().map(move |tx| (ty, tx)));
        let taps: Vec<usize> = taps.map(|(ty, tx)| (ry + s * ty) * g.kw + rx + s * tx).collect();
        let weights = Packed::rotated(g, &taps, w);
        let layout = Layout { h: g.h, w: g.w, pitch: g.ci, step: s, y: rows.first, x: columns.first };
        let (gather, epilogue) = (&Gather::new(patches, dy), Epilogue::default());
        Product { gather, weights: &weights, layout, epilogue, out, adds, moments: None }.run();
    }
}

/// The input pixels of one phase along one axis.
struct Phase {
    /// The first of them.
    first: usize,
    /// Their number.
    count: usize,
    /// The number of kernel taps that read them.
    taps: usize,
    /// The output under the first tap (the kernel's last) for the first pixel.
    origin: isize,
}

impl Phase {
    fn new(size: usize, kernel: usize, stride: usize, padding: usize, remainder: usize) -> Phase {
        let first = (remainder + stride * padding - padding) % stride; // (first + padding) % stride == remainder
        let taps = kernel.saturating_sub(remainder).div_ceil(stride);
        let origin = ((first + padding - remainder) / stride) as isize - (taps as isize - 1);
        Phase { first, count: size.saturating_sub(first).div_ceil(stride), taps, origin }
    }
}
