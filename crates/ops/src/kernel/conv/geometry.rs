//! The shape of a convolution, and what is done to its results.

use crate::kernel::{
    element::Element,
    operands::Tile,
    tile::{bf16_tile, f32_tile, tile},
};

/// The numbers in which a convolution multiplies: the type its activations are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    /// Twice the speed on a CPU with AVX512-BF16, three decimal digits instead of seven.
    Bf16,
}

impl Precision {
    pub(crate) const fn of<T: Element>() -> Precision {
        if T::BF16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// Bytes per element.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }

    pub(crate) fn tile(self) -> Tile {
        match self {
            Precision::F32 => f32_tile(),
            Precision::Bf16 => bf16_tile().unwrap_or_else(tile),
        }
    }

    /// The tile for values that vectors transform before: `f32` are not split into parts once more.
    pub(crate) fn vector_tile(self) -> Tile {
        if self == Precision::F32 { tile() } else { self.tile() }
    }
}

/// The shape of a convolution: `x [n, h, w, ci]`, `w [co, kh, kw, ci]`, `y [n, oh, ow, co]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) ci: usize,
    pub(crate) co: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    pub(crate) precision: Precision,
}

/// What is done to the sums of a convolution before they are stored.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a, T> {
    /// Added to every pixel, `[co]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// Added element by element, `[n, oh, ow, co]`.
    pub(crate) residual: Option<&'a [T]>,
    /// Whether a ReLU follows.
    pub(crate) relu: bool,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Epilogue { bias: None, residual: None, relu: false }
    }
}
