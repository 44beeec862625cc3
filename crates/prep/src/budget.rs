//! Memory for images that are being decoded, given out in bytes.

use std::sync::{Condvar, Mutex, PoisonError};

/// The memory that all workers share.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    used: Mutex<u64>,
    given_back: Condvar,
}

/// Some of it, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(total: u64) -> Budget {
        Budget { total, used: Mutex::new(0), given_back: Condvar::new() }
    }

    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Waits until so many bytes are free; a worker asks once for all that an image takes. More than there are altogether
    /// is all there is: whoever asks for that works alone.
    pub(crate) fn take(&self, bytes: u64) -> Part<'_> {
        let bytes = bytes.min(self.total);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used + bytes > self.total {
            used = self.given_back.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Part { budget: self, bytes }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        *self.budget.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.budget.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn no_more_is_out_than_there_is() {
        let (budget, out, most) = (Budget::new(100), AtomicU64::new(0), AtomicU64::new(0));
        (0..500_u64).into_par_iter().for_each(|i| {
            let bytes = [1, 40, 60, 99, 1000][i as usize % 5];
            let part = budget.take(bytes);
            most.fetch_max(out.fetch_add(part.bytes, Ordering::SeqCst) + part.bytes, Ordering::SeqCst);
            std::thread::yield_now();
            out.fetch_sub(part.bytes, Ordering::SeqCst);
        });
        assert!((60..=100).contains(&most.into_inner()));
        assert_eq!(*budget.used.lock().unwrap(), 0);
    }
}
