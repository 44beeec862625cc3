//! Memory that several tasks write to at once.

use std::mem::MaybeUninit;

use crate::kernel::{
    element::Element,
    operands::{MAX_ROWS, Operands, Tile, TileFn},
};

/// Memory that several tasks write to, each to a part of its own.
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

// SAFETY: it is accessed only by `write`, `put` and `slice`, whose callers promise that no two tasks use the same element.
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

    /// From memory that is initialised.
    pub(super) fn written(out: &mut [T]) -> Shared<T> {
        Shared { start: out.as_mut_ptr(), len: out.len() }
    }

    /// # Safety
    ///
    /// These elements are initialised, and no other task uses them while the slice lives.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the caller promises exclusive use
    pub(super) unsafe fn slice<'a>(self, at: usize, len: usize) -> &'a mut [T] {
        assert!(at + len <= self.len);
        // SAFETY: within the memory, as just checked; the caller promises that it is initialised and exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}

impl<T: Element> Shared<T> {
    /// The same memory, if its elements are `f32`.
    pub(super) fn floats(self) -> Option<Shared<f32>> {
        (!T::BF16).then(|| Shared { start: self.start.cast(), len: self.len })
    }
}

impl Shared<f32> {
    /// # Safety
    ///
    /// No other task uses these elements meanwhile.
    #[inline(always)]
    pub(super) unsafe fn put(self, at: usize, values: &[f32]) {
        assert!(at + values.len() <= self.len);
        // SAFETY: within the memory, as just checked; the caller promises exclusive use, and `values` is borrowed elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(at), values.len()) };
    }

    /// Computes a tile of `rows` by `width` at `at`, with rows `pitch` apart; a tile narrower than `columns` goes through
    /// `spill`. The operands' `c` and `c_row` are of no account.
    ///
    /// # Safety
    ///
    /// `run` is one of the tile's functions, and the operands are valid for it; no other task uses the rows that it covers, and
    /// they are initialised if `accumulate`.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // a tile and where it goes
    pub(super) unsafe fn write(
        self,
        tile: &Tile,
        run: TileFn,
        (rows, width): (usize, usize),
        (at, pitch): (usize, usize),
        operands: Operands,
        spill: &mut [f32; MAX_ROWS * 32],
    ) {
        let columns = tile.columns;
        if width == columns {
            assert!(at + (tile.covers(rows) - 1) * pitch + columns <= self.len);
            // SAFETY: the rows are within the memory, as just checked; the rest is the caller's promise.
            unsafe { run(rows, &Operands { c: self.start.add(at), c_row: pitch, ..operands }) };
            return;
        }
        assert!(at + (rows - 1) * pitch + width <= self.len);
        if operands.accumulate {
            for (row, spilled) in spill.chunks_exact_mut(columns).enumerate().take(rows) {
                // SAFETY: the caller promises that the rows are initialised.
                spilled[..width].copy_from_slice(unsafe { self.slice(at + row * pitch, width) });
            }
        }
        // SAFETY: `spill` has MAX_ROWS rows of `columns` floats; the rest is the caller's promise.
        unsafe { run(rows, &Operands { c: spill.as_mut_ptr(), c_row: columns, ..operands }) };
        for (row, spilled) in spill.chunks_exact(columns).enumerate().take(rows) {
            // SAFETY: within the memory, as checked above, and exclusive; `spill` does not overlap it.
            unsafe { std::ptr::copy_nonoverlapping(spilled.as_ptr(), self.start.add(at + row * pitch), width) };
        }
    }
}
