use std::borrow::Cow;

use fast_image_resize as fir;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;

/// An 8-bit grey image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grey {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `height * width` grey values, row by row.
    pub pixels: Vec<u8>,
}

impl Grey {
    /// The image as a square of `size` px; what is not square is squeezed, as NIH's own 1024 x 1024 files are.
    ///
    /// Bilinear with antialiasing (a triangle filter as wide as the reduction), which is what torchvision's `Resize`
    /// does to Pillow images, and with it the recipe of the paper; equal to Pillow's within one grey level.
    pub fn square(&self, size: u32) -> Grey {
        self.crop([0.0, 0.0, f64::from(self.width), f64::from(self.height)], size)
    }

    /// The part `[left, top, right, bottom]`, in pixels that need not be whole, as a square of `size` px; resized as in
    /// [`Grey::square`]. Nothing outside the part has an influence; what is outside the image is left away.
    ///
    /// # Panics
    /// Where the part and the image share less than a thousandth of a pixel.
    pub fn crop(&self, [left, top, right, bottom]: [f64; 4], size: u32) -> Grey {
        let (width, height) = (f64::from(self.width), f64::from(self.height));
        let (left, right) = (left.clamp(0.0, width), right.clamp(0.0, width));
        let (top, bottom) = (top.clamp(0.0, height), bottom.clamp(0.0, height));
        assert!(right - left > 1e-3 && bottom - top > 1e-3, "an empty crop: {left} {top} {right} {bottom}");
        let whole = (right - left, bottom - top) == (width, height);
        if whole && (self.width, self.height) == (size, size) {
            return self.clone();
        }
        // Only the pixels that the part touches: the resizer would look beyond it.
        let (first_x, first_y) = (left.floor() as usize, top.floor() as usize);
        let (end_x, end_y) = (right.ceil() as usize, bottom.ceil() as usize);
        let touched: Cow<'_, [u8]> = if whole {
            Cow::Borrowed(&self.pixels)
        } else {
            let rows = self.pixels.chunks_exact(self.width as usize).skip(first_y).take(end_y - first_y);
            rows.flat_map(|row| &row[first_x..end_x]).copied().collect()
        };
        let (width, height) = ((end_x - first_x) as u32, (end_y - first_y) as u32);
        let source = TypedImageRef::<U8>::from_buffer(width, height, &touched).expect("one value per pixel");
        let options = fir::ResizeOptions::new()
            .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear))
            .crop(left - first_x as f64, top - first_y as f64, right - left, bottom - top);
        let mut resized = TypedImage::<U8>::new(size, size);
        // Typed: the other entry compiles the resizer for every type of pixel there is.
        fir::Resizer::new()
            .resize_typed(&source, &mut resized, &options)
            .expect("the part lies inside, and has pixels");
        Grey { width: size, height: size, pixels: resized.pixels().iter().map(|pixel| pixel.0).collect() }
    }

    /// How many of the 256 grey levels occur: few, where 12-bit values were stored in 16 bits without scaling.
    pub fn levels(&self) -> u32 {
        let mut occurs = [false; 256];
        for &value in &self.pixels {
            occurs[usize::from(value)] = true;
        }
        occurs.iter().map(|&occurs| u32::from(occurs)).sum()
    }

    /// Moves every value away from the image's mean by `factor` (1 leaves all as it is), as Pillow's
    /// `ImageEnhance.Contrast` does.
    pub fn contrast(&mut self, factor: f32) {
        if factor == 1.0 || self.pixels.is_empty() {
            return;
        }
        let sum: u64 = self.pixels.iter().map(|&value| u64::from(value)).sum();
        let mean = (sum as f64 / self.pixels.len() as f64 + 0.5).floor() as f32;
        for value in &mut self.pixels {
            *value = (mean + factor * (f32::from(*value) - mean)).clamp(0.0, 255.0) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_sees_its_part_and_nothing_else() {
        // Four quadrants of 8 x 8 px.
        let pixels = (0..256).map(|i| [[10, 60], [110, 160]][i / 128][i % 16 / 8]).collect();
        let grey = Grey { width: 16, height: 16, pixels };
        for (part, value) in [([0.0, 0.0, 8.0, 8.0], 10), ([8.0, 0.0, 16.0, 8.0], 60), ([9.5, 8.25, 15.0, 99.0], 160)] {
            for size in [4, 8, 32] {
                assert_eq!(grey.crop(part, size).pixels, vec![value; (size * size) as usize], "{part:?}");
            }
        }
        assert_eq!(grey.crop([0.0, 0.0, 16.0, 16.0], 16), grey);
        assert_eq!(grey.crop([-5.0, -5.0, 50.0, 50.0], 8), grey.square(8));
    }

    #[test]
    fn contrast_is_about_the_mean() {
        let grey_of = |pixels: &[u8]| Grey { width: 4, height: 1, pixels: pixels.to_vec() };
        let mut grey = grey_of(&[90, 110, 95, 105]);
        grey.contrast(2.0);
        assert_eq!(grey.pixels, [80, 120, 90, 110]);
        grey.contrast(100.0);
        assert_eq!(grey.pixels, [0, 255, 0, 255]);
        let mut same = grey_of(&[1, 2, 3, 4]);
        same.contrast(1.0);
        assert_eq!(same.pixels, [1, 2, 3, 4]);
    }
}
