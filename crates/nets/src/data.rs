//! Images with their labels, in memory or in a file.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use cxr::Labels;

use crate::error::{Error, Result};

/// Square grey images of one size, and what they show.
#[derive(Debug, Default)]
pub struct Images {
    size: usize,
    pixels: Pixels,
    labels: Vec<Labels>,
}

/// The grey values `[N, size, size]`.
enum Pixels {
    Memory(Vec<u8>),
    Disk(File),
}

/// Says how many there are.
impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Pixels::Memory(pixels) => write!(f, "{} bytes", pixels.len()),
            Pixels::Disk(file) => file.fmt(f),
        }
    }
}

impl Default for Pixels {
    fn default() -> Self {
        Pixels::Memory(Vec::new())
    }
}

impl Images {
    /// No images yet, of `size` px, in memory; there is room for `count`.
    pub fn in_memory(size: usize, count: usize) -> Images {
        Images {
            size,
            pixels: Pixels::Memory(Vec::with_capacity(count * size * size)),
            labels: Vec::with_capacity(count),
        }
    }

    /// No images yet, of `size` px, in a file: empty, of nobody else, and best without a name, so that it ends with the
    /// process.
    pub fn on_disk(size: usize, file: File) -> Images {
        Images { size, pixels: Pixels::Disk(file), labels: Vec::new() }
    }

    /// Appends an image, `[size, size]`, and what it shows.
    ///
    /// # Errors
    /// An image of another size; the disk is full.
    pub fn push(&mut self, image: &[u8], labels: Labels) -> Result<()> {
        if image.len() != self.bytes() {
            return Err(Error::shape("image", self.bytes(), image.len()));
        }
        match &mut self.pixels {
            Pixels::Memory(pixels) => pixels.extend_from_slice(image),
            Pixels::Disk(file) => file.write_all_at(image, (self.labels.len() * image.len()) as u64)?,
        }
        self.labels.push(labels);
        Ok(())
    }

    /// Side in px.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What the images show, in order.
    pub fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The grey values of one image, `[size, size]`.
    ///
    /// # Errors
    /// The file cannot be read.
    ///
    /// # Panics
    /// There is no such image.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        match &self.pixels {
            Pixels::Memory(pixels) => Ok(Cow::Borrowed(&pixels[index * self.bytes()..][..self.bytes()])),
            Pixels::Disk(_) => {
                let mut image = vec![0; self.bytes()];
                self.copy(index, &mut image)?;
                Ok(Cow::Owned(image))
            }
        }
    }

    /// Copies the grey values of one image to `image`, `[size, size]`.
    pub(crate) fn copy(&self, index: usize, image: &mut [u8]) -> Result<()> {
        match &self.pixels {
            Pixels::Memory(pixels) => image.copy_from_slice(&pixels[index * self.bytes()..][..self.bytes()]),
            Pixels::Disk(file) => file.read_exact_at(image, (index * self.bytes()) as u64)?,
        }
        Ok(())
    }

    /// The grey values of all images, `[N, size, size]`, where they are in memory.
    pub fn pixels(&self) -> Option<&[u8]> {
        match &self.pixels {
            Pixels::Memory(pixels) => Some(pixels),
            Pixels::Disk(_) => None,
        }
    }

    /// Bytes of one image.
    pub(crate) fn bytes(&self) -> usize {
        self.size * self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_the_same_in_memory_and_on_disk() {
        let [mut memory, mut disk] =
            [Images::in_memory(3, 2), Images::on_disk(3, tempfile::tempfile().unwrap())].map(|mut images| {
                images.push(&[7; 9], Labels::UNKNOWN).unwrap();
                images.push(&[1, 2, 3, 4, 5, 6, 7, 8, 9], Labels::default()).unwrap();
                assert!(matches!(images.push(&[7; 8], Labels::default()), Err(Error::Shape { .. })));
                images
            });
        assert!(memory.pixels().is_some() && disk.pixels().is_none());
        for index in [1, 0, 1] {
            assert_eq!(memory.image(index).unwrap(), disk.image(index).unwrap());
        }
        assert_eq!((disk.len(), disk.size(), disk.labels()), (2, 3, memory.labels()));
        // Appending goes on behind what was read.
        for images in [&mut memory, &mut disk] {
            images.push(&[8; 9], Labels::default()).unwrap();
        }
        assert_eq!(disk.image(2).unwrap(), [8; 9].as_slice());
    }
}
