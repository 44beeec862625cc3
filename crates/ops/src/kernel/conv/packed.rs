//! Weights in the order in which tiles read them.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{
    geometry::{Geometry, Precision},
    scratch::{SCRATCH, Scratch, close_pairs, turn},
    tasks::in_steps,
};
use crate::{
    buffer::Aligned,
    kernel::{
        bf16,
        dispatch::{Rows, dispatch, dispatch_parts},
        form::{Form, HALF_PARTS, PAIR_PARTS},
        isa::vectorised,
        operands::{PART, PARTS, PITCH, Tile},
        vector::Convert,
    },
};

/// Weights in panels of as many channels as a tile is wide, `[panel][depth][width]`; the last panel is padded with zeros.
/// Where a step of the tile takes two values of `k`, a panel has [`Tile::steps_of`] `depth` rows; where values are sums of
/// parts, it has these one behind the other, `[panel][part][step][width]`.
pub(crate) struct Packed {
    pub(super) panels: Aligned,
    /// Values of `k`.
    pub(super) depth: usize,
    pub(super) channels: usize,
    pub(super) precision: Precision,
    pub(super) tile: Tile,
    /// Floats in a part of a panel.
    pub(super) part: usize,
    /// Whether they are for patches that are read in their lines ([`Packed::of_lines`]).
    pub(super) lines: bool,
}

impl Packed {
    /// `pack(channel, lanes, panel)` must write the first `lanes` lanes of every row of the panel that starts at `channel`.
    fn new(
        precision: Precision,
        depth: usize,
        channels: usize,
        pack: impl Fn(usize, usize, &mut [MaybeUninit<f32>]) + Sync,
    ) -> Packed {
        let tile = precision.tile();
        let width = tile.columns;
        let part = tile.steps_of(depth) * width;
        let len = tile.parts * part;
        let fill = |panels: &mut [MaybeUninit<f32>]| {
            panels.par_chunks_mut(len.max(1)).enumerate().for_each(|(panel, values)| {
                let first = panel * width;
                let lanes = width.min(channels - first);
                if lanes < width {
                    values.fill(MaybeUninit::new(0.0));
                }
                pack(first, lanes, values);
            });
        };
        // SAFETY: chunks of whole panels cover the buffer, and every lane of them is written.
        let mut panels = unsafe { Aligned::filled(channels.div_ceil(width) * len, fill) };
        if precision == Precision::Bf16 && tile.group == 1 && depth > 0 {
            panels.par_chunks_mut(len).for_each(|panel| vectorised(|| bf16::round(panel)));
        }
        Packed { panels, depth, channels, precision, tile, part, lines: false }
    }

    /// From `w [channels, depth]`.
    pub(super) fn forward(precision: Precision, depth: usize, channels: usize, w: &[f32]) -> Packed {
        let tile = precision.tile();
        let width = tile.columns;
        Packed::new(precision, depth, channels, |first, lanes, panel| {
            if tile.group == 2 {
                return turned_pairs(&tile, depth, lanes, &w[first * depth..], panel);
            }
            let channel = |lane: usize| &w[(first + lane) * depth..][..depth];
            // Few columns at a time, so that the lines written to stay in the first-level cache.
            const FEW: usize = 16;
            for (few, rows) in panel.chunks_mut(FEW * width).enumerate() {
                for lane in 0..lanes {
                    for (row, value) in rows.chunks_exact_mut(width).zip(&channel(lane)[few * FEW..]) {
                        row[lane].write(*value);
                    }
                }
            }
        })
    }

    /// From `w [co, kh, kw, ci]`, for patches that tiles read where their lines lie: every row of the kernel is a whole number of
    /// steps, filled up with zeros.
    pub(super) fn of_lines(g: &Geometry, w: &[f32]) -> Packed {
        let (line, unit) = (g.kw * g.ci, g.precision.tile().unit());
        let depth = g.kh * unit;
        let mut filled = vec![0.0; g.co * depth];
        for (row, to) in w.chunks_exact(line).zip(filled.chunks_exact_mut(unit)) {
            to[..line].copy_from_slice(row);
        }
        Packed { lines: true, ..Packed::forward(g.precision, depth, g.co, &filled) }
    }

    /// From `w [co, kh, kw, ci]`: sums over `taps`, in this order, and `co`, with results for `ci` channels.
    pub(super) fn rotated(g: &Geometry, taps: &[usize], w: &[f32]) -> Packed {
        let tile = g.precision.tile();
        let depth = taps.len() * g.co;
        Packed::new(g.precision, depth, g.ci, |first, lanes, panel| {
            let row = |k: usize| &w[(k % g.co * g.kh * g.kw + taps[k / g.co]) * g.ci + first..][..lanes];
            let part = panel.len() / tile.parts;
            for at in (0..part).step_by(tile.columns) {
                let k = at / tile.columns * tile.group;
                let high = if k + 1 < depth { row(k + 1) } else { &ZEROS[..lanes] };
                if k >= depth {
                    (0..tile.parts).for_each(|index| panel[index * part + at..][..lanes].fill(MaybeUninit::new(0.0)));
                } else if tile.group == 2 {
                    paired(row(k), high, &mut panel[at..], if tile.parts > 1 { part } else { 0 });
                } else {
                    panel[at..][..lanes].write_copy_of_slice(row(k));
                }
            }
        })
    }

    /// A panel from `k` on, which must be the first value of a step.
    pub(super) fn from(&self, panel: usize, k: usize) -> &[f32] {
        &self.panels[panel * self.tile.parts * self.part + self.tile.steps_of(k) * self.tile.columns..]
    }
}

const ZEROS: [f32; 32] = [0.0; 32];

/// Two rows as one of pairs of bf16, or as one for each of their parts, `part` floats apart, if that is not 0.
fn paired(low: &[f32], high: &[f32], to: &mut [MaybeUninit<f32>], part: usize) {
    assert!(low.len() == high.len() && low.len() + (PARTS - 1) * part <= to.len());
    let job = Pair { low, high, to: to.as_mut_ptr().cast(), part };
    // SAFETY: the rows are equally long, `to` has room, and is exclusive.
    unsafe { if part > 0 { dispatch_parts(Form::PairParts, &job) } else { dispatch(Form::Pairs, &job) } }
}

struct Pair<'a> {
    low: &'a [f32],
    high: &'a [f32],
    to: *mut f32,
    part: usize,
}

impl Rows for Pair<'_> {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.low.len()
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (low, high) = (V::load(self.low.as_ptr().add(at)), V::load(self.high.as_ptr().add(at)));
            if FORM == PAIR_PARTS {
                low.store_pair_parts(high, self.to, at, self.part);
            } else {
                low.store_pairs(high, self.to, at);
            }
        }
    }
}

/// Writes a panel of pairs, `[part][step][lane]`, from `w [lanes, depth]`; behind the last value are zeros.
fn turned_pairs(tile: &Tile, depth: usize, lanes: usize, w: &[f32], panel: &mut [MaybeUninit<f32>]) {
    let part = panel.len() / tile.parts;
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { left, turned, .. } = scratch;
        for values in in_steps(depth, tile.depth, tile.unit()) {
            let steps = tile.steps_of(values.len());
            halve_rows((&w[values.start..], depth), (lanes, values.len()), tile, left);
            for index in 0..tile.parts {
                let to = &mut panel[index * part + values.start / tile.group * tile.columns..];
                let rows = turn(&left[index * PART..], (lanes, steps), turned, 0).chunks(PITCH).take(steps);
                for (row, to) in rows.zip(to.chunks_exact_mut(tile.columns)) {
                    to[..lanes].write_copy_of_slice(&row[..lanes]);
                }
            }
        }
    });
}

/// Writes the first `len` values of `rows` rows, `pitch` floats apart, as bf16 numbers, or as their parts, to rows [`PITCH`]
/// floats apart; behind them are zeros up to a whole number of steps.
fn halve_rows((from, pitch): (&[f32], usize), (rows, len): (usize, usize), tile: &Tile, to: &mut [f32]) {
    assert!(len <= tile.depth);
    for (row, to) in to.chunks_exact_mut(PITCH).enumerate().take(rows) {
        let job = Halve { from: &from[row * pitch..][..len], to: to.as_mut_ptr() };
        // SAFETY: the row has room for twice DEPTH bf16 numbers, or for twice PART of each part, and is exclusive.
        unsafe { if tile.parts > 1 { dispatch_parts(Form::HalfParts, &job) } else { dispatch(Form::Halves, &job) } };
    }
    close_pairs(&mut to[..rows * PITCH], len, tile);
}

struct Halve<'a> {
    from: &'a [f32],
    to: *mut f32,
}

impl Rows for Halve<'_> {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.from.len()
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let v = V::load(self.from.as_ptr().add(at));
            if FORM == HALF_PARTS {
                v.store_parts::<FORM>(self.to, at, PART);
            } else {
                v.store_as::<FORM>(self.to, at);
            }
        }
    }
}
