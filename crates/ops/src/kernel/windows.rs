//! The maximum over windows and its gradient, in registers: a vector of channels at a time.

use std::mem::MaybeUninit;

use super::{
    Element,
    conv::Change,
    dispatch::{Form, Job, dispatch},
    vector::Leave,
};

/// A tap of a window, and the pixel that it meets.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    pub(crate) tap: usize,
    pub(crate) pixel: usize,
}

/// For every place along one axis, the taps that meet a pixel.
pub(crate) struct Taps {
    all: Vec<Tap>,
    /// Where those of a place end.
    ends: Vec<usize>,
}

impl Taps {
    pub(crate) fn new<I: Iterator<Item = (usize, usize)>>(places: usize, taps: impl Fn(usize) -> I) -> Taps {
        let (mut all, mut ends) = (Vec::new(), Vec::with_capacity(places));
        for place in 0..places {
            all.extend(taps(place).map(|(tap, pixel)| Tap { tap, pixel }));
            ends.push(all.len());
        }
        Taps { all, ends }
    }

    #[inline(always)]
    pub(crate) fn at(&self, place: usize) -> &[Tap] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.all[start..self.ends[place]]
    }
}

/// What one row of results is made from.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Taps and rows of the source, counted from the first pixel of `x`.
    pub(crate) rows: &'a [Tap],
    /// Taps and columns, for every pixel of the row.
    pub(crate) columns: &'a Taps,
    /// Pixels of a row of the source.
    pub(crate) width: usize,
    /// Taps of a row of the window.
    pub(crate) k: usize,
    pub(crate) channels: usize,
}

/// The first of the largest values of each window, of `x` changed on the way in, and its tap; not a number is larger than
/// any. Pixels of `x` are `pitch` apart.
pub(crate) fn largest<T: Element>(
    row: Row,
    x: &[T],
    pitch: usize,
    change: Change,
    y: &mut [MaybeUninit<T>],
    index: &mut [u8],
) {
    let c = row.channels;
    assert!(c > 0 && pitch >= c && y.len() == index.len() && y.len() == row.columns.ends.len() * c);
    assert!(change.scale.len() == c && change.shift.len() == c);
    check(row, x.len(), pitch);
    assert!(!row.rows.is_empty() && (0..row.columns.ends.len()).all(|at| !row.columns.at(at).is_empty()));
    let job = Largest { row, x, pitch, change, y: y.as_mut_ptr().cast(), index: index.as_mut_ptr() };
    // SAFETY: every tap's pixel is inside `x`, as just checked; `y` and `index` are as long as the row, and exclusive.
    unsafe { dispatch(if T::BF16 { Form::Halves } else { Form::Floats }, &job) }
}

/// For each pixel, the sum of the gradients `dy` of the windows that chose it: those of whose `index` is the tap.
pub(crate) fn chosen<T: Element>(row: Row, dy: &[T], index: &[u8], dx: &mut [MaybeUninit<T>]) {
    let c = row.channels;
    assert!(c > 0 && dy.len() == index.len() && dx.len() == row.columns.ends.len() * c);
    check(row, dy.len(), c);
    let job = Chosen { row, dy, index, dx: dx.as_mut_ptr().cast() };
    // SAFETY: as above.
    unsafe { dispatch(if T::BF16 { Form::Halves } else { Form::Floats }, &job) }
}

/// Whether every tap's pixel is inside the source, and its number a byte.
fn check(row: Row, len: usize, pitch: usize) {
    assert!(row.k <= 16);
    let most = |taps: &[Tap]| taps.iter().map(|tap| tap.pixel).max();
    assert!(row.columns.all.iter().all(|tap| tap.pixel < row.width));
    if let (Some(y), Some(x)) = (most(row.rows), most(&row.columns.all)) {
        assert!((y * row.width + x) * pitch + row.channels <= len);
    }
}

struct Largest<'a, T> {
    row: Row<'a>,
    x: &'a [T],
    pitch: usize,
    change: Change<'a>,
    y: *mut T,
    index: *mut u8,
}

struct Chosen<'a, T> {
    row: Row<'a>,
    dy: &'a [T],
    index: &'a [u8],
    dx: *mut T,
}

impl<T: Element> Job for Largest<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Leave, const FORM: u8>(&self) {
        let c = self.row.channels;
        for place in 0..self.row.columns.ends.len() {
            let columns = self.row.columns.at(place);
            let mut at = 0;
            // SAFETY: `at` stays below `c` by a vector, then by one element; the rest is the caller's promise.
            unsafe {
                while at + V::LANES <= c {
                    self.lanes::<V, FORM>(columns, place * c, at);
                    at += V::LANES;
                }
                while at < c {
                    self.lanes::<[f32; 1], FORM>(columns, place * c, at);
                    at += 1;
                }
            }
        }
    }
}

impl<T: Element> Largest<'_, T> {
    /// # Safety
    /// A vector of the pixels, from `at` on.
    #[inline(always)]
    unsafe fn lanes<V: Leave, const FORM: u8>(&self, columns: &[Tap], first: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = V::load(self.change.scale.as_ptr().add(at));
            let shift = V::load(self.change.shift.as_ptr().add(at));
            let floor = V::splat(&self.change.floor());
            let (mut most, mut index) = (V::zero(), V::zero());
            let mut empty = true;
            for row in self.row.rows {
                for column in columns {
                    let pixel = (row.pixel * self.row.width + column.pixel) * self.pitch;
                    let x = T::load::<V>(self.x.as_ptr().add(pixel + at)).mul(scale).add(shift).at_least(floor);
                    let tap = V::splat(&((row.tap * self.row.k + column.tap) as f32));
                    (most, index) = if empty { (x, tap) } else { most.larger(index, x, tap) };
                    empty = false;
                }
            }
            most.leave::<FORM>(self.y.add(first).cast(), at);
            index.leave_bytes(self.index.add(first + at));
        }
    }
}

impl<T: Element> Job for Chosen<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Leave, const FORM: u8>(&self) {
        let c = self.row.channels;
        for place in 0..self.row.columns.ends.len() {
            let columns = self.row.columns.at(place);
            let mut at = 0;
            // SAFETY: as above.
            unsafe {
                while at + V::LANES <= c {
                    self.lanes::<V, FORM>(columns, place * c, at);
                    at += V::LANES;
                }
                while at < c {
                    self.lanes::<[f32; 1], FORM>(columns, place * c, at);
                    at += 1;
                }
            }
        }
    }
}

impl<T: Element> Chosen<'_, T> {
    /// # Safety
    /// A vector of the pixels, from `at` on.
    #[inline(always)]
    unsafe fn lanes<V: Leave, const FORM: u8>(&self, columns: &[Tap], first: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sum = V::zero();
            for row in self.row.rows {
                for column in columns {
                    let from = (row.pixel * self.row.width + column.pixel) * self.row.channels + at;
                    let tap = V::splat(&((row.tap * self.row.k + column.tap) as f32));
                    let dy: V = T::load(self.dy.as_ptr().add(from));
                    sum = sum.add(dy.where_equal(V::load_bytes(self.index.as_ptr().add(from)), tap));
                }
            }
            sum.leave::<FORM>(self.dx.add(first).cast(), at);
        }
    }
}
