//! How passes are divided into tasks. The division depends on the shapes alone, but for panels of weights, whose division changes
//! no bit: it depends on the number of threads too.

use std::ops::Range;

use rayon::prelude::*;

use crate::kernel::{isa::vectorised, operands::Tile};

/// The number of tasks of a large enough pass: several per core, so that the cores finish together.
pub(super) const TASKS: usize = 48;

/// The fewest tasks that a pass is divided into, where more of them have a price.
const FEW_TASKS: usize = 16;

/// In how many parts a sum whose result has so many `blocks` is computed, each with a result of `len` floats; `read` are the
/// values that are summed up. Results that are more than those cost more memory traffic than is saved by more tasks.
pub(super) fn sum_parts(blocks: usize, read: usize, len: usize) -> usize {
    TASKS.div_ceil(blocks).min(FEW_TASKS.div_ceil(blocks).max(read / len.max(1)))
}

/// [`balanced`] pieces of `0..depth`, each of which starts at a multiple of `group`.
pub(super) fn in_steps(depth: usize, most: usize, group: usize) -> Vec<Range<usize>> {
    let steps = balanced(0..depth.div_ceil(group), most / group);
    steps.into_iter().map(|steps| steps.start * group..(steps.end * group).min(depth)).collect()
}

/// Cuts a range into as few pieces of at most `most` elements as possible, all of about the same length.
pub(super) fn balanced(range: Range<usize>, most: usize) -> Vec<Range<usize>> {
    let pieces = range.len().div_ceil(most);
    let cut = |piece: usize| range.start + piece * range.len() / pieces.max(1);
    (0..pieces).map(|piece| cut(piece)..cut(piece + 1)).collect()
}

/// The rows of the tiles that cover that many rows: whole tiles and a rest where each computes all its rows anyway, tiles of
/// about the same height otherwise.
pub(super) fn tiled(rows: usize, tile: &Tile) -> Vec<Range<usize>> {
    if tile.steps == 1 {
        return balanced(0..rows, tile.rows);
    }
    (0..rows).step_by(tile.rows).map(|row| row..(row + tile.rows).min(rows)).collect()
}

/// The sum of consecutive arrays of `len` floats; there must be at least one.
pub(super) fn summed(mut parts: Vec<f32>, len: usize) -> Vec<f32> {
    if parts.len() > len {
        let (sum, others) = parts.split_at_mut(len);
        sum.par_chunks_mut(4096).enumerate().for_each(|(chunk, sum)| {
            for other in others.chunks_exact(len) {
                let other = &other[chunk * 4096..][..sum.len()];
                vectorised(|| sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other));
            }
        });
        parts.truncate(len);
        parts.shrink_to_fit();
    }
    parts
}
