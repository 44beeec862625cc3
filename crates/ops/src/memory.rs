//! How the process keeps its memory.

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
