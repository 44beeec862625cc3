//! How the process keeps its memory.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with large blocks that start on a cache line: no vector of a tensor straddles two lines, and
/// results can be written past the caches. A program names it with `#[global_allocator]`; the kernels do without, more slowly.
pub struct OnLines;

const LINE: usize = 64;
/// The smallest block that starts on a cache line. Smaller ones stay as they are, because a vector that grows by pushing is
/// moved more cheaply then.
const LARGE: usize = 64 << 10;
/// Bytes that a block is longer than what is asked for: up to a line before it, and where it starts.
const SPARE: usize = LINE + size_of::<*mut u8>();

/// The whole block of one that starts on a cache line, if this one does. It is not asked for with a larger alignment: glibc
/// (before 2.38) looks for a longer block then and splits it, so that no block fits where an equal one was freed.
fn whole(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE || layout.align() > LINE {
        return None;
    }
    Layout::from_size_align(layout.size().checked_add(SPARE)?, align_of::<*mut u8>()).ok()
}

/// The first cache line of a block behind a pointer, which says where the block starts.
///
/// # Safety
/// The block is null or longer than [`SPARE`], and aligned as a pointer.
unsafe fn on_line(start: *mut u8) -> *mut u8 {
    if start.is_null() {
        return start;
    }
    let before = size_of::<*mut u8>();
    let at = (start.addr() + before).next_multiple_of(LINE) - start.addr();
    // SAFETY: `at` is at most `SPARE`, and at least a pointer's size; a line less a pointer is aligned as one.
    unsafe {
        let line = start.add(at);
        line.sub(before).cast::<*mut u8>().write(start);
        line
    }
}

/// Where the block of a line that [`on_line`] returned starts.
///
/// # Safety
/// It did.
unsafe fn start_of(line: *mut u8) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { line.sub(size_of::<*mut u8>()).cast::<*mut u8>().read() }
}

// SAFETY: whether a block is longer than asked for depends on its layout alone, so that it is freed as it was allocated.
unsafe impl GlobalAlloc for OnLines {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, here and below; whole blocks are longer than `SPARE`.
        unsafe {
            match whole(layout) {
                Some(whole) => on_line(System.alloc(whole)),
                None => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match whole(layout) {
                Some(whole) => on_line(System.alloc_zeroed(whole)),
                None => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe {
            match whole(layout) {
                Some(whole) => System.dealloc(start_of(block), whole),
                None => System.dealloc(block, layout),
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.size().max(new_size) < LARGE {
            // SAFETY: as above; neither block is longer than asked for.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        // SAFETY: the caller promises that the new size is valid for this alignment; the blocks are two, and both are long
        // enough for what is copied.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// Makes the allocator keep freed memory in the process instead of returning it to the operating system.
///
/// This changes the whole process, so a program calls it, once, at the start of `main`; a library should not.
///
/// A training step allocates and frees the same gigabytes of activations again and again. By default glibc maps each large
/// block anew, and every step pays for its page faults: a third of a step, measured on a virtual machine. After this call
/// the process's resident size stays at its peak. Does nothing with an allocator other than glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const NEVER_TRIM: i32 = -1;
        // SAFETY: `mallopt` only sets parameters of the allocator; it is thread-safe and cannot invalidate any block.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER_TRIM);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
            // A step may run on another thread than the one before it, and would find nothing of what that one freed.
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of all sizes around the smallest large one: where they start, and what is in them when they grow and shrink.
    #[test]
    fn large_blocks_start_on_lines_and_keep_their_contents() {
        let sizes = [16, LARGE - 4, LARGE, LARGE + 4, 3 * LARGE];
        let pairs = || sizes.iter().flat_map(|from| sizes.iter().map(move |to| (*from, *to)));
        for (align, (from, to)) in [4, LINE, 4096].into_iter().flat_map(|align| pairs().map(move |pair| (align, pair)))
        {
            let of = |size| Layout::from_size_align(size, align).unwrap();
            // SAFETY: the blocks are used within their sizes, and freed once, with the layouts that they have.
            unsafe {
                let block = OnLines.alloc_zeroed(of(from));
                assert!((0..from).all(|at| block.add(at).read() == 0));
                (0..from).for_each(|at| block.add(at).write(at as u8));
                let moved = OnLines.realloc(block, of(from), to);
                assert!(
                    moved.addr().is_multiple_of(if to < LARGE { align } else { align.max(LINE) }),
                    "{from} to {to}"
                );
                assert!((0..from.min(to)).all(|at| moved.add(at).read() == at as u8), "{from} to {to}");
                OnLines.dealloc(moved, of(to));
            }
        }
    }
}
