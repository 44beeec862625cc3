//! What a kernel reads, and what it does to a value when it loads it.

/// Pixels in memory, and the per-channel function that is applied when they are loaded.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, T> {
    /// From the first element of the first pixel to the last element of the last pixel.
    pub(crate) data: &'a [T],
    /// Elements from one pixel to the next: the number of channels, or more where these are a part of a wider tensor.
    pub(crate) pitch: usize,
    pub(crate) prologue: Option<Prologue<'a>>,
}

/// `scale x + shift` per channel, followed by a ReLU if `relu`.
#[derive(Clone, Copy)]
pub(crate) struct Prologue<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) relu: bool,
}

impl Prologue<'_> {
    /// The smallest possible result.
    pub(crate) fn floor(&self) -> f32 {
        if self.relu { 0.0 } else { f32::NEG_INFINITY }
    }
}
