//! What a tile of a matrix product takes.

/// The most rows a tile has.
pub(crate) const MAX_ROWS: usize = 32;

/// Floats from row to row of a block in scratch memory: 256 plus a cache line, because rows that are a multiple of 4 KiB
/// apart evict one another from the first-level cache.
pub(crate) const PITCH: usize = DEPTH + 16;

/// The most values in a row of a block in scratch memory.
pub(crate) const DEPTH: usize = 256;

/// The bf16 numbers whose sum is an `f32`, where these are multiplied by instructions for bf16 ([`Tile::parts`]).
pub(crate) const PARTS: usize = 3;

/// Floats from part to part of a row of `A` whose values have [`PARTS`].
pub(crate) const PART: usize = 64;

/// Floats from row to row of `A` where these are patches that overlap in a line of an image ([`Tile::lines`]): twice three
/// bf16 values, those of the two pixels from patch to patch.
pub(crate) const LINE_STEP: usize = 3;

/// The most lines that are gathered at once.
pub(crate) const LINES: usize = 16;

/// Floats from part to part of `A` then.
pub(crate) const PLANE: usize = LINES * PITCH;

/// The operands of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// Steps of `k`.
    pub(crate) depth: usize,
    /// `A[0][0]`.
    pub(crate) a: *const f32,
    /// Floats from `A[r][k]` to `A[r][k + 1]`.
    pub(crate) a_step: usize,
    /// `B[0][0]`.
    pub(crate) b: *const f32,
    /// Floats from `B[k][0]` to `B[k + 1][0]`.
    pub(crate) b_step: usize,
    /// Floats from part to part of `B`, where it has several.
    pub(crate) b_part: usize,
    /// Floats from `A` to each of those that are multiplied and added up, where the tile [takes several](Tile::taps);
    /// otherwise [`ONE_TAP`].
    pub(crate) taps: &'a [usize],
    /// Floats from what the first of them is multiplied by to what the second is.
    pub(crate) b_tap: usize,
    /// Whether the sums are added to `C` or replace it.
    pub(crate) accumulate: bool,
    /// `C[0][0]`.
    pub(crate) c: *mut f32,
    /// Floats from row to row of `C`.
    pub(crate) c_row: usize,
}

/// `A` alone.
pub(crate) const ONE_TAP: &[usize] = &[0];

/// Computes a tile. Arguments: number of rows, operands.
pub(crate) type TileFn = unsafe fn(usize, &Operands);

/// A tile for one instruction set, and its size.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// The most rows.
    pub(crate) rows: usize,
    /// The columns.
    pub(crate) columns: usize,
    /// Values of `k` that a step takes: 1, or 2 where `A` and `B` are pairs of bf16.
    pub(crate) group: usize,
    /// The numbers whose sum is a value of `A` or `B`: 1, or [`PARTS`] where `f32` are multiplied by instructions for bf16.
    pub(crate) parts: usize,
    /// The most values of `k` in a row of `A`.
    pub(crate) depth: usize,
    /// The number of steps must be a multiple of this.
    pub(crate) steps: usize,
    /// The most steps of several taps that it multiplies and adds up at once; 0 if it takes one tap.
    pub(crate) taps: usize,
    /// The most steps of a product, so that the operands of a tile share the first-level cache with a panel of `B`.
    pub(crate) span: usize,
    /// Pixels in a block.
    pub(crate) pixels: usize,
    /// For rows of `A` that are [`PITCH`] apart.
    ///
    /// # Safety
    ///
    /// `1..=rows` rows; everything the tile covers of `A`, `B` and `C` is readable, `C` is writable, and no other thread
    /// uses it. Where `steps` is not 1, it covers all `rows`, and those of `C` behind the last may be overwritten.
    pub(crate) pitched: TileFn,
    /// For rows of `A` that are adjacent, where there is such a function. Same safety contract as `pitched`.
    pub(crate) adjacent: Option<TileFn>,
    /// For rows of `A` that are [`LINE_STEP`] apart, with parts that are [`PLANE`] apart, where there is such a function. Same
    /// safety contract as `pitched`.
    pub(crate) lines: Option<TileFn>,
}

impl Tile {
    /// Values of `k` whose number must be a multiple of this, except at the end.
    pub(crate) fn unit(&self) -> usize {
        self.group * self.steps
    }

    /// The rows that a tile of that many covers.
    pub(crate) fn covers(&self, rows: usize) -> usize {
        if self.steps == 1 { rows } else { self.rows }
    }

    /// The steps for that many values of `k`, the last of which multiply zeros.
    pub(crate) fn steps_of(&self, values: usize) -> usize {
        values.div_ceil(self.unit()) * self.steps
    }
}
