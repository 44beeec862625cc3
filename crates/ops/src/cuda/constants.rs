//! The numbers that the kernels and their callers share, from `cuda/constants.h`.

include!(concat!(env!("OUT_DIR"), "/constants.rs"));

/// Threads of a block.
pub(crate) const THREADS: u32 = ACROSS * DOWN;
