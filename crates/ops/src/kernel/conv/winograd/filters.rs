//! Transformed filters.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::transforms::{self, POINTS, Taps};
use crate::{
    buffer::Aligned,
    kernel::{
        conv::{geometry::Precision, scratch::reserve},
        form::Form,
        operands::Tile,
        transpose::transpose,
    },
};

/// The filters of a pass, and of others like it where they are kept transformed.
pub(crate) struct Filters<'a> {
    stored: Stored<'a>,
    pub(super) depth: usize,
    pub(super) channels: usize,
    pub(super) tile: Tile,
}

enum Stored<'a> {
    /// `[channels, 3, 3, depth]`.
    Forward(&'a [f32]),
    /// `[depth, 3, 3, channels]`, to be rotated by 180°.
    Rotated(&'a [f32]),
    /// Transformed, in the order in which tiles read them: `[panel][point][depth][width]`, as in
    /// [`Packed`](crate::kernel::conv::packed::Packed). Where a step of the tile takes two values of `k`, `depth` counts steps.
    Panels(Aligned),
}

/// The widest panel.
const WIDEST: usize = 32;

/// Values of `k` that are transformed at a time: taps stay in the first-level cache, and cache lines are read once.
const FEW: usize = 16;

impl<'a> Filters<'a> {
    /// From `w [channels, 3, 3, depth]`.
    pub(in crate::kernel::conv) fn forward(precision: Precision, depth: usize, channels: usize, w: &'a [f32]) -> Self {
        Filters { stored: Stored::Forward(w), depth, channels, tile: precision.vector_tile() }
    }

    /// From `w [depth, 3, 3, channels]`, rotated by 180°.
    pub(in crate::kernel::conv) fn rotated(precision: Precision, depth: usize, channels: usize, w: &'a [f32]) -> Self {
        Filters { stored: Stored::Rotated(w), depth, channels, tile: precision.vector_tile() }
    }

    /// Whether they are transformed.
    pub(super) fn are_kept(&self) -> bool {
        matches!(self.stored, Stored::Panels(_))
    }

    /// Transforms all of them.
    pub(in crate::kernel::conv) fn kept(&self) -> Filters<'static> {
        let Filters { depth, channels, tile, .. } = *self;
        let panel = POINTS * depth.div_ceil(tile.group) * tile.columns;
        let write = |panels: &mut [MaybeUninit<f32>]| {
            panels.par_chunks_mut(panel).enumerate().for_each(|(index, panel)| self.write(index, 0..depth, panel));
        };
        // SAFETY: chunks of whole panels cover the buffer; each is written for every point and depth.
        let panels = unsafe { Aligned::filled(channels.div_ceil(tile.columns) * panel, write) };
        Filters { stored: Stored::Panels(panels), depth, channels, tile }
    }

    /// A panel for some depths, which start with a step: the rows of a point, and the floats from point to point. Filters
    /// that are not kept are transformed into `room`.
    pub(super) fn panel<'b>(&'b self, index: usize, depths: Range<usize>, room: &'b mut Aligned) -> (&'b [f32], usize) {
        let rows = |k: usize| k.div_ceil(self.tile.group) * self.tile.columns;
        if let Stored::Panels(panels) = &self.stored {
            return (&panels[index * POINTS * rows(self.depth) + rows(depths.start)..], rows(self.depth));
        }
        let len = rows(depths.len());
        let room = reserve(room, POINTS * len);
        // SAFETY: only values are written.
        let to = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast(), room.len()) };
        self.write(index, depths, to);
        (room, len)
    }

    /// Transforms a panel, `[point][step][width]`, for some depths.
    fn write(&self, index: usize, depths: Range<usize>, to: &mut [MaybeUninit<f32>]) {
        let Filters { depth, channels, tile, .. } = *self;
        let (width, form) = (tile.columns, if tile.group == 2 { Form::Pairs } else { Form::Floats });
        let (step, first) = (depths.len().div_ceil(tile.group) * width, index * width);
        let lanes = width.min(channels - first);
        if lanes < width {
            to.fill(MaybeUninit::new(0.0));
        }
        let mut turned = [[[0.0; WIDEST]; FEW]; 9];
        for start in depths.clone().step_by(FEW) {
            let rows = FEW.min(depths.end - start);
            let to = &mut to[(start - depths.start) / tile.group * width..];
            let w = match self.stored {
                Stored::Forward(w) => w,
                Stored::Rotated(w) => {
                    let tap = |tap: usize| &w[(start * 9 + 8 - tap) * channels + first..];
                    let taps = Taps { taps: std::array::from_fn(tap), pitch: 9 * channels, rows, lanes };
                    transforms::filters(form, &taps, (step, width), to);
                    continue;
                }
                Stored::Panels(_) => unreachable!("transformed filters are not transformed again"),
            };
            for (tap, to) in turned.iter_mut().enumerate() {
                let from = &w[(first * 9 + tap) * depth + start..];
                transpose((lanes, rows), (from, 9 * depth), (to.as_flattened_mut(), WIDEST));
            }
            let taps = Taps { taps: turned.each_ref().map(|tap| tap.as_flattened()), pitch: WIDEST, rows, lanes };
            transforms::filters(form, &taps, (step, width), to);
        }
    }
}
