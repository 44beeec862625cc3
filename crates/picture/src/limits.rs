//! How large an image may be: bounds on memory that hold before any is taken.

/// The most pixels a file may claim, 2^26: sixteen times NIH's original scans (about 3000 x 3000).
pub const MAX_PIXELS: u64 = 1 << 26;

/// The most pixels a side: a resizer's tables and intermediate images grow with it.
pub const MAX_SIDE: u32 = 1 << 15;

/// The most bytes of a file, and of a data set after it is inflated: [`MAX_PIXELS`] in RGBA.
pub const MAX_BYTES: u64 = 1 << 28;

/// What a header says of the pixels, and what its decoder holds at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// Width in pixels.
    pub(crate) width: u32,
    /// Height in pixels.
    pub(crate) height: u32,
    /// Bytes for each pixel, its grey value included.
    pub(crate) per_pixel: u64,
    /// Bytes beside those.
    pub(crate) more: u64,
}
