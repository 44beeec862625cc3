//! Copying patches into blocks, with the prologue applied.

use std::ops::Range;

use super::geometry::Geometry;
use crate::kernel::{
    dispatch::{Job, Rows, dispatch, dispatch_parts},
    element::Element,
    form::{Form, HALF_PARTS, HALVES, HIGH, HIGH_PARTS, LOW, LOW_PARTS, PAIR_PARTS, PAIRS},
    operands::{PARTS, PITCH},
    prologue::Source,
    vector::Convert,
};

/// The patches of a pass: the source they are cut from, and where.
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
    /// Where the first patch starts. Pixels outside the source are zero.
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

    /// The single pixels of the convolution's output.
    pub(super) fn of_output(g: &Geometry) -> Patches {
        let Geometry { n, co, oh, ow, .. } = *g;
        Patches { n, h: oh, w: ow, c: co, kh: 1, kw: 1, step: 1, y: 0, x: 0, grid_h: oh, grid_w: ow }
    }

    pub(super) fn pixels(&self) -> usize {
        self.n * self.grid_h * self.grid_w
    }

    /// Values in a patch.
    pub(super) fn depth(&self) -> usize {
        self.kh * self.kw * self.c
    }

    /// The places in the grid of a range of patches.
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

/// Copies patches into blocks.
pub(super) struct Gather<'a, T> {
    pub(super) patches: Patches,
    pub(super) source: Source<'a, T>,
    /// The source's prologue, repeated along a row of a patch; empty if there is none.
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) floor: f32,
}

impl<'a, T: Element> Gather<'a, T> {
    pub(super) fn new(patches: Patches, source: Source<'a, T>) -> Self {
        let row = |channels: &[f32]| channels.repeat(patches.kw);
        let (scale, shift, floor) = match &source.prologue {
            Some(prologue) => (row(prologue.scale), row(prologue.shift), prologue.floor()),
            None => (Vec::new(), Vec::new(), 0.0),
        };
        Gather { patches, source, scale, shift, floor }
    }

    /// Copies the values `depths` of the patches at `spots` into the rows of `block`, [`PITCH`] floats each; where the form
    /// has parts, these are `part` floats apart.
    pub(super) fn block(&self, spots: &[Spot], depths: Range<usize>, (form, part): (Form, usize), block: &mut [f32]) {
        let Patches { c, kw, .. } = self.patches;
        let line = kw * c;
        let mut depth = depths.start;
        while depth < depths.end {
            let (ky, from) = (depth / line, depth % line);
            // A run ends with the patch's row if that is contiguous, otherwise with the pixel.
            let left = if self.source.pitch == c { line - from } else { c - from % c };
            let run = Run { ky, from, count: left.min(depths.end - depth) };
            self.run((form, part), spots, run, block, depth - depths.start);
            depth += run.count;
        }
    }

    /// Copies a run of every patch to element `at` of the rows.
    fn run(&self, (form, part): (Form, usize), spots: &[Spot], run: Run, block: &mut [f32], at: usize) {
        let pairs = matches!(form, Form::Pairs | Form::PairParts);
        let rows = if pairs { spots.len().div_ceil(2) } else { spots.len() };
        let parted = matches!(form, Form::HalfParts | Form::PairParts);
        let values = at + run.count;
        let floats = if matches!(form, Form::Halves | Form::HalfParts) { values.div_ceil(2) } else { values };
        // Parts are behind one another in a row, or in blocks of their own. A single row may be longer than others.
        let room = if parted { part } else { PITCH };
        assert!(floats <= room.min(PITCH) || rows <= 1 && (!parted || floats <= part));
        let last = rows.saturating_sub(1) * PITCH + if parted { (PARTS - 1) * part } else { 0 };
        assert!(last + floats <= block.len());
        let job = Copy { gather: self, spots, run, block: block.as_mut_ptr(), at, part };
        if parted {
            // SAFETY: as below.
            return unsafe { dispatch_parts(form, &job) };
        }
        // SAFETY: `block` has enough rows, and a row room for the run, as just checked.
        unsafe { dispatch(form, &job) };
    }
}

/// Copies one run of several patches.
struct Copy<'a, T> {
    gather: &'a Gather<'a, T>,
    spots: &'a [Spot],
    run: Run,
    /// Rows of [`PITCH`] floats.
    block: *mut f32,
    at: usize,
    /// Floats from part to part, where the form has parts.
    part: usize,
}

impl<T: Element> Job for Copy<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Convert, const FORM: u8>(&self) {
        // SAFETY: `block` has a row for each patch (each two patches, as pairs), with room for the run from `at` on; the
        // caller promises that the CPU has `V`.
        unsafe {
            if FORM != PAIRS && FORM != PAIR_PARTS {
                for (row, spot) in self.spots.iter().enumerate() {
                    self.patch::<V, FORM>(*spot, self.block.add(row * PITCH));
                }
                return;
            }
            for (row, pair) in self.spots.chunks(2).enumerate() {
                let row = self.block.add(row * PITCH);
                let [low, high] = *pair else {
                    return self.low::<V, FORM>(pair[0], row);
                };
                match (self.inside(low), self.inside(high)) {
                    (Ok(low), Ok(high)) => self.copy_pairs::<V, FORM>(low, high, row),
                    _ => {
                        self.low::<V, FORM>(low, row);
                        if FORM == PAIRS {
                            self.patch::<V, HIGH>(high, row);
                        } else {
                            self.patch::<V, HIGH_PARTS>(high, row);
                        }
                    }
                }
            }
        }
    }
}

impl<T: Element> Copy<'_, T> {
    /// The first of two patches that are interleaved.
    ///
    /// # Safety
    /// As [`Copy::patch`].
    #[inline(always)]
    unsafe fn low<V: Convert, const FORM: u8>(&self, spot: Spot, row: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            if FORM == PAIRS {
                self.patch::<V, LOW>(spot, row);
            } else {
                self.patch::<V, LOW_PARTS>(spot, row);
            }
        }
    }

    /// The run of a patch in the source. If it is only partly inside: which part is, and where that starts in the source.
    #[inline(always)]
    fn inside(&self, spot: Spot) -> Result<&[T], (Range<usize>, usize)> {
        let Gather { patches, source, .. } = self.gather;
        let Patches { h, w, c, step, .. } = *patches;
        let Run { ky, from, count } = self.run;
        let pitch = source.pitch;
        let y = (spot.row * step + ky) as isize + patches.y;
        if y < 0 || y >= h as isize {
            return Err((0..0, 0));
        }
        // Where the run starts, in elements from the start of a row of the source without gaps.
        let (kx, channel) = if pitch == c { (0, from) } else { (from / c, from % c) };
        let width = (w * c) as isize;
        let start = ((spot.column * step + kx) as isize + patches.x) * c as isize + channel as isize;
        let line = (spot.image * h + y as usize) * w;
        if start >= 0 && start + count as isize <= width {
            let at = if pitch == c {
                line * c + start as usize
            } else {
                (line + (spot.column * step + kx).wrapping_add_signed(patches.x)) * pitch + channel
            };
            return Ok(&source.data[at..][..count]);
        }
        // Pixels are outside as a whole, so that a run within one pixel is outside as a whole.
        let inside = (-start).clamp(0, count as isize) as usize..(width - start).clamp(0, count as isize) as usize;
        let at = if inside.is_empty() { 0 } else { line * c + (start + inside.start as isize) as usize };
        Err((inside, at))
    }

    /// Copies the run of one patch to its row.
    ///
    /// # Safety
    /// The CPU has `V`, and the row has room.
    #[inline(always)]
    unsafe fn patch<V: Convert, const FORM: u8>(&self, spot: Spot, row: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.inside(spot) {
                Ok(source) => self.copy::<V, FORM>(source, self.run.from, row, self.at),
                Err((inside, at)) => {
                    Zeros { row, at: self.at, len: self.run.count, part: self.part }.run::<V, FORM>();
                    let source = &self.gather.source.data[at..][..inside.len()];
                    self.copy::<V, FORM>(source, self.run.from + inside.start, row, self.at + inside.start);
                }
            }
        }
    }

    /// Copies from the source to element `at` of a row; `from` is the first value's index in the patch's row.
    ///
    /// # Safety
    /// The CPU has `V`, and the row has room.
    #[inline(always)]
    unsafe fn copy<V: Convert, const FORM: u8>(&self, source: &[T], from: usize, row: *mut f32, at: usize) {
        if T::BF16 && FORM == HALVES && self.gather.scale.is_empty() {
            // SAFETY: an element is its bits; room is the caller's promise, and the row is no part of the source.
            return unsafe {
                std::ptr::copy_nonoverlapping(source.as_ptr().cast::<u16>(), row.cast::<u16>().add(at), source.len())
            };
        }
        let mut done = 0;
        // SAFETY: `done` stays below the length by a vector, then by one float; room is the caller's promise.
        unsafe {
            while FORM == HALF_PARTS && done + 2 * V::LANES <= source.len() {
                let next = self.gather.load::<V>(source, from, done + V::LANES);
                self.gather.load::<V>(source, from, done).store_half_parts(next, row, at + done, self.part);
                done += 2 * V::LANES;
            }
            while done + V::LANES <= source.len() {
                store::<V, FORM>(self.gather.load(source, from, done), row, at + done, self.part);
                done += V::LANES;
            }
            // The remaining elements as the last vector of the run, which overlaps the vector before it.
            if done > 0 && done < source.len() {
                done = source.len() - V::LANES;
                return store::<V, FORM>(self.gather.load(source, from, done), row, at + done, self.part);
            }
            while done < source.len() {
                store::<[f32; 1], FORM>(self.gather.load(source, from, done), row, at + done, self.part);
                done += 1;
            }
        }
    }

    /// As [`Copy::copy`], but interleaves two patches as pairs.
    ///
    /// # Safety
    /// The CPU has `V`, and the row has room.
    #[inline(always)]
    unsafe fn copy_pairs<V: Convert, const FORM: u8>(&self, low: &[T], high: &[T], row: *mut f32) {
        let len = low.len().min(high.len());
        let mut done = 0;
        // SAFETY: as in `copy`.
        unsafe {
            while done + V::LANES <= len {
                self.pair::<V, FORM>(low, high, done, row);
                done += V::LANES;
            }
            if done > 0 && done < len {
                return self.pair::<V, FORM>(low, high, len - V::LANES, row);
            }
            while done < len {
                self.pair::<[f32; 1], FORM>(low, high, done, row);
                done += 1;
            }
        }
    }

    /// A vector of each of two patches, from element `done` of both.
    ///
    /// # Safety
    /// As [`Gather::load`], and the row has room from `at + done` on.
    #[inline(always)]
    unsafe fn pair<V: Convert, const FORM: u8>(&self, low: &[T], high: &[T], done: usize, row: *mut f32) {
        let (gather, from, at) = (self.gather, self.run.from, self.at);
        // SAFETY: the caller's promise; an element of 16 bits is a bf16.
        unsafe {
            if FORM == PAIRS && T::BF16 && gather.scale.is_empty() {
                return V::pair_bf16(low.as_ptr().add(done).cast(), high.as_ptr().add(done).cast(), row, at + done);
            }
            let (low, high): (V, V) = (gather.load(low, from, done), gather.load(high, from, done));
            if FORM == PAIRS {
                low.store_pairs(high, row, at + done);
            } else {
                low.store_pair_parts(high, row, at + done, self.part);
            }
        }
    }
}

/// Writes a vector in a form that may have parts.
///
/// # Safety
/// As [`Convert::store_as`] and [`Convert::store_parts`].
#[inline(always)]
unsafe fn store<V: Convert, const FORM: u8>(v: V, row: *mut f32, at: usize, part: usize) {
    // SAFETY: the caller's promise.
    unsafe { if FORM < HALF_PARTS { v.store_as::<FORM>(row, at) } else { v.store_parts::<FORM>(row, at, part) } }
}

impl<T: Element> Gather<'_, T> {
    /// Loads a vector of the source and applies the prologue.
    ///
    /// # Safety
    /// The CPU has `V`, and the source has `V::LANES` elements from `done` on.
    #[inline(always)]
    unsafe fn load<V: Convert>(&self, source: &[T], from: usize, done: usize) -> V {
        // SAFETY: the caller's promise; `scale` and `shift` cover a row of a patch.
        unsafe {
            let x = T::load::<V>(source.as_ptr().add(done));
            if self.scale.is_empty() {
                return x;
            }
            let (scale, shift) = (&self.scale[from + done..][..V::LANES], &self.shift[from + done..][..V::LANES]);
            x.mul(V::load(scale.as_ptr())).add(V::load(shift.as_ptr())).at_least(V::splat(&self.floor))
        }
    }
}

/// Zeros for `len` elements of a row, from element `at` on.
struct Zeros {
    row: *mut f32,
    at: usize,
    len: usize,
    part: usize,
}

impl Rows for Zeros {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
        // SAFETY: the caller's promise; `Copy::patch` makes `Zeros` for rows with room.
        unsafe { store::<V, FORM>(V::zero(), self.row, self.at + at, self.part) };
    }
}

/// Values that are contiguous both in a patch and in the source.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Row of the patch.
    pub(super) ky: usize,
    /// Index of the first value in that row.
    pub(super) from: usize,
    pub(super) count: usize,
}
