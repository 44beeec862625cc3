//! The epilogue of a convolution, a vector of channels at a time.

use super::{geometry::Epilogue, shared::Shared};
use crate::kernel::{
    dispatch::{Rows, dispatch},
    element::Element,
    form::Form,
    vector::Convert,
};

/// Sums of some channels of some pixels.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a> {
    pub(super) memory: Shared<f32>,
    /// Where each pixel starts in `memory`.
    pub(super) rows: &'a [usize],
    /// Where each pixel starts in the output.
    pub(super) places: &'a [usize],
    /// The first channel, relative to `rows` and `places`.
    pub(super) from: usize,
    /// The first channel, relative to the whole output.
    pub(super) channel: usize,
    pub(super) lanes: usize,
}

impl<T: Element> Epilogue<'_, T> {
    fn is_empty(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && !self.relu
    }

    /// Adds bias, residual and, if given, what the output `onto` holds in their places, and applies the ReLU, in place.
    ///
    /// # Safety
    ///
    /// The sums and their places in `onto` are initialised, and no other task uses them meanwhile.
    pub(super) unsafe fn apply(&self, sums: Sums, onto: Option<Shared<T>>) {
        if self.is_empty() && onto.is_none() {
            return;
        }
        let Sums { memory, rows, places, from, channel, lanes } = sums;
        assert!(rows.len() == places.len());
        let bias = self.bias.map(|bias| &bias[channel..][..lanes]);
        let room = |at: &usize, len: usize| at + from + lanes <= len;
        assert!(rows.iter().all(|at| room(at, memory.len())));
        let residual = onto.map(|onto| (onto.start().cast_const(), onto.len()));
        let residual = residual.or(self.residual.map(|residual| (residual.as_ptr(), residual.len())));
        assert!(residual.is_none_or(|(_, len)| places.iter().all(|at| room(at, len))));
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        let job = Finish { sums, bias, residual: residual.map(|(start, _)| start), floor };
        // SAFETY: every row is inside, as just checked; the rest is the caller's promise.
        unsafe { dispatch(Form::Floats, &job) }
    }
}

struct Finish<'a, T> {
    sums: Sums<'a>,
    /// The bias of these channels.
    bias: Option<&'a [f32]>,
    /// Where the residual starts.
    residual: Option<*const T>,
    floor: f32,
}

impl<T: Element> Rows for Finish<'_, T> {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.sums.lanes
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
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
                    v = v.add(T::load::<V>(residual.add(place + from + at)));
                }
                v.at_least(floor).store(sum);
            }
        }
    }
}
