//! A thousand damaged inputs of every target: what `just fuzz` does for hours, in a minute, and the same each time.

use std::time::{Duration, Instant};

use fuzz::TARGETS;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Inputs of each target.
const INPUTS: usize = 1000;
/// An input takes less.
const LONGEST: Duration = Duration::from_secs(10);
/// All of them together take less memory.
const MOST_KB: u64 = 1_000_000;

/// One to four changes of `seed`, some of them taken from `other`.
fn mutated(rng: &mut impl Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..bytes.len() + 1);
        let end = (at + (1 << rng.random_range(0..6))).min(bytes.len());
        match rng.random_range(0..9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => {
                let from = rng.random_range(0..other.len() + 1);
                bytes.splice(at..end, other[from..].iter().copied().take(end - at));
            }
            4 => bytes[at..end].fill(rng.random()),
            5 => {
                // Sizes and counts, in either order of bytes.
                let number: u32 = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, u32::MAX][rng.random_range(0..7)];
                let number = if rng.random_bool(0.5) { number.to_be_bytes() } else { number.to_le_bytes() };
                bytes[at..end].iter_mut().zip(number).for_each(|(byte, new)| *byte = new);
            }
            6 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            7 if at < bytes.len() => bytes[at] = rng.random(),
            _ => bytes.insert(at, b"0 ,\n\"-\xff\0"[rng.random_range(0..8)]),
        }
    }
    bytes
}

#[test]
fn damaged_inputs_end_soon_in_little_memory() {
    let mut slowest = (Duration::ZERO, "");
    for target in TARGETS {
        let seeds = (target.seeds)();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..INPUTS {
            let [seed, other] = [0, 0].map(|_: i32| rng.random_range(0..seeds.len()));
            let bytes = mutated(&mut rng, &seeds[seed], &seeds[other]);
            let start = Instant::now();
            (target.read)(&bytes);
            slowest = slowest.max((start.elapsed(), target.name));
        }
    }
    assert!(slowest.0 < LONGEST, "{slowest:?}");
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MOST_KB, "{peak} kB");
}
