//! The transforms of a tile, a vector of channels at a time.

use crate::kernel::{
    dispatch::{Rows, dispatch},
    element::Element,
    form::Form,
    prologue::Prologue,
    vector::Convert,
};

/// Points of a transformed tile.
pub(super) const POINTS: usize = 16;

/// Writes `B' d B` of the 16 pixels of a tile, `len` channels each, after the prologue. Pixels outside the image are zero;
/// the prologue does not apply to them. The points are rows `step` floats apart.
#[inline]
pub(super) fn input<T: Element>(
    form: Form,
    pixels: [Option<&[T]>; POINTS],
    len: usize,
    prologue: Option<Prologue>,
    to: &mut [f32],
    step: usize,
) {
    assert!(pixels.iter().flatten().all(|pixel| pixel.len() == len));
    check(form, len, to, step);
    assert!(prologue.is_none_or(|prologue| prologue.scale.len() == len && prologue.shift.len() == len));
    let job = Input { pixels: pixels.map(start), prologue, len, to: to.as_mut_ptr(), step };
    // SAFETY: the slices are as long as just checked, and `to` is exclusive.
    unsafe { dispatch(form, &job) }
}

/// Writes `A dy A'` of the 4 pixels of a tile, as [`input`] does.
#[inline]
pub(super) fn spread<T: Element>(form: Form, pixels: [Option<&[T]>; 4], len: usize, to: &mut [f32], step: usize) {
    assert!(pixels.iter().flatten().all(|pixel| pixel.len() == len));
    check(form, len, to, step);
    let job = Spread { pixels: pixels.map(start), len, to: to.as_mut_ptr(), step };
    // SAFETY: as in `input`.
    unsafe { dispatch(form, &job) }
}

/// The address of a pixel; null if it is outside the image.
fn start<T>(pixel: Option<&[T]>) -> *const T {
    pixel.map_or(std::ptr::null(), <[T]>::as_ptr)
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
