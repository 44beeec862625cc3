//! How the patches of a product are cut into blocks and tiles, and what each block gathers.
//!
//! Patches that do not overlap are gathered as they are: a row of a block for each. Where they overlap, at a step of one
//! pixel, and the tiles are tall, a block gathers *pixels*, each once: a row for each pixel of some rows of the padded image.
//! The patches under one position of the kernel are then rows that follow one another, so that a tile reads them where they
//! lie; a product is the sum over the kernel's positions (*taps*). Tiles take what follows, across the ends of the image's
//! rows: the results of the few patches that are none are dropped.
//!
//! Where pixels have few values, as those of a radiograph, a patch has few in a line, one after the other, and the patch at its
//! side begins some values further. A block then gathers *lines*, each once, and tiles read patches where they overlap. A tap is
//! a row of the kernel, filled up with zeros: what is beyond a patch is multiplied by these, so it must be finite.

use std::ops::Range;

use super::{
    gather::{Patches, Spot},
    tasks::{balanced, tiled},
};
use crate::kernel::operands::{LINE_STEP, LINES, PITCH, Tile};

/// The share of the tiles' rows that must have a result for blocks to gather pixels: that of images of 7 pixels is 0.77, of 4
/// pixels 0.5.
const ENOUGH: f64 = 0.7;

/// The most patches in a line of a block.
const IN_LINE: usize = 64;

/// How the patches of a pass are cut into blocks.
pub(super) struct Plan {
    patches: Patches,
    tile: Tile,
    cut: Cut,
    /// Ranges of patches, of tiles if they gather pixels, of blocks if they gather lines.
    blocks: Vec<Range<usize>>,
}

/// What blocks gather.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Patches,
    Pixels,
    Lines,
}

/// What a block gathers, and its tiles.
#[derive(Default)]
pub(super) struct Block {
    /// The patch, pixel or line of each row.
    pub(super) gathered: Vec<Spot>,
    pub(super) tiles: Vec<TileRows>,
    /// The patches with a result, and the row of the results in which it is.
    pub(super) patches: Vec<Spot>,
    pub(super) rows: Vec<usize>,
}

/// The rows of a tile.
pub(super) struct TileRows {
    /// Floats from the start of what is gathered to its first row, for the first tap.
    pub(super) from: usize,
    /// Its first row of the results.
    pub(super) to: usize,
    pub(super) count: usize,
    /// Which patches of the block are its own.
    pub(super) patches: Range<usize>,
}

impl Plan {
    /// `lines`: whether the weights are for patches that are read in their lines.
    pub(super) fn new(patches: &Patches, tile: &Tile, lines: bool) -> Plan {
        let cut = match by_pixels(patches, tile) {
            _ if lines => Cut::Lines,
            true => Cut::Pixels,
            false => Cut::Patches,
        };
        let mut plan = Plan { patches: *patches, tile: *tile, cut, blocks: Vec::new() };
        plan.blocks = match cut {
            Cut::Patches => balanced(0..patches.pixels(), tile.pixels),
            Cut::Pixels => balanced(0..patches.n * plan.tiles_per_image(), tile.pixels / tile.rows),
            Cut::Lines => balanced(0..patches.n * plan.bands() * plan.pieces(), 1),
        };
        plan
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// How many patches each block has.
    pub(super) fn counts(&self) -> Vec<usize> {
        let mut block = Block::default();
        let count = |index| {
            self.fill(index, &mut block);
            block.patches.len()
        };
        match self.cut {
            Cut::Patches => self.blocks.iter().map(Range::len).collect(),
            Cut::Pixels | Cut::Lines => (0..self.blocks()).map(count).collect(),
        }
    }

    /// What is gathered: patches, or as patches of one row the pixels or lines of padded images.
    pub(super) fn gathered(&self) -> Patches {
        let Patches { c, kh, step, grid_h, .. } = self.patches;
        match self.cut {
            Cut::Patches => self.patches,
            Cut::Pixels => Patches { kh: 1, kw: 1, grid_h: grid_h + kh - 1, grid_w: self.width(), ..self.patches },
            // As far as the last patch's steps go.
            Cut::Lines => {
                Patches { kh: 1, kw: (IN_LINE - 1) * step + self.tile.unit().div_ceil(c), step: 1, ..self.patches }
            }
        }
    }

    /// The floats from what a tile reads for the first tap to what it reads for each.
    pub(super) fn taps(&self) -> Vec<usize> {
        let Patches { kh, kw, .. } = self.patches;
        match self.cut {
            Cut::Patches => vec![0],
            Cut::Pixels => (0..kh)
                .flat_map(|y| (0..kw).map(move |x| (y, x)))
                .map(|(y, x)| (y * self.width() + x) * PITCH)
                .collect(),
            Cut::Lines => (0..kh).map(|y| y * PITCH).collect(),
        }
    }

    /// The values that a tile reads for a tap.
    pub(super) fn tap_depth(&self) -> usize {
        match self.cut {
            Cut::Patches => self.patches.depth(),
            Cut::Pixels => self.patches.c,
            Cut::Lines => self.tile.unit(),
        }
    }

    /// The rows of patches that a block has, where it gathers lines.
    fn rows_of_lines(&self) -> usize {
        (LINES - self.patches.kh) / self.patches.step + 1
    }

    /// The blocks of an image along its height, and along a line, where they gather lines.
    fn bands(&self) -> usize {
        self.patches.grid_h.div_ceil(self.rows_of_lines())
    }

    fn pieces(&self) -> usize {
        self.patches.grid_w.div_ceil(IN_LINE)
    }

    fn width(&self) -> usize {
        width(&self.patches)
    }

    fn tiles_per_image(&self) -> usize {
        tiles_per_image(&self.patches, &self.tile)
    }

    /// Writes what a block gathers and its tiles to `block`, which is emptied before.
    pub(super) fn fill(&self, index: usize, block: &mut Block) {
        let Block { gathered, tiles, patches, rows } = block;
        gathered.clear();
        tiles.clear();
        patches.clear();
        rows.clear();
        let range = self.blocks[index].clone();
        if self.cut == Cut::Patches {
            gathered.extend(self.patches.spots(range.clone()));
            patches.extend_from_slice(gathered);
            rows.extend(0..range.len());
            tiles.extend(tiled(range.len(), &self.tile).into_iter().map(|rows| TileRows {
                from: rows.start * PITCH,
                to: rows.start,
                count: rows.len(),
                patches: rows,
            }));
            return;
        }
        if self.cut == Cut::Lines {
            return self.fill_lines(range.start, block);
        }
        let Patches { kh, kw, grid_h, grid_w, .. } = self.patches;
        let (width, height, per_image) = (self.width(), self.tile.rows, self.tiles_per_image());
        for image in range.start / per_image..range.end.div_ceil(per_image) {
            let own = range.start.max(image * per_image)..range.end.min((image + 1) * per_image);
            let positions = (own.start - image * per_image) * height..(own.end - image * per_image) * height;
            let start = gathered.len();
            for tile in own.clone() {
                let first = (tile - own.start) * height;
                let (to, before) = (tiles.len() * height, patches.len());
                for row in 0..height {
                    let at = positions.start + first + row;
                    let spot = Spot { image, row: at / width, column: at % width };
                    if spot.row < grid_h && spot.column < grid_w {
                        patches.push(spot);
                        rows.push(to + row);
                    }
                }
                tiles.push(TileRows {
                    from: (start + first) * PITCH,
                    to,
                    count: height,
                    patches: before..patches.len(),
                });
            }
            let end = positions.end + (kh - 1) * width + kw - 1;
            gathered.extend((positions.start..end).map(|at| Spot { image, row: at / width, column: at % width }));
        }
    }

    /// As [`Plan::fill`], where blocks gather lines.
    fn fill_lines(&self, index: usize, block: &mut Block) {
        let Patches { kh, step, grid_h, grid_w, .. } = self.patches;
        let (pieces, height) = (self.pieces(), self.tile.rows);
        let (image, band, piece) =
            (index / pieces / self.bands(), index / pieces % self.bands(), index % pieces * IN_LINE);
        let first = band * self.rows_of_lines();
        let own = first..(first + self.rows_of_lines()).min(grid_h);
        let lines = first * step..(own.end - 1) * step + kh;
        block.gathered.extend(lines.map(|row| Spot { image, row, column: piece * step }));
        for row in own {
            let end = (piece + IN_LINE).min(grid_w);
            for column in (piece..end).step_by(height) {
                let (to, before) = (block.tiles.len() * height, block.patches.len());
                let count = height.min(end - column);
                block.patches.extend((column..column + count).map(|column| Spot { image, row, column }));
                block.rows.extend(to..to + count);
                let from = (row - first) * step * PITCH + (column - piece) * LINE_STEP;
                block.tiles.push(TileRows { from, to, count: height, patches: before..before + count });
            }
        }
    }
}

/// Whether the blocks of these patches gather pixels.
pub(super) fn by_pixels(patches: &Patches, tile: &Tile) -> bool {
    let Patches { c, kh, kw, step, grid_w, .. } = *patches;
    // A step of the tile reads one tap; the pixels around a block must not be more than those in it.
    let overlap = step == 1 && kh * kw > 1 && c.is_multiple_of(tile.unit());
    if !overlap || tile.steps == 1 || (kh - 1) * (grid_w + kw - 1) > tile.pixels {
        return false;
    }
    let used = (patches.grid_h * grid_w) as f64 / (tiles_per_image(patches, tile) * tile.rows) as f64;
    used >= ENOUGH
}

/// Whether the blocks of these patches gather lines.
pub(super) fn by_lines(patches: &Patches, tile: &Tile) -> bool {
    let Patches { c, kh, kw, step, grid_w, .. } = *patches;
    let (line, unit) = (kw * c, tile.unit());
    let fits = step * c == 2 * LINE_STEP && line <= unit && kh <= LINES;
    // Not too much of what is multiplied are the zeros behind a patch, or tiles' rows behind a line.
    let used = line as f64 / unit as f64 * grid_w as f64 / grid_w.next_multiple_of(tile.rows) as f64;
    tile.lines.is_some() && fits && used >= 0.5
}

/// Pixels in a row of a padded image.
fn width(patches: &Patches) -> usize {
    patches.grid_w + patches.kw - 1
}

fn tiles_per_image(patches: &Patches, tile: &Tile) -> usize {
    (patches.grid_h * width(patches)).div_ceil(tile.rows)
}
