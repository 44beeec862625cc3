//! Augmentation: network inputs from stored grey images.
//!
//! An input is a window of an image, resized to the network's side. The image may be rotated before, and the result flipped
//! and changed in brightness and contrast after, in the order of torchvision's transforms but without rounding to whole grey
//! values in between. Resizing is bilinear, antialiased where it shrinks, as in Pillow. Rotation is bilinear, with black
//! outside the image. Who draws the random parameters is up to the caller.
//!
//! [`inputs`] computes on the CPU, `augment` (feature `cuda`) on the device, from the same [`AugmentParams`].

mod cpu;
pub(crate) mod params;
#[cfg(feature = "cuda")]
mod plan;

#[cfg(feature = "cuda")]
pub use self::plan::{AugmentPlan, augment};
pub use self::{
    cpu::inputs,
    params::{AugmentParams, Colours},
};
