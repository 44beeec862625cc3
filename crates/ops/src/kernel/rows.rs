//! Element-wise passes over pixels, in registers: a vector of channels at a time.

use std::{mem::MaybeUninit, ops::Range};

use super::{
    Element,
    conv::Change,
    dispatch::{Form, Job, dispatch},
    vector::Leave,
};

/// The form in which results are left.
fn form<T: Element>() -> Form {
    if T::BF16 { Form::Halves } else { Form::Floats }
}

/// `x + residual`, each changed on the way in, with ReLU if `relu`, to `y`; all of one length, without gaps.
pub(crate) fn sum<T: Element>(
    x: &[T],
    change: Change,
    residual: Option<(&[T], Change)>,
    relu: bool,
    y: &mut [MaybeUninit<T>],
) {
    let c = change.scale.len();
    assert!(change.shift.len() == c && c > 0 && x.len() == y.len() && x.len().is_multiple_of(c));
    if let Some((residual, change)) = residual {
        assert!(residual.len() == x.len() && change.scale.len() == c && change.shift.len() == c);
    }
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let job = Sum { x, change, residual, floor, y: y.as_mut_ptr().cast() };
    // SAFETY: the slices are as long as just checked, and `y` is exclusive.
    unsafe { dispatch(form::<T>(), &job) }
}

struct Sum<'a, T> {
    x: &'a [T],
    change: Change<'a>,
    residual: Option<(&'a [T], Change<'a>)>,
    floor: f32,
    y: *mut T,
}

impl<T: Element> Job for Sum<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Leave, const FORM: u8>(&self) {
        let c = self.change.scale.len();
        for first in (0..self.x.len()).step_by(c) {
            let mut at = 0;
            // SAFETY: `at` stays below `c` by a vector, then by one element; the rest is the caller's promise.
            unsafe {
                while at + V::LANES <= c {
                    self.lanes::<V, FORM>(first, at);
                    at += V::LANES;
                }
                while at < c {
                    self.lanes::<[f32; 1], FORM>(first, at);
                    at += 1;
                }
            }
        }
    }
}

impl<T: Element> Sum<'_, T> {
    /// # Safety
    /// A vector of the row at `first`, from `at` on.
    #[inline(always)]
    unsafe fn lanes<V: Leave, const FORM: u8>(&self, first: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sum = changed::<T, V>(self.x.as_ptr().add(first + at), &self.change, at);
            if let Some((residual, change)) = &self.residual {
                sum = sum.add(changed::<T, V>(residual.as_ptr().add(first + at), change, at));
            }
            sum.at_least(V::splat(&self.floor)).leave::<FORM>(self.y.add(first).cast(), at);
        }
    }
}

/// A vector, changed as the channels from `at` on are.
///
/// # Safety
/// The CPU has `V`, and there is one at `from`, and at `at`.
#[inline(always)]
unsafe fn changed<T: Element, V: Leave>(from: *const T, change: &Change, at: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let (scale, shift): (V, V) = (V::load(change.scale.as_ptr().add(at)), V::load(change.shift.as_ptr().add(at)));
        T::load::<V>(from).mul(scale).add(shift).at_least(V::splat(&change.floor()))
    }
}

/// Where the ReLU behind a batch norm let the gradient pass.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a, T> {
    /// There was none.
    All,
    /// Where its result, `[..., C]` without gaps, is positive.
    Result(&'a [T]),
    /// Where `scale x + shift` is positive.
    Again { scale: &'a [f32], shift: &'a [f32] },
}

/// What the gradient of a batch norm is made of: some pixels `[..., C]`.
#[derive(Clone, Copy)]
pub(crate) struct Masked<'a, T> {
    /// The gradient behind the ReLU, without gaps.
    pub(crate) dy: &'a [T],
    pub(crate) mask: Mask<'a, T>,
    /// What was normalised; pixels are `pitch` elements apart.
    pub(crate) x: &'a [T],
    pub(crate) pitch: usize,
}

impl<'a, T: Element> Masked<'a, T> {
    /// Some of the pixels, of `c` channels.
    pub(crate) fn pixels(&self, range: Range<usize>, c: usize) -> Masked<'a, T> {
        let within = range.start * c..range.end * c;
        let mask = match self.mask {
            Mask::Result(y) => Mask::Result(&y[within.clone()]),
            other => other,
        };
        let end = (range.end * self.pitch).min(self.x.len());
        Masked { dy: &self.dy[within], mask, x: &self.x[range.start * self.pitch..end], pitch: self.pitch }
    }

    /// Adds, per channel, the sums of `d`, which is what of `dy` passes the mask, and of `d (x - mean)`.
    pub(crate) fn sums(&self, mean: &[f32], sum: &mut [f32], product: &mut [f32]) {
        let c = mean.len();
        self.check(c);
        assert!(sum.len() == c && product.len() == c);
        let job = Sums { of: *self, mean, sum: sum.as_mut_ptr(), product: product.as_mut_ptr() };
        // SAFETY: the slices are as long as just checked, and the sums exclusive.
        unsafe { dispatch(Form::Floats, &job) }
    }

    /// Writes `a d + b x + e` to `dx` and `d` to `d`, both without gaps; `coefficients` are `a`, `b` and `e` per channel.
    pub(crate) fn gradient(
        &self,
        coefficients: [&[f32]; 3],
        dx: &mut [MaybeUninit<T>],
        d: Option<&mut [MaybeUninit<T>]>,
    ) {
        assert!(dx.len() == self.dy.len() && d.as_ref().is_none_or(|d| d.len() == dx.len()));
        let d = d.map_or(std::ptr::null_mut(), |d| d.as_mut_ptr().cast());
        let pitch = coefficients[0].len();
        self.leave(Gradient::<T, false> { of: *self, coefficients, dx: dx.as_mut_ptr().cast(), pitch, d });
    }

    /// As [`Masked::gradient`], added to what is in `dx`, whose pixels are `pitch` apart.
    pub(crate) fn add_gradient(&self, coefficients: [&[f32]; 3], dx: &mut [T], pitch: usize) {
        let (c, len) = (coefficients[0].len(), self.dy.len());
        assert!(len == 0 || pitch >= c && (len / c - 1) * pitch + c <= dx.len());
        let d = std::ptr::null_mut();
        self.leave(Gradient::<T, true> { of: *self, coefficients, dx: dx.as_mut_ptr(), pitch, d });
    }

    /// `dx` and `d` have room for the pixels, and `dx` holds some if they are added to.
    fn leave<const ADD: bool>(&self, job: Gradient<T, ADD>) {
        let [a, b, e] = job.coefficients;
        assert!(b.len() == a.len() && e.len() == a.len());
        self.check(a.len());
        // SAFETY: the slices are as long as just checked; `dx` and `d` are exclusive slices of the callers above, which
        // have checked their lengths, or `d` is null.
        unsafe { dispatch(form::<T>(), &job) }
    }

    fn check(&self, c: usize) {
        let len = self.dy.len();
        assert!(c > 0 && len.is_multiple_of(c));
        assert!(len == 0 || self.pitch >= c && (len / c - 1) * self.pitch + c <= self.x.len());
        match self.mask {
            Mask::All => {}
            Mask::Result(y) => assert!(y.len() == len),
            Mask::Again { scale, shift } => assert!(scale.len() == c && shift.len() == c),
        }
    }

    /// `d` and `x` of some channels of a pixel.
    ///
    /// # Safety
    /// The CPU has `V`, and the pixel a vector from `at` on.
    #[inline(always)]
    unsafe fn load<V: Leave>(&self, c: usize, pixel: usize, at: usize) -> (V, V) {
        // SAFETY: the caller's promise; `check` has seen the lengths.
        unsafe {
            let x: V = T::load(self.x.as_ptr().add(pixel * self.pitch + at));
            let dy: V = T::load(self.dy.as_ptr().add(pixel * c + at));
            let d = match self.mask {
                Mask::All => dy,
                Mask::Result(y) => dy.where_positive(T::load(y.as_ptr().add(pixel * c + at))),
                Mask::Again { scale, shift } => {
                    let (scale, shift): (V, V) = (V::load(scale.as_ptr().add(at)), V::load(shift.as_ptr().add(at)));
                    dy.where_positive(x.mul(scale).add(shift))
                }
            };
            (d, x)
        }
    }
}

struct Sums<'a, T> {
    of: Masked<'a, T>,
    mean: &'a [f32],
    sum: *mut f32,
    product: *mut f32,
}

impl<T: Element> Job for Sums<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Leave, const FORM: u8>(&self) {
        let c = self.mean.len();
        let mut at = 0;
        // SAFETY: `at` stays below `c` by so many vectors, then by one element; the rest is the caller's promise.
        unsafe {
            while at + 2 * V::LANES <= c {
                self.lanes::<V, 2>(at);
                at += 2 * V::LANES;
            }
            while at + V::LANES <= c {
                self.lanes::<V, 1>(at);
                at += V::LANES;
            }
            while at < c {
                self.lanes::<[f32; 1], 1>(at);
                at += 1;
            }
        }
    }
}

impl<T: Element> Sums<'_, T> {
    /// # Safety
    /// So many vectors from `at` on.
    #[inline(always)]
    unsafe fn lanes<V: Leave, const VECTORS: usize>(&self, at: usize) {
        let c = self.mean.len();
        // SAFETY: the caller's promise.
        unsafe {
            let (mut mean, mut sum, mut product) = ([V::zero(); VECTORS], [V::zero(); VECTORS], [V::zero(); VECTORS]);
            for vector in 0..VECTORS {
                let at = at + vector * V::LANES;
                mean[vector] = V::load(self.mean.as_ptr().add(at));
                (sum[vector], product[vector]) = (V::load(self.sum.add(at)), V::load(self.product.add(at)));
            }
            for pixel in 0..self.of.dy.len() / c {
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
    /// Or null.
    d: *mut T,
}

impl<T: Element, const ADD: bool> Job for Gradient<'_, T, ADD> {
    #[inline(always)]
    unsafe fn run<V: Leave, const FORM: u8>(&self) {
        let c = self.coefficients[0].len();
        for pixel in 0..self.of.dy.len() / c {
            let mut at = 0;
            // SAFETY: as in `Sum`.
            unsafe {
                while at + V::LANES <= c {
                    self.lanes::<V, FORM>(c, pixel, at);
                    at += V::LANES;
                }
                while at < c {
                    self.lanes::<[f32; 1], FORM>(c, pixel, at);
                    at += 1;
                }
            }
        }
    }
}

impl<T: Element, const ADD: bool> Gradient<'_, T, ADD> {
    /// # Safety
    /// A vector of the pixel, from `at` on.
    #[inline(always)]
    unsafe fn lanes<V: Leave, const FORM: u8>(&self, c: usize, pixel: usize, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, e] = self.coefficients;
            let (a, b): (V, V) = (V::load(a.as_ptr().add(at)), V::load(b.as_ptr().add(at)));
            let e = V::load(e.as_ptr().add(at));
            let (d, x) = self.of.load::<V>(c, pixel, at);
            let mut dx = a.mul(d).add(b.mul(x).add(e));
            let to = self.dx.add(pixel * self.pitch);
            if ADD {
                dx = T::load::<V>(to.add(at)).add(dx);
            }
            dx.leave::<FORM>(to.cast(), at);
            if !self.d.is_null() {
                d.leave::<FORM>(self.d.add(pixel * c).cast(), at);
            }
        }
    }
}
