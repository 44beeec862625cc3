//! Weights in the order in which tiles read them.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::geometry::{Geometry, Precision};
use crate::{
    buffer::Aligned,
    kernel::{bf16, isa::vectorised, operands::Tile},
};

/// Weights in panels of as many channels as a tile is wide, `[panel][depth][width]`; the last panel is padded with zeros.
/// Where a step of the tile takes two values of `k`, a panel has [`Tile::steps_of`] `depth` rows.
pub(crate) struct Packed {
    pub(super) panels: Aligned,
    /// Values of `k`.
    pub(super) depth: usize,
    pub(super) channels: usize,
    pub(super) precision: Precision,
    pub(super) tile: Tile,
}

impl Packed {
    /// `pack(channel, lanes, panel)` must write the first `lanes` lanes of every row of the panel that starts at `channel`.
    pub(super) fn new(
        precision: Precision,
        depth: usize,
        channels: usize,
        pack: impl Fn(usize, usize, &mut [MaybeUninit<f32>]) + Sync,
    ) -> Packed {
        let tile = precision.tile();
        let width = tile.columns;
        let fill = |panels: &mut [MaybeUninit<f32>]| {
            panels.par_chunks_mut((depth * width).max(1)).enumerate().for_each(|(panel, values)| {
                let first = panel * width;
                let lanes = width.min(channels - first);
                if lanes < width {
                    values.fill(MaybeUninit::new(0.0));
                }
                pack(first, lanes, values);
            });
        };
        // SAFETY: chunks of whole panels cover the buffer, and every lane of them is written.
        let mut panels = unsafe { Aligned::filled(channels.div_ceil(width) * depth * width, fill) };
        if precision == Precision::Bf16 && depth > 0 {
            if tile.group == 1 {
                panels.par_chunks_mut(depth * width).for_each(|panel| vectorised(|| bf16::round(panel)));
            } else {
                panels = paired(&panels, depth, &tile);
            }
        }
        Packed { panels, depth, channels, precision, tile }
    }

    /// From `w [channels, depth]`.
    pub(super) fn forward(precision: Precision, depth: usize, channels: usize, w: &[f32]) -> Packed {
        let width = precision.tile().columns;
        Packed::new(precision, depth, channels, |first, lanes, panel| {
            // Few columns at a time, so that the lines written to stay in the first-level cache.
            const FEW: usize = 16;
            for (few, rows) in panel.chunks_mut(FEW * width).enumerate() {
                for lane in 0..lanes {
                    let from = &w[(first + lane) * depth + few * FEW..];
                    for (row, value) in rows.chunks_exact_mut(width).zip(from) {
                        row[lane].write(*value);
                    }
                }
            }
        })
    }

    /// From `w [co, kh, kw, ci]`: sums over `taps`, in this order, and `co`, with results for `ci` channels.
    pub(super) fn rotated(g: &Geometry, taps: &[usize], w: &[f32]) -> Packed {
        let width = g.precision.tile().columns;
        Packed::new(g.precision, taps.len() * g.co, g.ci, |first, lanes, panel| {
            let sums = taps.iter().flat_map(|tap| (0..g.co).map(move |o| (tap, o)));
            for (row, (tap, o)) in panel.chunks_exact_mut(width).zip(sums) {
                row[..lanes].write_copy_of_slice(&w[(o * g.kh * g.kw + tap) * g.ci + first..][..lanes]);
            }
        })
    }

    /// A panel from `k` on, which must be the first value of a step.
    pub(super) fn from(&self, panel: usize, k: usize) -> &[f32] {
        let steps = |k: usize| self.tile.steps_of(k);
        &self.panels[(panel * steps(self.depth) + steps(k)) * self.tile.columns..]
    }
}

/// Converts panels of `depth` rows of floats to panels of half as many rows of pairs; an odd last row is paired with zeros,
/// and rows of zeros follow where the tile takes several steps at once.
fn paired(panels: &[f32], depth: usize, tile: &Tile) -> Aligned {
    let (steps, width) = (tile.steps_of(depth), tile.columns);
    let mut pairs = Aligned::zeros(panels.len() / depth * steps);
    let panels = panels.par_chunks(depth * width).zip(pairs.bits_mut().par_chunks_mut(steps * width));
    panels.for_each(|(panel, pairs)| {
        vectorised(|| {
            let zeros = [0.0; 32];
            for (rows, pairs) in panel.chunks(2 * width).zip(pairs.chunks_mut(width)) {
                let (low, high) = rows.split_at(width);
                bf16::pair_rows(low, if high.is_empty() { &zeros[..width] } else { high }, pairs);
            }
        });
    });
    pairs
}
