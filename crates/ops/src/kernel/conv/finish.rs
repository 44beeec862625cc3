//! What is done to sums before they are left, in registers.

use super::{Epilogue, shared::Shared};
use crate::kernel::{
    Element,
    dispatch::{Form, Job, dispatch},
    vector::Leave,
};

/// Sums of some channels of some pixels.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a> {
    pub(super) memory: Shared<f32>,
    /// Where each pixel is there.
    pub(super) rows: &'a [usize],
    /// Where each goes in the output.
    pub(super) places: &'a [usize],
    /// The first channel, counted from the rows and the places.
    pub(super) from: usize,
    /// The same, counted from the first of all.
    pub(super) channel: usize,
    pub(super) lanes: usize,
}

impl<T: Element> Epilogue<'_, T> {
    fn is_empty(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && !self.relu
    }

    /// Adds bias and residual and applies the ReLU, in place.
    ///
    /// # Safety
    ///
    /// The sums have been written, and no other task touches them meanwhile.
    pub(super) unsafe fn apply(&self, sums: Sums) {
        if self.is_empty() {
            return;
        }
        let Sums { memory, rows, places, from, channel, lanes } = sums;
        assert!(rows.len() == places.len());
        let bias = self.bias.map(|bias| &bias[channel..][..lanes]);
        let room = |at: &usize, len: usize| at + from + lanes <= len;
        assert!(rows.iter().all(|at| room(at, memory.len())));
        assert!(self.residual.is_none_or(|residual| places.iter().all(|at| room(at, residual.len()))));
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        let job = Finish { sums, bias, residual: self.residual, floor };
        // SAFETY: every row is inside, as just checked; the rest is the caller's promise.
        unsafe { dispatch(Form::Floats, &job) }
    }
}

struct Finish<'a, T> {
    sums: Sums<'a>,
    /// Of these channels.
    bias: Option<&'a [f32]>,
    residual: Option<&'a [T]>,
    floor: f32,
}

impl<T: Element> Job for Finish<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Leave, const FORM: u8>(&self) {
        let lanes = self.sums.lanes;
        let mut at = 0;
        // SAFETY: `at` stays below `lanes` by a vector, then by one float; the rest is the caller's promise.
        unsafe {
            while at + V::LANES <= lanes {
                self.column::<V>(at);
                at += V::LANES;
            }
            while at < lanes {
                self.column::<[f32; 1]>(at);
                at += 1;
            }
        }
    }
}

impl<T: Element> Finish<'_, T> {
    /// # Safety
    /// A vector of every row, from the channel `at` on.
    #[inline(always)]
    unsafe fn column<V: Leave>(&self, at: usize) {
        let Sums { memory, rows, places, from, .. } = self.sums;
        // SAFETY: the caller's promise.
        unsafe {
            let floor = V::splat(&self.floor);
            let bias = match self.bias {
                Some(bias) => V::load(bias.as_ptr().add(at)),
                None => V::zero(),
            };
            for (row, place) in rows.iter().zip(places) {
                let sum = memory.start().add(row + from + at);
                let mut v = V::load(sum).add(bias);
                if let Some(residual) = self.residual {
                    v = v.add(T::load::<V>(residual.as_ptr().add(place + from + at)));
                }
                v.at_least(floor).store(sum);
            }
        }
    }
}
