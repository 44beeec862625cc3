//! Images whose label is known.

use crate::{Labels, OUTPUTS};

/// Those images whose label of one output is known, in the order of the images they were taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    output: usize,
    /// Their positions in the caller's slices.
    pub images: Vec<u32>,
    /// Whether each shows the output.
    pub truth: Vec<bool>,
}

impl Known {
    /// Those of all images.
    ///
    /// # Panics
    /// If `output` is not below 15.
    pub fn of(labels: &[Labels], output: usize) -> Known {
        Known::among(labels, output, 0..labels.len() as u32)
    }

    /// Those of some images, given by their positions in `labels`.
    ///
    /// # Panics
    /// If a position is out of range or `output` is not below 15.
    pub fn among(labels: &[Labels], output: usize, images: impl IntoIterator<Item = u32>) -> Known {
        let truth = |image: u32| Some((image, labels[image as usize].outputs()[output]?));
        let (images, truth) = images.into_iter().filter_map(truth).unzip();
        Known { output, images, truth }
    }

    /// Their scores of the output.
    ///
    /// # Panics
    /// If there are fewer `logits` than labels were.
    pub fn scores(&self, logits: &[[f32; OUTPUTS]]) -> Vec<f32> {
        self.images.iter().map(|&image| logits[image as usize][self.output]).collect()
    }

    /// How many show the output.
    pub fn positives(&self) -> usize {
        self.truth.iter().filter(|&&positive| positive).count()
    }
}
