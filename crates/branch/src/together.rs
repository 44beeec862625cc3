//! Passes over all images by several ranks, of which each computes its share.

use crate::error::Error;
use crate::parts::Parts;

/// What came of a pass over the images; where any rank was interrupted, all are.
///
/// # Errors
/// That of the pass; [`Error::Interrupted`].
pub(crate) fn agree(computed: Result<(), Error>) -> Result<(), Error> {
    let interrupted = matches!(computed, Err(Error::Interrupted));
    if !interrupted {
        computed?;
    }
    if ranks::world().any(interrupted) { Err(Error::Interrupted) } else { Ok(()) }
}

/// The rows of all images by their index, one behind the other, on rank 0, and none on the others; `None` where there is one
/// rank, which has them. `row` appends the row of an image of this rank's share.
pub(crate) fn gathered(parts: &Parts, row: impl Fn(usize, &mut Vec<f32>)) -> Option<Vec<f32>> {
    let world = ranks::world();
    if world.is_alone() {
        return None;
    }
    let mut rows = Vec::new();
    parts.mine().for_each(|index| row(index, &mut rows));
    let bytes = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
    // Shares are neighbours, in the order of the ranks.
    let of_ranks = world.collect(bytes).into_iter();
    Some(
        of_ranks
            .flat_map(|bytes| bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect::<Vec<_>>())
            .collect(),
    )
}
