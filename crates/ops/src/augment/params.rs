//! The parameters of an augmentation.

use candle_core::Result;

use crate::error::Error;

/// How one input is made from an image. The steps are, in this order: rotate the image, crop a window, resize the window to
/// the input's side, flip it, change its brightness, change its contrast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentParams {
    /// Index of the image.
    pub index: usize,
    /// First column of the window, in px.
    pub x: usize,
    /// First row of the window, in px.
    pub y: usize,
    /// Width of the window in px, at least 1.
    pub width: usize,
    /// Height of the window in px, at least 1.
    pub height: usize,
    /// Rotation about the image's centre in degrees, counter-clockwise.
    pub degrees: f64,
    /// Whether left and right are exchanged.
    pub flip: bool,
    /// Factor of the grey values.
    pub brightness: f32,
    /// Factor of the grey values' distances from their mean.
    pub contrast: f32,
}

impl AugmentParams {
    /// A window `[x, y, width, height]` of an image, otherwise unchanged.
    pub fn crop(index: usize, [x, y, width, height]: [usize; 4]) -> AugmentParams {
        AugmentParams { index, x, y, width, height, degrees: 0.0, flip: false, brightness: 1.0, contrast: 1.0 }
    }

    /// Sine and cosine of the angle of rotation.
    pub(crate) fn sin_cos(&self) -> (f32, f32) {
        (self.degrees.to_radians().sin() as f32, self.degrees.to_radians().cos() as f32)
    }

    /// Fails unless the window is inside one of `images` images of `size` px.
    pub(super) fn check(&self, op: &'static str, images: usize, size: usize) -> Result<()> {
        let end = |first: usize, len: usize| first.checked_add(len).filter(|_| len > 0).unwrap_or(usize::MAX);
        if self.index < images && end(self.x, self.width).max(end(self.y, self.height)) <= size {
            return Ok(());
        }
        let expected = format!("a window in one of {images} images of {size} px");
        Err(Error::Parameter { op, name: "params", expected, got: format!("{self:?}") }.into())
    }
}

/// The largest side of an input in px.
const MAX_SIDE: usize = 1 << 15;

/// Fails unless an input of `side` px can be made.
pub(super) fn check_side(op: &'static str, side: usize) -> Result<()> {
    if (1..=MAX_SIDE).contains(&side) {
        return Ok(());
    }
    let (expected, got) = (format!("1 to {MAX_SIDE} px"), side.to_string());
    Err(Error::Parameter { op, name: "side", expected, got }.into())
}

/// The normalisation of each input channel, for grey values of 0 to 1: `(grey - mean) / deviation`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Colours {
    /// Mean of each channel.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub deviation: [f32; 3],
}
