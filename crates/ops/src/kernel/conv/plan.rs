//! How the patches of a product are cut into blocks and tiles, and what each block gathers.
//!
//! Patches that do not overlap are gathered as they are: a row of a block for each. Where they overlap, at a step of one
//! pixel, and the tiles are tall, a block gathers *pixels*, each once: a row for each pixel of some rows of the padded image.
//! The patches under one position of the kernel are then rows that follow one another, so that a tile reads them where they
//! lie; a product is the sum over the kernel's positions (*taps*). Tiles take what follows, across the ends of the image's
//! rows: the results of the few patches that are none are dropped.

use std::ops::Range;

use super::{
    gather::{Patches, Spot},
    tasks::{balanced, tiled},
};
use crate::kernel::operands::{PITCH, Tile};

/// The share of the tiles' rows that must have a result for blocks to gather pixels: that of images of 7 pixels is 0.77, of 4
/// pixels 0.5.
const ENOUGH: f64 = 0.7;

/// How the patches of a pass are cut into blocks.
pub(super) struct Plan {
    patches: Patches,
    tile: Tile,
    /// Whether blocks gather pixels.
    by_pixels: bool,
    /// Ranges of patches, or of tiles if they gather pixels.
    blocks: Vec<Range<usize>>,
}

/// What a block gathers, and its tiles.
#[derive(Default)]
pub(super) struct Block {
    /// The patch, or pixel, of each row.
    pub(super) gathered: Vec<Spot>,
    pub(super) tiles: Vec<TileRows>,
    /// The patches with a result, and the row of the results in which it is.
    pub(super) patches: Vec<Spot>,
    pub(super) rows: Vec<usize>,
}

/// The rows of a tile.
pub(super) struct TileRows {
    /// Its first row of what is gathered, for the first tap.
    pub(super) from: usize,
    /// Its first row of the results.
    pub(super) to: usize,
    pub(super) count: usize,
    /// Which patches of the block are its own.
    pub(super) patches: Range<usize>,
}

impl Plan {
    pub(super) fn new(patches: &Patches, tile: &Tile) -> Plan {
        let mut plan = Plan { patches: *patches, tile: *tile, by_pixels: by_pixels(patches, tile), blocks: Vec::new() };
        plan.blocks = if plan.by_pixels {
            balanced(0..patches.n * plan.tiles_per_image(), tile.pixels / tile.rows)
        } else {
            balanced(0..patches.pixels(), tile.pixels)
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
        if self.by_pixels {
            (0..self.blocks()).map(count).collect()
        } else {
            self.blocks.iter().map(Range::len).collect()
        }
    }

    /// What is gathered: patches, or the pixels of padded images as patches of one pixel.
    pub(super) fn gathered(&self) -> Patches {
        if !self.by_pixels {
            return self.patches;
        }
        let Patches { kh, grid_h, .. } = self.patches;
        Patches { kh: 1, kw: 1, grid_h: grid_h + kh - 1, grid_w: self.width(), ..self.patches }
    }

    /// The floats from what a tile reads for the first tap to what it reads for each.
    pub(super) fn taps(&self) -> Vec<usize> {
        if !self.by_pixels {
            return vec![0];
        }
        let Patches { kh, kw, .. } = self.patches;
        (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))).map(|(y, x)| (y * self.width() + x) * PITCH).collect()
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
        if !self.by_pixels {
            gathered.extend(self.patches.spots(range.clone()));
            patches.extend_from_slice(gathered);
            rows.extend(0..range.len());
            tiles.extend(tiled(range.len(), &self.tile).into_iter().map(|rows| TileRows {
                from: rows.start,
                to: rows.start,
                count: rows.len(),
                patches: rows,
            }));
            return;
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
                tiles.push(TileRows { from: start + first, to, count: height, patches: before..patches.len() });
            }
            let end = positions.end + (kh - 1) * width + kw - 1;
            gathered.extend((positions.start..end).map(|at| Spot { image, row: at / width, column: at % width }));
        }
    }
}

/// Whether the blocks of these patches gather pixels.
pub(super) fn by_pixels(patches: &Patches, tile: &Tile) -> bool {
    let Patches { c, kh, kw, step, grid_w, .. } = *patches;
    // A step of the tile reads one tap; the pixels around a block must not be more than those in it.
    let overlap = step == 1 && kh * kw > 1 && c.is_multiple_of(tile.unit());
    let used = (patches.grid_h * grid_w) as f64 / (tiles_per_image(patches, tile) * tile.rows) as f64;
    overlap && tile.steps > 1 && (kh - 1) * (grid_w + kw - 1) <= tile.pixels && used >= ENOUGH
}

/// Pixels in a row of a padded image.
fn width(patches: &Patches) -> usize {
    patches.grid_w + patches.kw - 1
}

fn tiles_per_image(patches: &Patches, tile: &Tile) -> usize {
    (patches.grid_h * width(patches)).div_ceil(tile.rows)
}
