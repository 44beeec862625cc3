//! Output buffers that are written once, without being zeroed first.

use std::mem::MaybeUninit;

/// From this size on, huge pages are asked for: a page fault for every 2 MiB, not for every 4 KiB.
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
    // SAFETY: `first..last` lies within `spare`, which is exclusively ours, and MADV_HUGEPAGE changes how it is backed,
    // never what it holds. A refusal (no huge pages in this kernel) is harmless, so the result is not looked at.
    unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_HUGEPAGE) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn advise_huge<T>(_: &mut [MaybeUninit<T>]) {}

/// Writes zeros over `slice` and returns it as floats.
#[inline(always)]
pub(crate) fn zeroed(slice: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    slice.fill(MaybeUninit::new(0.0));
    // SAFETY: every element has just been written.
    unsafe { slice.assume_init_mut() }
}
