//! Random streams, each named by its purpose: no stream depends on how many numbers another one has given.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The stream of one purpose: `what` (at most 8 bytes) at `a`, `b` of a run with `seed`.
pub(crate) fn random(what: &[u8], seed: u64, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..what.len()].copy_from_slice(what);
    for (part, value) in key[8..].chunks_exact_mut(8).zip([seed, a, b]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// The order in which an epoch, counted from 0, shows `examples` examples.
pub(crate) fn order(examples: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..examples).collect();
    order.shuffle(&mut random(b"order", seed, epoch as u64, 0));
    order
}

/// Uniform in `0 .. 1`, 53 bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
