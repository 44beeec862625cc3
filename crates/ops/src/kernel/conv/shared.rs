//! Memory that several tasks write to at once.

use std::mem::MaybeUninit;

use crate::kernel::{
    element::Element,
    operands::{MAX_ROWS, Operands, TileFn},
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

    /// Computes a tile of `rows` by `width` whose rows start at `at(row)`; a tile narrower than `columns` goes through `spill`.
    ///
    /// # Safety
    ///
    /// The operands are valid for [`Tile`](crate::kernel::operands::Tile); no other task uses these rows, and they are initialised
    /// if `accumulate`.
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
            // With `c_row` the first row says where the others are.
            let pointers = if operands.c_row == 0 { rows } else { 1 };
            assert!(at(0) + (MAX_ROWS - 1) * operands.c_row + columns <= self.len);
            for (row, c) in c.iter_mut().enumerate().take(pointers) {
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
                // SAFETY: the caller promises that the rows are initialised.
                spilled[..width].copy_from_slice(unsafe { self.slice(at(row), width) });
            }
            *c = spilled.as_mut_ptr();
        }
        let operands = Operands { c_row: if operands.c_row == 0 { 0 } else { columns }, ..operands };
        // SAFETY: each row of C is a row of `spill`, of `columns` floats, and `spill` has MAX_ROWS of them; the rest is the
        // caller's promise.
        unsafe { tile(rows, &operands, &c) };
        for (row, spilled) in spill.chunks_exact(columns).enumerate().take(rows) {
            assert!(at(row) + width <= self.len);
            // SAFETY: within the memory, as just checked, and exclusive; `spill` does not overlap it.
            unsafe { std::ptr::copy_nonoverlapping(spilled.as_ptr(), self.start.add(at(row)), width) };
        }
    }
}
