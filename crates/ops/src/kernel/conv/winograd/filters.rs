//! Transformed filters.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::transforms::POINTS;
use crate::{
    buffer::Aligned,
    kernel::{bf16, conv::geometry::Precision, isa::vectorised, operands::Tile},
};

/// Transformed filters in the order in which tiles read them: `[panel][point][depth][width]`, as in
/// [`Packed`](crate::kernel::conv::packed::Packed). Where a step of the tile takes two values of `k`, `depth` counts steps.
pub(crate) struct Filters {
    panels: Aligned,
    pub(super) depth: usize,
    pub(super) channels: usize,
    pub(super) tile: Tile,
}

impl Filters {
    /// `load(k, tap, first, lanes)` copies one tap of the filters, at depth `k`, for the channels from `first` on.
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
                                *points = [[0.0; WIDEST]; POINTS]; // the other half of an odd pair
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
    pub(in crate::kernel::conv) fn forward(precision: Precision, depth: usize, channels: usize, w: &[f32]) -> Filters {
        Filters::new(precision, depth, channels, |k, tap, first, lanes| {
            let values = w[(first * 9 + tap) * depth + k..].iter().step_by(9 * depth);
            lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = *value);
        })
    }

    /// From `w [depth, 3, 3, channels]`, rotated by 180°.
    pub(in crate::kernel::conv) fn rotated(precision: Precision, depth: usize, channels: usize, w: &[f32]) -> Filters {
        Filters::new(precision, depth, channels, |k, tap, first, lanes| {
            lanes.copy_from_slice(&w[(k * 9 + 8 - tap) * channels + first..][..lanes.len()]);
        })
    }

    /// The rows of a point from `k` on, which must be the first value of a step.
    pub(super) fn from(&self, panel: usize, point: usize, k: usize) -> &[f32] {
        let steps = |k: usize| k.div_ceil(self.tile.group);
        &self.panels[((panel * POINTS + point) * steps(self.depth) + steps(k)) * self.tile.columns..]
    }
}

/// `G g G'` for `L` filters side by side.
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
