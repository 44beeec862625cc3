//! The epilogue of a convolution, a vector of channels at a time.

use super::{geometry::Epilogue, shared::Shared};
use crate::kernel::{
    dispatch::{Rows, dispatch},
    element::{Element, past_caches},
    form::Form,
    vector::{Convert, fence},
};

/// Sums of some channels of some pixels.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a> {
    pub(super) memory: Shared<f32>,
    /// Where each pixel starts in `memory`.
    pub(super) rows: &'a [usize],
    /// Where the channels start in a row.
    pub(super) from: usize,
    /// Where each pixel starts in the output.
    pub(super) places: &'a [usize],
    /// The first channel.
    pub(super) channel: usize,
    pub(super) lanes: usize,
}

impl<T: Element> Epilogue<'_, T> {
    pub(super) fn is_empty(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && !self.relu
    }

    /// Adds to the sums the bias, the residual and, if `adds`, what `out` holds in their places, applies the ReLU, and writes
    /// them to their places in `out`, which may be the memory they are in.
    ///
    /// # Safety
    ///
    /// The sums are initialised, and so are their places in `out` if `adds`; no other task uses either meanwhile.
    pub(super) unsafe fn write(&self, sums: Sums, out: Shared<T>, adds: bool) {
        let Sums { memory, rows, places, from, channel, lanes } = sums;
        assert!(rows.len() == places.len());
        let bias = self.bias.map(|bias| &bias[channel..][..lanes]);
        assert!(rows.iter().all(|at| at + from + lanes <= memory.len()));
        let len = self.residual.map_or(out.len(), |residual| residual.len().min(out.len()));
        assert!(places.iter().all(|at| at + channel + lanes <= len));
        let residual = if adds { Some(out.start().cast_const()) } else { self.residual.map(<[T]>::as_ptr) };
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        let past_caches = past_caches::<T>(out.len()) && memory.start() != out.start().cast();
        let job = Finish { sums, bias, residual, floor, past_caches, out: out.start() };
        // SAFETY: every row is inside, as just checked; the rest is the caller's promise.
        unsafe { dispatch(Form::of::<T>(), &job) }
        if past_caches {
            fence();
        }
    }
}

struct Finish<'a, T> {
    sums: Sums<'a>,
    /// The bias of these channels.
    bias: Option<&'a [f32]>,
    /// Where the residual starts.
    residual: Option<*const T>,
    floor: f32,
    /// Whether the results are written past the caches.
    past_caches: bool,
    out: *mut T,
}

impl<T: Element> Rows for Finish<'_, T> {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.sums.rows.len()
    }
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.sums.lanes
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, row: usize, at: usize) {
        let Sums { memory, rows, from, places, channel, .. } = self.sums;
        // SAFETY: the caller's promise; there are as many places as rows.
        unsafe {
            let (row, place) = (rows.get_unchecked(row) + from, places.get_unchecked(row) + channel);
            let mut v = V::load(memory.start().add(row + at));
            if let Some(bias) = self.bias {
                v = v.add(V::load(bias.as_ptr().add(at)));
            }
            if let Some(residual) = self.residual {
                v = v.add(T::load::<V>(residual.add(place + at)));
            }
            v.at_least(V::splat(&self.floor)).write::<FORM>(self.out.add(place).cast(), at, self.past_caches);
        }
    }
}
