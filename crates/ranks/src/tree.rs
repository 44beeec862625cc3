//! The order in which a sum is taken, and who takes which part of it.

use std::ops::AddAssign;
use std::ops::Range;

/// Adds up parts of one length that lie behind each other, in a binary tree over their order; the sum is where the first
/// part was.
pub(crate) fn add<T: Copy + AddAssign>(parts: &mut [T], len: usize) {
    let count = parts.len().checked_div(len).unwrap_or(0);
    let mut stride = 1;
    while stride < count {
        for first in (0..count - stride).step_by(2 * stride) {
            let (left, right) = parts.split_at_mut((first + stride) * len);
            let (left, right) = (&mut left[first * len..][..len], &right[..len]);
            left.iter_mut().zip(right).for_each(|(sum, &value)| *sum += value);
        }
        stride *= 2;
    }
}

/// The part of `len` things in a row that rank `rank` of `size` has: sizes differ by one at most, and no rank has more of
/// fewer things.
pub(crate) fn part(len: usize, rank: usize, size: usize) -> Range<usize> {
    let start = |rank: usize| rank * (len / size) + rank.min(len % size);
    start(rank)..start(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_fixed() {
        let sum = |count: usize| {
            let mut parts: Vec<f32> = (0..count).flat_map(|rank| [1.0 / (rank + 3) as f32, 1.0]).collect();
            add(&mut parts, 2);
            assert_eq!(parts[1], count as f32);
            parts[0]
        };
        let one = |rank: usize| 1.0 / (rank + 3) as f32;
        assert_eq!(sum(1), one(0));
        assert_eq!(sum(2), one(0) + one(1));
        assert_eq!(sum(3), one(0) + one(1) + one(2));
        assert_eq!(sum(5), ((one(0) + one(1)) + (one(2) + one(3))) + one(4));
        assert_eq!(sum(8), ((one(0) + one(1)) + (one(2) + one(3))) + ((one(4) + one(5)) + (one(6) + one(7))));
        add::<f32>(&mut [], 0);
    }

    #[test]
    fn parts_tile() {
        for (len, size) in [(0, 3), (1, 4), (7, 3), (64, 4), (65, 4)] {
            let parts: Vec<_> = (0..size).map(|rank| part(len, rank, size)).collect();
            assert_eq!((parts[0].start, parts[size - 1].end), (0, len));
            assert!(parts.windows(2).all(|two| two[0].end == two[1].start));
            let lens = || parts.iter().map(ExactSizeIterator::len);
            assert!(lens().max() <= lens().min().map(|least| least + 1));
            assert!((0..len).all(|fewer| (0..size).all(|rank| part(fewer, rank, size).len() <= parts[rank].len())));
        }
    }
}
