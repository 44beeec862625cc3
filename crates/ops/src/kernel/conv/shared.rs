//! Memory that tasks write to side by side.

use std::mem::MaybeUninit;

use crate::kernel::{
    Element,
    tile::{MAX_ROWS, Operands, TileFn},
};

/// Memory that several tasks write to, each its own part.
pub(super) struct Shared<T> {
    start: *mut T,
    len: usize,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}

// SAFETY: it is only written to by `write` and `slice`, whose callers promise that no two tasks touch the same element.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(out: &mut [MaybeUninit<T>]) -> Shared<T> {
        Shared { start: out.as_mut_ptr().cast(), len: out.len() }
    }

    pub(super) fn start(self) -> *mut T {
        self.start
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    /// Memory that holds something already.
    pub(super) fn written(out: &mut [T]) -> Shared<T> {
        Shared { start: out.as_mut_ptr(), len: out.len() }
    }

    /// # Safety
    ///
    /// These elements have been written, and no other task touches them while the slice lives.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the caller promises that it is the only one
    pub(super) unsafe fn slice<'a>(self, at: usize, len: usize) -> &'a mut [T] {
        assert!(at + len <= self.len);
        // SAFETY: within the memory, as just checked; written and exclusive, the caller says.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}

impl<T: Element> Shared<T> {
    /// # Safety
    ///
    /// No other task touches these elements meanwhile.
    #[inline(always)]
    pub(super) unsafe fn put(self, at: usize, values: &[f32]) {
        assert!(at + values.len() <= self.len);
        // SAFETY: within the memory, as just checked, and nobody else's, the caller says.
        unsafe { T::put(values, self.start.add(at)) };
    }

    /// The same memory, if it is of floats.
    pub(super) fn floats(self) -> Option<Shared<f32>> {
        (!T::BF16).then(|| Shared { start: self.start.cast(), len: self.len })
    }
}

impl Shared<f32> {
    /// Computes a tile of `rows` by `width` at the places `at(row)`; one narrower than `columns` by way of `spill`.
    ///
    /// # Safety
    ///
    /// The operands are as [`Tile`](crate::kernel::tile::Tile) asks for; no other task touches these places, and if `accumulate`, they have been
    /// written before.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // a tile and where it goes
    pub(super) unsafe fn write(
        self,
        tile: TileFn,
        rows: usize,
        width: usize,
        columns: usize,
        operands: Operands,
        spill: &mut [f32; MAX_ROWS * 32],
        at: impl Fn(usize) -> usize,
    ) {
        let mut c = [std::ptr::null_mut(); MAX_ROWS];
        if width == columns {
            for (row, c) in c.iter_mut().enumerate().take(rows) {
                assert!(at(row) + columns <= self.len);
                // SAFETY: within the memory, as just checked.
                *c = unsafe { self.start.add(at(row)) };
            }
            // SAFETY: each row of C has `columns` floats; the rest is the caller's promise.
            unsafe { tile(rows, &operands, &c) };
            return;
        }
        for (row, (c, spilled)) in c.iter_mut().zip(spill.chunks_exact_mut(columns)).enumerate().take(rows) {
            if operands.accumulate {
                // SAFETY: written before, the caller says.
                spilled[..width].copy_from_slice(unsafe { self.slice(at(row), width) });
            }
            *c = spilled.as_mut_ptr();
        }
        // SAFETY: each row of C is a row of `spill`, of `columns` floats; the rest is the caller's promise.
        unsafe { tile(rows, &operands, &c) };
        for (row, spilled) in spill.chunks_exact(columns).enumerate().take(rows) {
            assert!(at(row) + width <= self.len);
            // SAFETY: within the memory, as just checked, and nobody else's; `spill` is elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(spilled.as_ptr(), self.start.add(at(row)), width) };
        }
    }
}
