//! Copying patches into blocks, changed on the way.

use std::ops::Range;

use super::{Geometry, Source, at_least};
use crate::kernel::{bf16, tile::PITCH, vectorised};

/// What the patches of a pass are cut from, and where.
#[derive(Clone, Copy)]
pub(super) struct Patches {
    /// The source: `[n, h, w, c]`.
    pub(super) n: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
    /// Rows and columns of a patch.
    pub(super) kh: usize,
    pub(super) kw: usize,
    /// Source pixels from one patch to the next.
    pub(super) step: usize,
    /// Where the first patch starts; outside the source are zeros.
    pub(super) y: isize,
    pub(super) x: isize,
    /// Patches per column and row of an image.
    pub(super) grid_h: usize,
    pub(super) grid_w: usize,
}

impl Patches {
    pub(super) fn forward(g: &Geometry) -> Patches {
        let origin = -(g.padding as isize);
        let Geometry { n, h, w, ci, kh, kw, stride, oh, ow, .. } = *g;
        Patches { n, h, w, c: ci, kh, kw, step: stride, y: origin, x: origin, grid_h: oh, grid_w: ow }
    }

    pub(super) fn pixels(&self) -> usize {
        self.n * self.grid_h * self.grid_w
    }

    /// Floats of a patch.
    pub(super) fn depth(&self) -> usize {
        self.kh * self.kw * self.c
    }

    /// Where the patches `pixels` are.
    pub(super) fn spots(&self, pixels: Range<usize>) -> impl Iterator<Item = Spot> + use<> {
        let Patches { grid_h, grid_w, .. } = *self;
        let image = (grid_h * grid_w).max(1);
        let start = pixels.start;
        let mut next = Spot { image: start / image, row: start % image / grid_w.max(1), column: start % grid_w.max(1) };
        pixels.map(move |_| {
            let spot = next;
            next.column += 1;
            if next.column == grid_w {
                (next.column, next.row) = (0, next.row + 1);
                if next.row == grid_h {
                    (next.row, next.image) = (0, next.image + 1);
                }
            }
            spot
        })
    }
}

/// A patch's place in the grid.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

/// What a float becomes in a block.
pub(super) trait Lane: Copy {
    /// As many as fill a row of [`PITCH`] floats.
    const PITCH: usize;

    fn of(v: f32) -> Self;
}

impl Lane for f32 {
    const PITCH: usize = PITCH;

    #[inline(always)]
    fn of(v: f32) -> f32 {
        v
    }
}

/// The bits of a bf16 number.
impl Lane for u16 {
    const PITCH: usize = 2 * PITCH;

    #[inline(always)]
    fn of(v: f32) -> u16 {
        bf16::bits(v)
    }
}

/// Copies patches into blocks.
pub(super) struct Gather<'a> {
    pub(super) patches: Patches,
    pub(super) source: Source<'a>,
    /// The source's change, repeated along a row of a patch; nothing where there is none.
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) floor: f32,
}

impl<'a> Gather<'a> {
    pub(super) fn new(patches: Patches, source: Source<'a>) -> Self {
        let row = |channels: &[f32]| channels.repeat(patches.kw);
        let (scale, shift, floor) = match &source.change {
            Some(change) => (row(change.scale), row(change.shift), change.floor()),
            None => (Vec::new(), Vec::new(), 0.0),
        };
        Gather { patches, source, scale, shift, floor }
    }

    /// Copies the floats `depths` of the patches at `spots` into `block`, a row of [`PITCH`] floats each.
    pub(super) fn block<T: Lane>(&self, spots: &[Spot], depths: Range<usize>, block: &mut [T]) {
        let Patches { c, kw, .. } = self.patches;
        let line = kw * c;
        let mut depth = depths.start;
        while depth < depths.end {
            let (ky, from) = (depth / line, depth % line);
            // To the end of the patch's row where that is contiguous, otherwise to the end of a pixel.
            let left = if self.source.pitch == c { line - from } else { c - from % c };
            let run = Run { ky, from, count: left.min(depths.end - depth) };
            vectorised(|| self.run(spots, run, &mut block[depth - depths.start..]));
            depth += run.count;
        }
    }

    #[inline(always)]
    pub(super) fn run<T: Lane>(&self, spots: &[Spot], Run { ky, from, count }: Run, block: &mut [T]) {
        let Patches { h, w, c, step, .. } = self.patches;
        let pitch = self.source.pitch;
        // Floats of a row of the source as the run counts them, and where in it the run starts for column 0.
        let (kx, channel) = if pitch == c { (0, from) } else { (from / c, from % c) };
        let (width, first) = ((w * c) as isize, (self.patches.x + kx as isize) * c as isize + channel as isize);
        for (spot, patch) in spots.iter().zip(block.chunks_mut(T::PITCH)) {
            let to = &mut patch[..count];
            let y = (spot.row * step + ky) as isize + self.patches.y;
            let start = (spot.column * step * c) as isize + first;
            if y < 0 || y >= h as isize {
                to.fill(T::of(0.0));
                continue;
            }
            let row = (spot.image * h + y as usize) * w;
            if start >= 0 && start + count as isize <= width {
                let at = if pitch == c {
                    row * c + start as usize
                } else {
                    (row + (spot.column * step + kx).wrapping_add_signed(self.patches.x)) * pitch + channel
                };
                self.copy(&self.source.data[at..], from, to);
                continue;
            }
            // Partly outside; whole pixels are, so that a run within one is out altogether.
            let inside = (-start).clamp(0, count as isize) as usize..(width - start).clamp(0, count as isize) as usize;
            to.fill(T::of(0.0));
            if !inside.is_empty() {
                let at = row * c + (start + inside.start as isize) as usize;
                self.copy(&self.source.data[at..], from + inside.start, &mut to[inside]);
            }
        }
    }

    /// Copies from the source into a patch's row, from its float `at` on.
    #[inline(always)]
    pub(super) fn copy<T: Lane>(&self, source: &[f32], at: usize, to: &mut [T]) {
        let source = &source[..to.len()];
        if self.scale.is_empty() {
            to.iter_mut().zip(source).for_each(|(to, x)| *to = T::of(*x));
            return;
        }
        let (scale, shift) = (&self.scale[at..][..to.len()], &self.shift[at..][..to.len()]);
        for ((to, x), (scale, shift)) in to.iter_mut().zip(source).zip(scale.iter().zip(shift)) {
            *to = T::of(at_least(x * scale + shift, self.floor));
        }
    }
}

/// Floats that lie side by side in a patch and in the source.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Row of the patch.
    pub(super) ky: usize,
    /// The first, counted from the start of that row.
    pub(super) from: usize,
    pub(super) count: usize,
}
