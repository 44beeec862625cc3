//! Element-wise passes over pixels, a vector of channels at a time.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{
    dispatch::{Job, Rows, dispatch, for_each_vector},
    element::{Element, past_caches},
    form::Form,
    prologue::{Prologue, Source},
    vector::{Convert, fence},
};
use crate::buffer;

/// About how many elements a parallel task of an element-wise pass gets: 256 KiB.
pub(crate) const TASK: usize = 64 << 10;

/// Elements per parallel task, in whole pixels of `c` channels.
pub(crate) fn rows_per_task(c: usize) -> usize {
    (TASK / c).max(1) * c
}

/// The sum of two sources of `c` channels without gaps, followed by a ReLU if `relu`.
pub(crate) fn sum<T: Element>(c: usize, x: Source<T>, residual: Option<Source<T>>, relu: bool) -> Vec<T> {
    let task = rows_per_task(c);
    let (ones, zeros) = (vec![1.0; c], vec![0.0; c]);
    let none = Prologue { scale: &ones, shift: &zeros, relu: false };
    let past_caches = past_caches::<T>(x.data.len());
    let pass = |y: &mut [MaybeUninit<T>]| {
        y.par_chunks_mut(task).enumerate().for_each(|(index, y)| {
            let within = index * task..index * task + y.len();
            let residual = residual.map(|other| (&other.data[within.clone()], other.prologue.unwrap_or(none)));
            sum_to(&x.data[within], x.prologue.unwrap_or(none), residual, relu, y, past_caches);
        });
    };
    // SAFETY: the chunks tile `y`, whose length is a whole number of rows, and `sum_to` writes every element.
    unsafe { buffer::filled(x.data.len(), pass) }
}

/// Writes `x + residual` to `y`, each with its prologue, with a ReLU after the sum if `relu`. All have one length and no
/// gaps between pixels.
fn sum_to<T: Element>(
    x: &[T],
    prologue: Prologue,
    residual: Option<(&[T], Prologue)>,
    relu: bool,
    y: &mut [MaybeUninit<T>],
    past_caches: bool,
) {
    let c = prologue.scale.len();
    assert!(prologue.shift.len() == c && c > 0 && x.len() == y.len() && x.len().is_multiple_of(c));
    if let Some((residual, prologue)) = residual {
        assert!(residual.len() == x.len() && prologue.scale.len() == c && prologue.shift.len() == c);
    }
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let job = Sum { x, prologue, residual, floor, y: y.as_mut_ptr().cast(), past_caches };
    // SAFETY: the slices are as long as just checked, and `y` is exclusive.
    unsafe { dispatch(Form::of::<T>(), &job) }
    if past_caches {
        fence();
    }
}

struct Sum<'a, T> {
    x: &'a [T],
    prologue: Prologue<'a>,
    residual: Option<(&'a [T], Prologue<'a>)>,
    floor: f32,
    y: *mut T,
    past_caches: bool,
}

impl<T: Element> Rows for Sum<'_, T> {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.x.len() / self.row_len()
    }
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.prologue.scale.len()
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, row: usize, at: usize) {
        let first = row * self.row_len();
        // SAFETY: the caller's promise.
        unsafe {
            let mut sum = load::<T, V>(self.x.as_ptr().add(first + at), &self.prologue, at);
            if let Some((residual, prologue)) = &self.residual {
                sum = sum.add(load::<T, V>(residual.as_ptr().add(first + at), prologue, at));
            }
            let sum = sum.at_least(V::splat(&self.floor));
            sum.write::<FORM>(self.y.add(first).cast(), at, self.past_caches);
        }
    }
}

/// Loads a vector and applies the prologue of the channels from `at` on.
///
/// # Safety
/// The CPU has `V`, and both `from` and the channels from `at` on have `V::LANES` elements.
#[inline(always)]
unsafe fn load<T: Element, V: Convert>(from: *const T, prologue: &Prologue, at: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let (scale, shift): (V, V) =
            (V::load(prologue.scale.as_ptr().add(at)), V::load(prologue.shift.as_ptr().add(at)));
        T::load::<V>(from).mul(scale).add(shift).at_least(V::splat(&prologue.floor()))
    }
}

/// Where the ReLU after a batch norm passes the gradient.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a, T> {
    /// Everywhere: there was no ReLU.
    All,
    /// Where its stored result, `[..., C]` without gaps, is positive.
    Result(&'a [T]),
    /// Where `scale x + shift`, the recomputed result, is positive.
    Recomputed { scale: &'a [f32], shift: &'a [f32] },
}

/// The operands of a batch norm's gradient, for some pixels `[..., C]`.
#[derive(Clone, Copy)]
pub(crate) struct Masked<'a, T> {
    /// The gradient after the ReLU, without gaps.
    pub(crate) dy: &'a [T],
    pub(crate) mask: Mask<'a, T>,
    /// The input of the batch norm; pixels are `pitch` elements apart.
    pub(crate) x: &'a [T],
    pub(crate) pitch: usize,
}

impl<'a, T: Element> Masked<'a, T> {
    /// The operands for a range of the pixels, which have `c` channels.
    pub(crate) fn pixels(&self, range: Range<usize>, c: usize) -> Masked<'a, T> {
        let within = range.start * c..range.end * c;
        let mask = match self.mask {
            Mask::Result(y) => Mask::Result(&y[within.clone()]),
            other => other,
        };
        let end = (range.end * self.pitch).min(self.x.len());
        Masked { dy: &self.dy[within], mask, x: &self.x[range.start * self.pitch..end], pitch: self.pitch }
    }

    /// Adds to `sum` and `product`, per channel, the sums of `d` and of `d (x - mean)`, where `d` is the masked `dy`.
    pub(crate) fn sums(&self, mean: &[f32], sum: &mut [f32], product: &mut [f32]) {
        let c = mean.len();
        self.check(c);
        assert!(sum.len() == c && product.len() == c);
        let (sum, product) = (sum.as_mut_ptr(), product.as_mut_ptr());
        let job = Sums(ChannelSums { of: *self, start: 0, end: 0, mean, sum, product });
        // SAFETY: the slices are as long as just checked, and the sums exclusive.
        unsafe { dispatch(Form::Floats, &job) }
    }

    /// Writes `a d + b x + e` to `dx` and the masked gradient to `d`, both without gaps; `coefficients` are `a`, `b` and `e`
    /// per channel. `past_caches` as the function of this name says.
    pub(crate) fn gradient(
        &self,
        coefficients: [&[f32]; 3],
        dx: &mut [MaybeUninit<T>],
        d: Option<&mut [MaybeUninit<T>]>,
        past_caches: bool,
    ) {
        assert!(dx.len() == self.dy.len() && d.as_ref().is_none_or(|d| d.len() == dx.len()));
        let d = d.map_or(std::ptr::null_mut(), |d| d.as_mut_ptr().cast());
        let pitch = coefficients[0].len();
        self.run(Gradient::<T, false> { of: *self, coefficients, dx: dx.as_mut_ptr().cast(), pitch, d, past_caches });
    }

    /// As [`Masked::gradient`], but added to `dx`, whose pixels are `pitch` apart.
    pub(crate) fn add_gradient(&self, coefficients: [&[f32]; 3], dx: &mut [T], pitch: usize) {
        let (c, len) = (coefficients[0].len(), self.dy.len());
        assert!(len == 0 || pitch >= c && (len / c - 1) * pitch + c <= dx.len());
        let d = std::ptr::null_mut();
        self.run(Gradient::<T, true> { of: *self, coefficients, dx: dx.as_mut_ptr(), pitch, d, past_caches: false });
    }

    /// `dx` and `d` must have room for the pixels, and `dx` must be initialised if `ADD`.
    fn run<const ADD: bool>(&self, job: Gradient<T, ADD>) {
        let [a, b, e] = job.coefficients;
        assert!(b.len() == a.len() && e.len() == a.len());
        self.check(a.len());
        // SAFETY: the slices are as long as just checked; `dx` and `d` come from exclusive slices whose lengths the two
        // callers above have checked, or `d` is null.
        unsafe { dispatch(Form::of::<T>(), &job) }
        if job.past_caches {
            fence();
        }
    }

    fn check(&self, c: usize) {
        let len = self.dy.len();
        assert!(c > 0 && len.is_multiple_of(c));
        assert!(len == 0 || self.pitch >= c && (len / c - 1) * self.pitch + c <= self.x.len());
        match self.mask {
            Mask::All => {}
            Mask::Result(y) => assert!(y.len() == len),
            Mask::Recomputed { scale, shift } => assert!(scale.len() == c && shift.len() == c),
        }
    }

    /// The masked gradient and `x`, for a vector of channels of a pixel.
    ///
    /// # Safety
    /// The CPU has `V`, and the pixel has `V::LANES` channels from `at` on.
    #[inline(always)]
    unsafe fn load<V: Convert>(&self, c: usize, pixel: usize, at: usize) -> (V, V) {
        // SAFETY: the caller's promise; `check` has compared the lengths.
        unsafe {
            let x: V = T::load(self.x.as_ptr().add(pixel * self.pitch + at));
            let dy: V = T::load(self.dy.as_ptr().add(pixel * c + at));
            let d = match self.mask {
                Mask::All => dy,
                Mask::Result(y) => dy.where_positive(T::load(y.as_ptr().add(pixel * c + at))),
                Mask::Recomputed { scale, shift } => {
                    let (scale, shift): (V, V) = (V::load(scale.as_ptr().add(at)), V::load(shift.as_ptr().add(at)));
                    dy.where_positive(x.mul(scale).add(shift))
                }
            };
            (d, x)
        }
    }
}

/// [`ChannelSums`], two vectors of channels at a time where possible: more independent additions in flight.
struct Sums<'a, T>(ChannelSums<'a, T>);

#[derive(Clone, Copy)]
struct ChannelSums<'a, T> {
    of: Masked<'a, T>,
    /// The first pixel, and the one behind the last.
    start: usize,
    end: usize,
    mean: &'a [f32],
    sum: *mut f32,
    product: *mut f32,
}

impl<T: Element> Job for Sums<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Convert, const FORM: u8>(&self) {
        let mut sums = self.0;
        let c = sums.row_len();
        let (pixels, few) = (sums.of.dy.len() / c, (NEAR / c).max(4));
        while sums.start < pixels {
            sums.end = pixels.min(sums.start + few);
            let mut at = 0;
            // SAFETY: there are two vectors from `at` on; the rest is the caller's promise.
            unsafe {
                while at + 2 * V::LANES <= c {
                    sums.add::<V, 2>(at);
                    at += 2 * V::LANES;
                }
                for_each_vector::<_, V, FORM>(&sums, 0, at);
            }
            sums.start = sums.end;
        }
    }
}

/// Elements of the pixels that are summed at a time: near one another, so that memory is read in its order.
const NEAR: usize = 4 << 10;

impl<T: Element> Rows for ChannelSums<'_, T> {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.mean.len()
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.add::<V, 1>(at) };
    }
}

impl<T: Element> ChannelSums<'_, T> {
    /// Adds up `VECTORS` vectors of channels over all pixels.
    ///
    /// # Safety
    /// There are as many vectors from channel `at` on.
    #[inline(always)]
    unsafe fn add<V: Convert, const VECTORS: usize>(&self, at: usize) {
        let c = self.mean.len();
        // SAFETY: the caller's promise.
        unsafe {
            let (mut mean, mut sum, mut product) = ([V::zero(); VECTORS], [V::zero(); VECTORS], [V::zero(); VECTORS]);
            for vector in 0..VECTORS {
                let at = at + vector * V::LANES;
                mean[vector] = V::load(self.mean.as_ptr().add(at));
                (sum[vector], product[vector]) = (V::load(self.sum.add(at)), V::load(self.product.add(at)));
            }
            for pixel in self.start..self.end {
                for vector in 0..VECTORS {
                    let (d, x) = self.of.load::<V>(c, pixel, at + vector * V::LANES);
                    sum[vector] = sum[vector].add(d);
                    product[vector] = product[vector].add(d.mul(x.sub(mean[vector])));
                }
            }
            for vector in 0..VECTORS {
                let at = at + vector * V::LANES;
                sum[vector].store(self.sum.add(at));
                product[vector].store(self.product.add(at));
            }
        }
    }
}

struct Gradient<'a, T, const ADD: bool> {
    of: Masked<'a, T>,
    coefficients: [&'a [f32]; 3],
    dx: *mut T,
    /// Elements from pixel to pixel of `dx`.
    pitch: usize,
    /// Where the masked gradient is written, or null.
    d: *mut T,
    past_caches: bool,
}

impl<T: Element, const ADD: bool> Rows for Gradient<'_, T, ADD> {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.of.dy.len() / self.row_len()
    }
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.coefficients[0].len()
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, pixel: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (c, [a, b, e]) = (self.row_len(), self.coefficients);
            let (a, b): (V, V) = (V::load(a.as_ptr().add(at)), V::load(b.as_ptr().add(at)));
            let e = V::load(e.as_ptr().add(at));
            let (d, x) = self.of.load::<V>(c, pixel, at);
            let mut dx = a.mul(d).add(b.mul(x).add(e));
            let to = self.dx.add(pixel * self.pitch);
            if ADD {
                dx = T::load::<V>(to.add(at)).add(dx);
            }
            dx.write::<FORM>(to.cast(), at, self.past_caches);
            if !self.d.is_null() {
                d.write::<FORM>(self.d.add(pixel * c).cast(), at, self.past_caches);
            }
        }
    }
}
