//! Copying patches into blocks, changed on the way.

use std::ops::Range;

use super::{Geometry, Source};
use crate::kernel::{
    dispatch::{Form, Job, dispatch},
    tile::PITCH,
    vector::{Leave, Vector},
};

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

    /// The pixels of what the convolution gives, one by one.
    pub(super) fn of_output(g: &Geometry) -> Patches {
        let Geometry { n, co, oh, ow, .. } = *g;
        Patches { n, h: oh, w: ow, c: co, kh: 1, kw: 1, step: 1, y: 0, x: 0, grid_h: oh, grid_w: ow }
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

/// What the rows of a block hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// A patch each.
    Floats,
    /// A patch each, in bf16: [`PITCH`] floats have room for twice as many.
    Halves,
    /// Two patches each, in pairs of bf16.
    Pairs,
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

    /// Copies the floats `depths` of the patches at `spots` into the rows of `block`, [`PITCH`] floats each.
    pub(super) fn block(&self, spots: &[Spot], depths: Range<usize>, rows: Rows, block: &mut [f32]) {
        let Patches { c, kw, .. } = self.patches;
        let line = kw * c;
        let mut depth = depths.start;
        while depth < depths.end {
            let (ky, from) = (depth / line, depth % line);
            // To the end of the patch's row where that is contiguous, otherwise to the end of a pixel.
            let left = if self.source.pitch == c { line - from } else { c - from % c };
            let run = Run { ky, from, count: left.min(depths.end - depth) };
            let at = depth - depths.start;
            match rows {
                Rows::Floats => self.run(Form::Floats, spots, (0, 1), run, block, at),
                Rows::Halves => self.run(Form::Halves, spots, (0, 1), run, block, at),
                Rows::Pairs => {
                    self.run(Form::Low, spots, (0, 2), run, block, at);
                    self.run(Form::High, spots, (1, 2), run, block, at);
                }
            }
            depth += run.count;
        }
    }

    /// Copies a run of every patch of `spots` from `first` on, `step` apart, to the element `at` of a row each.
    fn run(&self, form: Form, spots: &[Spot], (first, step): (usize, usize), run: Run, block: &mut [f32], at: usize) {
        assert!(spots.len().saturating_sub(first).div_ceil(step) * PITCH <= block.len());
        assert!(at + run.count <= form.room(PITCH));
        let job = Copy { gather: self, spots, first, step, run, block: block.as_mut_ptr(), at };
        // SAFETY: `block` has a row for each patch, and a row room for the run, as just checked.
        unsafe { dispatch(form, &job) };
    }
}

/// Copying a run of several patches.
struct Copy<'a> {
    gather: &'a Gather<'a>,
    spots: &'a [Spot],
    first: usize,
    step: usize,
    run: Run,
    /// Rows of [`PITCH`] floats.
    block: *mut f32,
    at: usize,
}

impl Job for Copy<'_> {
    #[inline(always)]
    unsafe fn run<V: Leave, const FORM: u8>(&self) {
        let Gather { patches, source, .. } = self.gather;
        let Patches { h, w, c, step, .. } = *patches;
        let Run { ky, from, count } = self.run;
        let pitch = source.pitch;
        // Floats of a row of the source as the run counts them, and where in it the run starts for column 0.
        let (kx, channel) = if pitch == c { (0, from) } else { (from / c, from % c) };
        let (width, first) = ((w * c) as isize, (patches.x + kx as isize) * c as isize + channel as isize);
        for (row, spot) in self.spots.iter().skip(self.first).step_by(self.step).enumerate() {
            // SAFETY: `block` has a row for each of these patches, with room for `count` elements from `at` on.
            unsafe {
                let to = self.block.add(row * PITCH);
                let y = (spot.row * step + ky) as isize + patches.y;
                let start = (spot.column * step * c) as isize + first;
                if y < 0 || y >= h as isize {
                    clear::<V, FORM>(to, self.at, count);
                    continue;
                }
                let line = (spot.image * h + y as usize) * w;
                if start >= 0 && start + count as isize <= width {
                    let at = if pitch == c {
                        line * c + start as usize
                    } else {
                        (line + (spot.column * step + kx).wrapping_add_signed(patches.x)) * pitch + channel
                    };
                    self.gather.copy::<V, FORM>(&source.data[at..][..count], from, to, self.at);
                    continue;
                }
                // Partly outside; whole pixels are, so that a run within one is out altogether.
                let inside =
                    (-start).clamp(0, count as isize) as usize..(width - start).clamp(0, count as isize) as usize;
                clear::<V, FORM>(to, self.at, count);
                if !inside.is_empty() {
                    let at = line * c + (start + inside.start as isize) as usize;
                    let source = &source.data[at..][..inside.len()];
                    self.gather.copy::<V, FORM>(source, from + inside.start, to, self.at + inside.start);
                }
            }
        }
    }
}

impl Gather<'_> {
    /// Copies from the source to the element `at` of a row; `from` is the patch's row's float that comes first.
    ///
    /// # Safety
    /// The CPU has `V`, and the row has room.
    #[inline(always)]
    unsafe fn copy<V: Leave, const FORM: u8>(&self, source: &[f32], from: usize, row: *mut f32, at: usize) {
        let mut done = 0;
        // SAFETY: `done` stays below the length by a vector, then by one float; room is the caller's promise.
        unsafe {
            while done + V::LANES <= source.len() {
                self.changed::<V>(source, from, done).leave::<FORM>(row, at + done);
                done += V::LANES;
            }
            while done < source.len() {
                self.changed::<[f32; 1]>(source, from, done).leave::<FORM>(row, at + done);
                done += 1;
            }
        }
    }

    /// A vector of the source, changed.
    ///
    /// # Safety
    /// The CPU has `V`, and there is one at `done`.
    #[inline(always)]
    unsafe fn changed<V: Leave>(&self, source: &[f32], from: usize, done: usize) -> V {
        // SAFETY: the caller's promise; `scale` and `shift` cover a row of a patch.
        unsafe {
            let x = V::load(source.as_ptr().add(done));
            if self.scale.is_empty() {
                return x;
            }
            let (scale, shift) = (&self.scale[from + done..][..V::LANES], &self.shift[from + done..][..V::LANES]);
            x.mul(V::load(scale.as_ptr())).add(V::load(shift.as_ptr())).at_least(V::splat(&self.floor))
        }
    }
}

/// Zeros in a row, from the element `at` on.
///
/// # Safety
/// The CPU has `V`, and the row has room.
#[inline(always)]
unsafe fn clear<V: Leave, const FORM: u8>(row: *mut f32, at: usize, count: usize) {
    let mut done = 0;
    // SAFETY: as in `Gather::copy`.
    unsafe {
        while done + V::LANES <= count {
            V::zero().leave::<FORM>(row, at + done);
            done += V::LANES;
        }
        while done < count {
            <[f32; 1]>::zero().leave::<FORM>(row, at + done);
            done += 1;
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
