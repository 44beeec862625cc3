//! Where the global branch looks, as images: the radiograph with boxes, the heat map over it, and the crop.

use cxr::heatmap::{self, Cells};
use cxr::{BBox, EvalFrame};

use crate::encode::{encode_rgb, encode_rgba};
use crate::grey::Grey;

/// Colour of the attended region.
pub const REGION: [u8; 3] = [0xff, 0xb0, 0x00];
/// Colour of a region that is a control of a study, put elsewhere than where the network looks.
pub const CONTROL: [u8; 3] = [0xff, 0x5c, 0xc8];
/// Colour of the drawn boxes.
pub const TRUTH: [u8; 3] = [0x3d, 0xdb, 0xd9];

/// An image is enlarged by a whole number to about this width, pixels.
const WIDTH: usize = 256;
/// Opacity of the heat map where it is hottest.
const OPACITY: f32 = 0.6;

/// A heat map, `[height, width]` row-major; not negative.
#[derive(Debug, Clone, Copy)]
pub struct HeatMap<'a> {
    /// The cells.
    pub values: &'a [f32],
    /// Height and width, cells.
    pub shape: (usize, usize),
    /// Side of the network's input, px.
    pub input_px: usize,
    /// Where the cells lie in the network's input; `None`: they divide it evenly.
    pub cells: Option<Cells>,
}

/// What an overlay shows.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// The square image, whose side is `frame.image_px`.
    pub image: &'a Grey,
    /// The square crop.
    pub crop: &'a Grey,
    /// Where the global branch looks.
    pub heat: HeatMap<'a>,
    /// The part of the image that the heat map covers.
    pub frame: EvalFrame,
    /// The attended region, in the image.
    pub region: BBox,
    /// Whether the region is a control, and no attended one.
    pub control: bool,
    /// Boxes that were drawn by people, in the image.
    pub drawn: &'a [BBox],
}

impl Overlay<'_> {
    /// Three panels side by side as one RGB PNG: the image with its boxes, the heat map over it, the crop.
    pub fn panels(&self) -> Vec<u8> {
        let k = WIDTH.div_ceil(self.frame.image_px.max(1)).max(1);
        let side = k * self.frame.image_px;
        let (offset, heat_side) = (k * self.frame.offset_px(), k * self.frame.side_px());
        let [image, crop] = [self.image, self.crop].map(|image| enlarged(image, side));
        let heat = self.heat.at(heat_side);
        let mut panels = Canvas { width: 3 * side, height: side, pixels: vec![0; 3 * side * side * 3] };
        for y in 0..side {
            for x in 0..side {
                let grey = image[y * side + x];
                panels.set(x, y, [grey as u8; 3]);
                let inside = |at: usize| (offset..offset + heat_side).contains(&at);
                let heat = if inside(x) && inside(y) { heat[(y - offset) * heat_side + x - offset] } else { 0.0 };
                let (alpha, colour) = (OPACITY * heat, hot(heat));
                let mixed = [0, 1, 2].map(|c| (grey * (1.0 - alpha) + colour[c] * alpha) as u8);
                panels.set(side + x, y, mixed);
                panels.set(2 * side + x, y, [crop[y * side + x] as u8; 3]);
            }
        }
        for left in [0, side] {
            for drawn in self.drawn {
                panels.outline(drawn, k, left, side, TRUTH);
            }
            panels.outline(&self.region, k, left, side, if self.control { CONTROL } else { REGION });
        }
        encode_rgb(&panels.pixels, panels.width as u32, panels.height as u32)
    }
}

impl HeatMap<'_> {
    /// The heat map alone as a small RGBA PNG, to be laid over its frame in the image and smoothed by the viewer.
    pub fn layer(&self) -> Vec<u8> {
        const SIDE: usize = 56;
        let mut pixels = Vec::with_capacity(SIDE * SIDE * 4);
        for heat in self.at(SIDE) {
            pixels.extend(hot(heat).map(|value| value as u8));
            pixels.push((255.0 * OPACITY * heat) as u8);
        }
        encode_rgba(&pixels, SIDE as u32, SIDE as u32)
    }

    /// The map at `side` x `side`, brought to 0..1 for display: `attend.normalise = "none"` has no upper end.
    fn at(&self, side: usize) -> Vec<f32> {
        let top = self.values.iter().copied().fold(0.0, f32::max);
        if top <= 0.0 {
            return vec![0.0; side * side];
        }
        let scale = side as f32 / self.input_px as f32;
        let cells = self.cells.map(|cells| Cells { first_px: cells.first_px * scale, step_px: cells.step_px * scale });
        let heat = heatmap::upsample(self.values, self.shape, side, cells);
        heat.into_iter().map(|heat| (heat / top).clamp(0.0, 1.0)).collect()
    }
}

/// Grey values of a square image, enlarged or reduced to `side` x `side`.
fn enlarged(image: &Grey, side: usize) -> Vec<f32> {
    let values: Vec<f32> = image.pixels.iter().map(|&value| f32::from(value)).collect();
    heatmap::upsample(&values, (image.height as usize, image.width as usize), side, None)
}

/// Black over violet, red and orange to light yellow (five points of matplotlib's inferno).
fn hot(heat: f32) -> [f32; 3] {
    const STOPS: [[f32; 3]; 5] =
        [[0.0, 0.0, 4.0], [87.0, 16.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];
    let place = heat.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let i = (place as usize).min(STOPS.len() - 2);
    let u = place - i as f32;
    [0, 1, 2].map(|c| STOPS[i][c] * (1.0 - u) + STOPS[i + 1][c] * u)
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        let at = (y * self.width + x) * 3;
        self.pixels[at..at + 3].copy_from_slice(&colour);
    }

    /// Two pixels thick, inside the box, in the panel that begins at column `left`.
    fn outline(&mut self, bbox: &BBox, k: usize, left: usize, width: usize, colour: [u8; 3]) {
        let end = |value: f32, most: usize| ((value * k as f32).round().max(0.0) as usize).min(most);
        let (x0, x1) = (end(bbox.x_min, width), end(bbox.x_max, width));
        let (y0, y1) = (end(bbox.y_min, self.height), end(bbox.y_max, self.height));
        for y in y0..y1 {
            for x in x0..x1 {
                if x < x0 + 2 || x + 2 >= x1 || y < y0 + 2 || y + 2 >= y1 {
                    self.set(left + x, y, colour);
                }
            }
        }
    }
}
