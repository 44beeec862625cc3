//! Ranks that are linked by something else than MPI, as torchrun's are by NCCL.

use std::ops::AddAssign;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::launcher::{Place, Refused};
use crate::tree;

/// What moves bytes between the ranks of a job. All ranks call the same functions in the same order.
pub trait Link: Sync {
    /// The bytes of all ranks behind each other, from those of each, as many on each.
    ///
    /// # Errors
    /// Why the link does not work any more.
    fn gather(&self, bytes: &[u8]) -> Result<Vec<u8>, String>;

    /// Replaces the bytes by those of rank 0.
    ///
    /// # Errors
    /// As [`Link::gather`].
    fn broadcast(&self, bytes: &mut [u8]) -> Result<(), String>;

    /// Why the link does not work any more, if it does not; asked from another thread, now and then.
    fn failure(&self) -> Option<String>;

    /// Bytes that this rank has sent to others so far.
    fn sent(&self) -> u64;
}

/// Links a process to those that were started with it.
pub type Connect = fn(&Place) -> Result<&'static dyn Link, Refused>;

/// A link that broke: what the thread that waited for others unwinds with.
#[derive(Debug)]
pub struct Broken(pub String);

static CONNECT: OnceLock<Connect> = OnceLock::new();
/// What links the ranks.
static LINK: OnceLock<&'static dyn Link> = OnceLock::new();
/// What is asked for failures: the link, or one that MPI's ranks have beside MPI.
static WATCHED: OnceLock<&'static dyn Link> = OnceLock::new();
/// Whether nobody needs the link any more.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// The most bytes that a rank moves at once.
const PIECE: usize = 16 << 20;

/// Offers what links processes that torchrun starts, to [`start()`](crate::start()).
pub fn offer(connect: Connect) {
    // The first of several offers stands.
    let _ = CONNECT.set(connect);
}

pub(crate) fn connector() -> Option<Connect> {
    CONNECT.get().copied()
}

/// From now on ranks are linked by this.
pub(crate) fn link_by(link: &'static dyn Link) {
    // Called once.
    let _ = LINK.set(link);
    watch(link);
}

/// From now on [`failure()`] says what this link says.
pub fn watch(link: &'static dyn Link) {
    let _ = WATCHED.set(link);
}

/// Why this process cannot reach the others any more, if it cannot. Whoever waits for them waits for ever.
pub fn failure() -> Option<String> {
    WATCHED.get().filter(|_| !LEAVING.load(Ordering::SeqCst))?.failure()
}

pub(crate) fn link() -> Option<&'static dyn Link> {
    LINK.get().copied()
}

/// Bytes sent by a link that MPI's ranks have beside MPI, or by that of all.
pub(crate) fn sent() -> u64 {
    WATCHED.get().map_or(0, |link| link.sent())
}

/// A broken link is of no further interest.
pub(crate) fn leave() {
    LEAVING.store(true, Ordering::SeqCst);
}

fn whole<T>(said: Result<T, String>) -> T {
    said.unwrap_or_else(|why| std::panic::resume_unwind(Box::new(Broken(why))))
}

/// Replaces each value by its sum over all ranks.
pub(crate) fn sum<T: Copy + AddAssign, const B: usize>(
    link: &dyn Link,
    values: &mut [T],
    to: fn(T) -> [u8; B],
    from: fn([u8; B]) -> T,
) {
    for values in values.chunks_mut(PIECE / B) {
        let bytes: Vec<u8> = values.iter().flat_map(|&value| to(value)).collect();
        let mut parts: Vec<T> =
            whole(link.gather(&bytes)).as_chunks::<B>().0.iter().map(|&bytes| from(bytes)).collect();
        tree::add(&mut parts, values.len());
        values.copy_from_slice(&parts[..values.len()]);
    }
}

/// What each rank has, on every rank that keeps it.
pub(crate) fn gather(link: &dyn Link, bytes: &[u8], keeps: bool) -> Vec<Vec<u8>> {
    let number = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).unwrap_or(usize::MAX);
    let lens = whole(link.gather(&(bytes.len() as u64).to_le_bytes()));
    let lens: Vec<usize> = lens.as_chunks::<8>().0.iter().map(number).collect();
    let mut out = vec![Vec::new(); if keeps { lens.len() } else { 0 }];
    let longest = lens.iter().copied().max().unwrap_or(0);
    for at in (0..longest).step_by(PIECE) {
        let each = (longest - at).min(PIECE);
        let mut now = bytes.get(at..).unwrap_or_default().to_vec();
        now.resize(each, 0);
        let all = whole(link.gather(&now));
        for ((out, &len), got) in out.iter_mut().zip(&lens).zip(all.chunks_exact(each)) {
            out.extend_from_slice(&got[..len.saturating_sub(at).min(each)]);
        }
    }
    out
}

/// What rank 0 has, on every rank.
pub(crate) fn broadcast(link: &dyn Link, leads: bool, bytes: Vec<u8>) -> Vec<u8> {
    let mut len = (bytes.len() as u64).to_le_bytes();
    whole(link.broadcast(&mut len));
    let len = usize::try_from(u64::from_le_bytes(len)).unwrap_or(usize::MAX);
    let mut bytes = if leads { bytes } else { vec![0; len] };
    bytes.chunks_mut(PIECE).for_each(|piece| whole(link.broadcast(piece)));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three ranks that all have the same.
    struct Same;

    impl Link for Same {
        fn gather(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
            Ok(bytes.repeat(3))
        }

        fn broadcast(&self, _: &mut [u8]) -> Result<(), String> {
            Err("gone".to_owned())
        }

        fn failure(&self) -> Option<String> {
            None
        }

        fn sent(&self) -> u64 {
            0
        }
    }

    #[test]
    fn all_is_made_of_two_things() {
        let mut values = [0.1f32, 2.0];
        sum(&Same, &mut values, f32::to_le_bytes, f32::from_le_bytes);
        assert_eq!(values, [0.1 + 0.1 + 0.1, 6.0]);
        let long: Vec<u8> = (0..PIECE + 5).map(|byte| byte as u8).collect();
        assert!(gather(&Same, &long, true).iter().all(|got| *got == long));
        assert_eq!(gather(&Same, b"", true), [b"", b"", b""]);
        assert_eq!(gather(&Same, b"x", false), [b"x"; 0]);
        let broken = std::panic::catch_unwind(|| broadcast(&Same, true, vec![1])).unwrap_err();
        assert_eq!(broken.downcast_ref::<Broken>().unwrap().0, "gone");
    }
}
