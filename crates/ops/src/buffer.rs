//! Output buffers that are written once, without being zeroed first.

use std::mem::MaybeUninit;

/// Buffers of at least this size ask for huge pages: one page fault per 2 MiB instead of one per 4 KiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HUGE_BYTES: usize = 4 << 20;

/// Allocates `len` elements, has `fill` write them, and returns them.
///
/// # Safety
///
/// `fill` must write every element of the slice it is given, or unwind.
pub(crate) unsafe fn filled<T: Copy>(len: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut vec = Vec::<T>::with_capacity(len);
    let spare = &mut vec.spare_capacity_mut()[..len];
    advise_huge(spare);
    fill(spare);
    // SAFETY: the capacity is at least `len`, and the caller promises that `fill` wrote all `len` elements.
    unsafe { vec.set_len(len) };
    vec
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn advise_huge<T>(spare: &mut [MaybeUninit<T>]) {
    const PAGE: usize = 4096;
    let bytes = size_of_val(spare);
    if bytes < HUGE_BYTES {
        return;
    }
    let start = spare.as_mut_ptr() as usize;
    let (first, last) = (start.next_multiple_of(PAGE), (start + bytes) / PAGE * PAGE);
    // SAFETY: `first..last` is within `spare`, which this function owns exclusively, and MADV_HUGEPAGE changes the size of
    // the pages, never the contents. A failure (no huge pages in this kernel) is harmless, so the result is ignored.
    unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_HUGEPAGE) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn advise_huge<T>(_: &mut [MaybeUninit<T>]) {}

/// Floats that start on a cache line, so that no vector straddles two.
pub(crate) struct Aligned {
    lines: Vec<Line>,
    /// At most 16 for every line.
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Aligned {
    pub(crate) fn zeros(len: usize) -> Aligned {
        Aligned { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// As [`filled`].
    ///
    /// # Safety
    ///
    /// `fill` must write every element of the slice it is given, or unwind.
    pub(crate) unsafe fn filled(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Aligned {
        let write = |lines: &mut [MaybeUninit<Line>]| {
            if let Some(last) = lines.last_mut() {
                last.write(Line([0.0; 16])); // the floats after the last one
            }
            // SAFETY: `lines` are at least `len` contiguous floats, and may be uninitialised.
            fill(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) });
        };
        // SAFETY: the caller's `fill` writes the first `len` floats; those after them are in the last line, written above.
        Aligned { lines: unsafe { filled(len.div_ceil(16), write) }, len }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` contiguous floats: a line is 16 floats without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
