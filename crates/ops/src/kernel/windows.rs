//! Max pooling and its gradient, a vector of channels at a time.

use std::mem::MaybeUninit;

use super::{
    dispatch::{Rows, dispatch},
    element::Element,
    form::Form,
    prologue::Prologue,
    vector::Convert,
};

/// A tap of a window, and the pixel under it.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    pub(crate) tap: usize,
    pub(crate) pixel: usize,
}

/// For every position along one axis, the taps of its window with a pixel under them.
pub(crate) struct Taps {
    all: Vec<Tap>,
    /// For each position, where its taps end in `all`.
    ends: Vec<usize>,
}

impl Taps {
    pub(crate) fn new<I: Iterator<Item = (usize, usize)>>(positions: usize, taps: impl Fn(usize) -> I) -> Taps {
        let (mut all, mut ends) = (Vec::new(), Vec::with_capacity(positions));
        for position in 0..positions {
            all.extend(taps(position).map(|(tap, pixel)| Tap { tap, pixel }));
            ends.push(all.len());
        }
        Taps { all, ends }
    }

    #[inline(always)]
    pub(crate) fn at(&self, position: usize) -> &[Tap] {
        let start = if position == 0 { 0 } else { self.ends[position - 1] };
        &self.all[start..self.ends[position]]
    }
}

/// The windows of one row of results.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Taps along the height, with the rows of the source under them.
    pub(crate) rows: &'a [Tap],
    /// Taps along the width, for every pixel of the row of results.
    pub(crate) columns: &'a Taps,
    /// Pixels in a row of the source.
    pub(crate) width: usize,
    /// Taps in a row of the window.
    pub(crate) k: usize,
    pub(crate) channels: usize,
}

/// The largest value of each window of `x`, after its prologue, and the tap of that value (the first of equals). NaN is
/// larger than any number. Pixels of `x` are `pitch` apart.
pub(crate) fn largest<T: Element>(
    row: Row,
    x: &[T],
    pitch: usize,
    prologue: Prologue,
    y: &mut [MaybeUninit<T>],
    index: &mut [u8],
) {
    let c = row.channels;
    assert!(c > 0 && pitch >= c && y.len() == index.len() && y.len() == row.columns.ends.len() * c);
    assert!(prologue.scale.len() == c && prologue.shift.len() == c);
    check(row, x.len(), pitch);
    assert!(!row.rows.is_empty() && (0..row.columns.ends.len()).all(|at| !row.columns.at(at).is_empty()));
    let job = Largest { row, x, pitch, prologue, y: y.as_mut_ptr().cast(), index: index.as_mut_ptr() };
    // SAFETY: every tap's pixel is inside `x`, as just checked; `y` and `index` are exclusive and as long as the row.
    unsafe { dispatch(Form::of::<T>(), &job) }
}

/// For each pixel, the sum of the gradients `dy` of the windows whose maximum it is: whose `index` is the pixel's tap.
pub(crate) fn chosen<T: Element>(row: Row, dy: &[T], index: &[u8], dx: &mut [MaybeUninit<T>]) {
    let c = row.channels;
    assert!(c > 0 && dy.len() == index.len() && dx.len() == row.columns.ends.len() * c);
    check(row, dy.len(), c);
    let job = Chosen { row, dy, index, dx: dx.as_mut_ptr().cast() };
    // SAFETY: as above.
    unsafe { dispatch(Form::of::<T>(), &job) }
}

/// Panics unless every tap's pixel is inside the source and a tap's number fits into a byte.
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
    prologue: Prologue<'a>,
    y: *mut T,
    index: *mut u8,
}

struct Chosen<'a, T> {
    row: Row<'a>,
    dy: &'a [T],
    index: &'a [u8],
    dx: *mut T,
}

impl<T: Element> Rows for Largest<'_, T> {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.row.columns.ends.len()
    }
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.row.channels
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, position: usize, at: usize) {
        let (columns, first) = (self.row.columns.at(position), position * self.row.channels);
        // SAFETY: the caller's promise.
        unsafe {
            let scale = V::load(self.prologue.scale.as_ptr().add(at));
            let shift = V::load(self.prologue.shift.as_ptr().add(at));
            let floor = V::splat(&self.prologue.floor());
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
            most.store_as::<FORM>(self.y.add(first).cast(), at);
            index.store_bytes(self.index.add(first + at));
        }
    }
}

impl<T: Element> Rows for Chosen<'_, T> {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.row.columns.ends.len()
    }
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.row.channels
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, position: usize, at: usize) {
        let (columns, first) = (self.row.columns.at(position), position * self.row.channels);
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
            sum.store_as::<FORM>(self.dx.add(first).cast(), at);
        }
    }
}
