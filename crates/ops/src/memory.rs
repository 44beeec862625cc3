//! How the process keeps its memory.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with large blocks that start on a cache line: no vector of a tensor straddles two lines, and
/// results can be written past the caches. A program names it with `#[global_allocator]`; the kernels do without, more slowly.
pub struct OnLines;

const LINE: usize = 64;
/// The smallest block that starts on a cache line. Smaller ones stay as they are, because a vector that grows by pushing is
/// moved more cheaply then.
const LARGE: usize = 64 << 10;

fn on_line(layout: Layout) -> Layout {
    if layout.size() < LARGE {
        return layout;
    }
    // A size that cannot be rounded up to a cache line cannot be allocated either.
    layout.align_to(LINE).unwrap_or(layout)
}

// SAFETY: the layout is passed on with a larger alignment, which is a function of its size and alignment alone, so that a block
// is freed with the layout it was allocated with.
unsafe impl GlobalAlloc for OnLines {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, here and below.
        unsafe { System.alloc(on_line(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(on_line(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, on_line(layout)) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.size().max(new_size) < LARGE {
            // SAFETY: as above; neither layout is changed by `on_line`.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of all sizes around the smallest large one: where they start, and what is in them when they grow and shrink.
    #[test]
    fn large_blocks_start_on_lines_and_keep_their_contents() {
        let of = |size| Layout::from_size_align(size, 4).unwrap();
        let sizes = [16, LARGE - 4, LARGE, LARGE + 4, 3 * LARGE];
        for (from, to) in sizes.iter().flat_map(|from| sizes.iter().map(move |to| (*from, *to))) {
            // SAFETY: the blocks are used within their sizes, and freed once, with the layouts that they have.
            unsafe {
                let block = OnLines.alloc_zeroed(of(from));
                assert!((0..from).all(|at| block.add(at).read() == 0));
                (0..from).for_each(|at| block.add(at).write(at as u8));
                let moved = OnLines.realloc(block, of(from), to);
                assert!(to < LARGE || moved.addr().is_multiple_of(LINE), "{from} to {to}");
                assert!((0..from.min(to)).all(|at| moved.add(at).read() == at as u8), "{from} to {to}");
                OnLines.dealloc(moved, of(to));
            }
        }
    }
}
