//! The transforms of a tile, a vector of channels at a time.

use std::mem::MaybeUninit;

use crate::kernel::{
    conv::shared::Shared,
    dispatch::{Rows, dispatch},
    element::Element,
    form::{FLOATS, Form},
    prologue::Prologue,
    vector::Convert,
};

/// Points of a transformed tile.
pub(super) const POINTS: usize = 16;

/// Where a pixel is that is outside the image.
pub(super) const OUTSIDE: usize = usize::MAX;

/// Writes `B' d B` of the 16 pixels of a tile, `len` channels each from where they are in `data`, after the prologue. Pixels
/// [`OUTSIDE`] the image are zero; the prologue does not apply to them. The points are rows `step` floats apart.
#[inline]
pub(super) fn input<T: Element>(
    form: Form,
    (data, pixels): (&[T], [usize; POINTS]),
    len: usize,
    prologue: Option<Prologue>,
    to: &mut [f32],
    step: usize,
) {
    check(form, len, to, step);
    assert!(prologue.is_none_or(|prologue| prologue.scale.len() == len && prologue.shift.len() == len));
    let job = Input { pixels: starts(data, pixels, len), prologue, len, to: to.as_mut_ptr(), step };
    // SAFETY: the slices are as long as just checked, and `to` is exclusive.
    unsafe { dispatch(form, &job) }
}

/// Writes `A dy A'` of the 4 pixels of a tile, as [`input`] does.
#[inline]
pub(super) fn spread<T: Element>(
    form: Form,
    (data, pixels): (&[T], [usize; 4]),
    len: usize,
    to: &mut [f32],
    step: usize,
) {
    check(form, len, to, step);
    let job = Spread { pixels: starts(data, pixels, len), len, to: to.as_mut_ptr(), step };
    // SAFETY: as in `input`.
    unsafe { dispatch(form, &job) }
}

/// The addresses of pixels of `len` channels; null if they are outside the image. Panics unless the others are inside `data`.
#[inline(always)]
fn starts<T, const N: usize>(data: &[T], pixels: [usize; N], len: usize) -> [*const T; N] {
    let mut starts = [std::ptr::null(); N];
    for (start, at) in starts.iter_mut().zip(pixels) {
        if at != OUTSIDE {
            *start = data[at..][..len].as_ptr();
        }
    }
    starts
}

/// Loads a vector of a pixel; zeros if the pixel is outside the image.
///
/// # Safety
/// The CPU has `V`; the pixel is null or has `V::LANES` channels from `at` on.
#[inline(always)]
unsafe fn load<T: Element, V: Convert>(pixel: *const T, at: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if pixel.is_null() { V::zero() } else { T::load(pixel.add(at)) } }
}

/// Panics unless `to` has room for `len` elements of each point.
fn check(form: Form, len: usize, to: &[f32], step: usize) {
    assert!(len <= form.capacity(step) && len <= form.capacity(to.len().saturating_sub((POINTS - 1) * step)));
}

/// Writes `A' m A` of the points of a tile, `step` floats apart in `points`, to its 4 pixels of `width` channels.
#[inline]
pub(super) fn output(points: &[f32], step: usize, width: usize, pixels: &mut [f32]) {
    assert!(step >= width && points.len() >= (POINTS - 1) * step + width && pixels.len() >= 4 * width);
    let job = Output { points: points.as_ptr(), step, len: width, to: pixels.as_mut_ptr() };
    // SAFETY: as in `input`.
    unsafe { dispatch(Form::Floats, &job) }
}

/// Filters to be transformed: `rows` values of `k`, `lanes` channels each.
pub(super) struct Taps<'a> {
    /// Each tap of the first `k`.
    pub(super) taps: [&'a [f32]; 9],
    /// Floats from one `k` to the next.
    pub(super) pitch: usize,
    pub(super) rows: usize,
    pub(super) lanes: usize,
}

/// Writes `G g G'`. The points are `step` floats apart in `to`, and have a row of `width` floats for each `k`, or for two of
/// them, of [`Form::Pairs`].
pub(super) fn filters(form: Form, from: &Taps, (step, width): (usize, usize), to: &mut [MaybeUninit<f32>]) {
    let Taps { taps, pitch, rows, lanes } = *from;
    let steps = if form == Form::Pairs { rows.div_ceil(2) } else { rows };
    assert!(matches!(form, Form::Floats | Form::Pairs) && rows > 0 && lanes <= width);
    assert!(taps.iter().all(|tap| (rows - 1) * pitch + lanes <= tap.len()));
    assert!((POINTS - 1) * step + steps * width <= to.len());
    let job = Filter {
        taps: taps.map(<[f32]>::as_ptr),
        pitch,
        count: rows,
        rows: steps,
        lanes,
        step,
        width,
        to: to.as_mut_ptr().cast(),
    };
    // SAFETY: as in `input`; only values are written.
    unsafe { dispatch(form, &job) }
}

/// Writes `G' m G` of rows of points, `step` floats apart in `points`, rows `pitch` apart: taps of `len` channels, those of
/// each row `9 out_pitch` floats apart in `to`.
///
/// # Safety
/// No other task uses these channels of `to`.
pub(super) unsafe fn gather(
    (points, step, pitch): (&[f32], usize, usize),
    rows: usize,
    len: usize,
    (to, at, out_pitch): (Shared<f32>, usize, usize),
) {
    assert!(rows > 0 && (POINTS - 1) * step + (rows - 1) * pitch + len <= points.len());
    assert!(at + (9 * rows - 1) * out_pitch + len <= to.len());
    // SAFETY: within the memory, as just checked.
    let to = unsafe { to.start().add(at) };
    let job = GatherTaps { points: points.as_ptr(), step, pitch, rows, len, to, out_pitch };
    // SAFETY: as in `input`; the caller promises that `to` is exclusive.
    unsafe { dispatch(Form::Floats, &job) }
}

struct Filter {
    taps: [*const f32; 9],
    pitch: usize,
    /// Values of `k`.
    count: usize,
    rows: usize,
    lanes: usize,
    step: usize,
    width: usize,
    to: *mut f32,
}

impl Filter {
    /// The points of one `k`.
    ///
    /// # Safety
    /// As [`Rows::vector`].
    #[inline(always)]
    unsafe fn points<V: Convert>(&self, k: usize, at: usize) -> [V; POINTS] {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut half, mut points) = ([V::zero(); 12], [V::zero(); POINTS]);
            let by = V::splat(&0.5);
            let at = k * self.pitch + at;
            for row in 0..3 {
                let a = V::load(self.taps[3 * row].add(at));
                let b = V::load(self.taps[3 * row + 1].add(at)).mul(by);
                let c = V::load(self.taps[3 * row + 2].add(at));
                let sum = a.add(c).mul(by);
                (half[4 * row], half[4 * row + 1], half[4 * row + 2], half[4 * row + 3]) =
                    (a, sum.add(b), sum.sub(b), c);
            }
            for column in 0..4 {
                let (a, b, c) = (half[column], half[4 + column].mul(by), half[8 + column]);
                let sum = a.add(c).mul(by);
                (points[column], points[4 + column]) = (a, sum.add(b));
                (points[8 + column], points[12 + column]) = (sum.sub(b), c);
            }
            points
        }
    }
}

impl Rows for Filter {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.lanes
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, row: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let to = self.to.add(row * self.width);
            if FORM == FLOATS {
                let points: [V; POINTS] = self.points(row, at);
                for (point, values) in points.into_iter().enumerate() {
                    values.store(to.add(point * self.step + at));
                }
                return;
            }
            let low: [V; POINTS] = self.points(2 * row, at);
            let high = if 2 * row + 1 < self.count { self.points(2 * row + 1, at) } else { [V::zero(); POINTS] };
            for (point, (low, high)) in low.into_iter().zip(high).enumerate() {
                low.store_pairs(high, to.add(point * self.step), at);
            }
        }
    }
}

struct GatherTaps {
    points: *const f32,
    step: usize,
    pitch: usize,
    rows: usize,
    len: usize,
    to: *mut f32,
    out_pitch: usize,
}

impl Rows for GatherTaps {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, row: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (self.points.add(row * self.pitch + at), self.to.add(9 * row * self.out_pitch + at));
            let by = V::splat(&0.5);
            let mut half = [V::zero(); 12];
            for row in 0..4 {
                let from = from.add(4 * row * self.step);
                let (a, b) = (V::load(from), V::load(from.add(self.step)));
                let (c, d) = (V::load(from.add(2 * self.step)), V::load(from.add(3 * self.step)));
                let sum = b.add(c).mul(by);
                (half[3 * row], half[3 * row + 1], half[3 * row + 2]) = (a.add(sum), b.sub(c).mul(by), sum.add(d));
            }
            for column in 0..3 {
                let (a, b, c, d) = (half[column], half[3 + column], half[6 + column], half[9 + column]);
                let sum = b.add(c).mul(by);
                a.add(sum).store(to.add(column * self.out_pitch));
                b.sub(c).mul(by).store(to.add((3 + column) * self.out_pitch));
                sum.add(d).store(to.add((6 + column) * self.out_pitch));
            }
        }
    }
}

struct Input<'a, T> {
    pixels: [*const T; POINTS],
    prologue: Option<Prologue<'a>>,
    len: usize,
    to: *mut f32,
    step: usize,
}

struct Spread<T> {
    pixels: [*const T; 4],
    len: usize,
    to: *mut f32,
    step: usize,
}

struct Output {
    points: *const f32,
    step: usize,
    len: usize,
    to: *mut f32,
}

impl<T: Element> Rows for Input<'_, T> {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // No closures and no `map`: a function that is not inlined is compiled without the vector instructions.
            let mut d = [V::zero(); POINTS];
            match &self.prologue {
                None => {
                    for (d, pixel) in d.iter_mut().zip(&self.pixels) {
                        *d = load(*pixel, at);
                    }
                }
                Some(prologue) => {
                    let scale = V::load(prologue.scale.as_ptr().add(at));
                    let shift = V::load(prologue.shift.as_ptr().add(at));
                    let floor = V::splat(&prologue.floor());
                    for (d, pixel) in d.iter_mut().zip(&self.pixels) {
                        if !pixel.is_null() {
                            *d = T::load::<V>(pixel.add(at)).mul(scale).add(shift).at_least(floor);
                        }
                    }
                }
            }
            for row in 0..4 {
                let (a, b, c, e) = (d[4 * row], d[4 * row + 1], d[4 * row + 2], d[4 * row + 3]);
                d[4 * row] = a.sub(c);
                d[4 * row + 1] = b.add(c);
                d[4 * row + 2] = c.sub(b);
                d[4 * row + 3] = b.sub(e);
            }
            for column in 0..4 {
                let (a, b, c, e) = (d[column], d[4 + column], d[8 + column], d[12 + column]);
                let to = self.to.add(column * self.step);
                a.sub(c).store_as::<FORM>(to, at);
                b.add(c).store_as::<FORM>(to.add(4 * self.step), at);
                c.sub(b).store_as::<FORM>(to.add(8 * self.step), at);
                b.sub(e).store_as::<FORM>(to.add(12 * self.step), at);
            }
        }
    }
}

impl<T: Element> Rows for Spread<T> {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c, d] = self.pixels;
            let (a, b, c, d): (V, V, V, V) = (load(a, at), load(b, at), load(c, at), load(d, at));
            let zero = V::zero();
            // First along the rows, then along the columns.
            let above = [a, a.add(b), a.sub(b), zero.sub(b)];
            let below = [c, c.add(d), c.sub(d), zero.sub(d)];
            for column in 0..4 {
                let (a, b) = (above[column], below[column]);
                let to = self.to.add(column * self.step);
                a.store_as::<FORM>(to, at);
                a.add(b).store_as::<FORM>(to.add(4 * self.step), at);
                a.sub(b).store_as::<FORM>(to.add(8 * self.step), at);
                zero.sub(b).store_as::<FORM>(to.add(12 * self.step), at);
            }
        }
    }
}

impl Rows for Output {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut half = [[V::zero(); 2]; 4];
            for (row, half) in half.iter_mut().enumerate() {
                let from = self.points.add(4 * row * self.step + at);
                let (a, b) = (V::load(from), V::load(from.add(self.step)));
                let (c, d) = (V::load(from.add(2 * self.step)), V::load(from.add(3 * self.step)));
                *half = [a.add(b).add(c), b.sub(c).sub(d)];
            }
            let [above, upper, lower, below] = half;
            for column in 0..2 {
                let (a, b, c, d) = (above[column], upper[column], lower[column], below[column]);
                a.add(b).add(c).store(self.to.add(column * self.len + at));
                b.sub(c).sub(d).store(self.to.add((2 + column) * self.len + at));
            }
        }
    }
}
