//! How many files are read at a time.

use std::path::Path;
use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Objects that are read at a time: each costs a bucket's latency, which is as long as decoding several images.
const IN_FLIGHT: usize = 32;

/// Does something on as many threads as keep this machine busy: one for each core where files are on disk; more where
/// they come from a bucket, because most threads wait.
pub(crate) fn enough<T: Send>(root: &Path, work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    if !files::is_remote(root) {
        return work();
    }
    let threads = rayon::current_num_threads().max(IN_FLIGHT);
    match POOL.get_or_init(|| ThreadPoolBuilder::new().num_threads(threads).build().ok()) {
        Some(pool) => pool.install(work),
        None => work(),
    }
}
