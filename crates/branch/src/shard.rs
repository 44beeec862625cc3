//! The images of which this rank computes something: a part of each split, and all of them where there is one rank.

use std::ops::Range;

use cxr::{ImageKey, Split};
use ranks::World;

use crate::error::Error;
use crate::load::Images;

/// A part of the images of each split, in their order.
#[derive(Debug)]
pub(crate) struct Shard {
    world: &'static World,
    ranges: [Range<usize>; 3],
}

impl Shard {
    /// This rank's.
    pub(crate) fn of(images: &Images) -> Shard {
        let world = ranks::world();
        Shard { world, ranges: Split::ALL.map(|split| world.part(images.keys(split).len())) }
    }

    /// Whether these are all images.
    pub(crate) fn is_all(&self) -> bool {
        self.world.is_alone()
    }

    /// The number of its images.
    pub(crate) fn len(&self) -> usize {
        self.ranges.iter().map(ExactSizeIterator::len).sum()
    }

    /// Its images of a split.
    pub(crate) fn range(&self, split: Split) -> Range<usize> {
        self.ranges[split as usize].clone()
    }

    /// Its images of a split but the first `done`.
    pub(crate) fn rest(&self, split: Split, done: usize) -> Range<usize> {
        let Range { start, end } = self.range(split);
        start + done..end
    }

    /// The keys of its images.
    pub(crate) fn keys<'a>(&self, images: &'a Images) -> [&'a [ImageKey]; 3] {
        Split::ALL.map(|split| &images.keys(split)[self.range(split)])
    }

    /// What came of a pass over the images; where any rank was interrupted, all are.
    ///
    /// # Errors
    /// That of the pass; [`Error::Interrupted`].
    pub(crate) fn agree(&self, computed: Result<(), Error>) -> Result<(), Error> {
        let interrupted = matches!(computed, Err(Error::Interrupted));
        if !interrupted {
            computed?;
        }
        if self.world.any(interrupted) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// The rows of all images in the order of the splits, on rank 0, from each rank's rows of `width` values; none on the
    /// others.
    pub(crate) fn collect(&self, images: &Images, width: usize, rows: Vec<f32>) -> Vec<f32> {
        if self.is_all() {
            return rows;
        }
        let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        let of_ranks = self.world.collect(bytes);
        let mut rest: Vec<&[u8]> = of_ranks.iter().map(Vec::as_slice).collect();
        let mut all = Vec::new();
        for split in Split::ALL {
            for (rank, rest) in rest.iter_mut().enumerate() {
                let count = self.world.part_of(rank, images.keys(split).len()).len();
                let (now, later) = rest.split_at(count * width * size_of::<f32>());
                all.extend(now.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
                *rest = later;
            }
        }
        all
    }
}
