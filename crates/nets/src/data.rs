//! Images in memory with their labels.

use cxr::Labels;

use crate::error::{Error, Result};

/// Square grey images of one size, and what they show.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// Side in px.
    pub size: usize,
    /// `[N, size, size]` grey.
    pub pixels: Vec<u8>,
    /// By image.
    pub labels: Vec<Labels>,
}

impl Images {
    /// The grey values of one image, `[size, size]`.
    pub fn image(&self, index: usize) -> &[u8] {
        let pixels = self.size * self.size;
        &self.pixels[index * pixels..][..pixels]
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub(crate) fn check(&self, what: &str) -> Result<()> {
        let expected = self.len() * self.size * self.size;
        if self.pixels.len() == expected {
            return Ok(());
        }
        let shape = format!("{} bytes of {} images of {} px", expected, self.len(), self.size);
        Err(Error::shape(format!("{what} images"), shape, self.pixels.len()))
    }
}
