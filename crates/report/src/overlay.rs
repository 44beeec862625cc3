//! Pictures of where the global branch looks: the radiograph with boxes, the heat map over it, and the crop.

use cxr::BBox;

use crate::Error;
use crate::drawing::{encode_rgb, encode_rgba};
use crate::localisation::Attended;

/// Colour of the attended region.
pub const REGION: [u8; 3] = [0xff, 0xb0, 0x00];
/// Colour of the drawn boxes.
pub const TRUTH: [u8; 3] = [0x3d, 0xdb, 0xd9];

/// A picture is enlarged by a whole number to about this width, pixels.
const WIDTH: usize = 256;
/// Opacity of the heat map where it is hottest.
const OPACITY: f32 = 0.6;

/// An 8-bit grey picture, row-major.
#[derive(Debug, Clone)]
pub struct Grey {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` values.
    pub pixels: Vec<u8>,
}

impl Grey {
    /// Value at a point in pixels, between the pixels around it.
    fn at(&self, x: f32, y: f32) -> f32 {
        bilinear(self.width, self.height, x, y, |i| f32::from(self.pixels[i]))
    }
}

/// Decodes an 8-bit grey PNG that prep or attend stored.
///
/// # Errors
/// [`Error::Picture`] naming the image.
pub fn decode(image_id: &str, bytes: &[u8]) -> Result<Grey, Error> {
    let bad = |reason: String| Error::Picture { image_id: image_id.to_owned(), reason };
    let mut reader =
        png::Decoder::new(std::io::Cursor::new(bytes)).read_info().map_err(|error| bad(error.to_string()))?;
    let size = reader.output_buffer_size().ok_or_else(|| bad("too large".into()))?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(|error| bad(error.to_string()))?;
    if (info.color_type, info.bit_depth) != (png::ColorType::Grayscale, png::BitDepth::Eight) {
        return Err(bad(format!("expected 8-bit grey, got {:?} {:?}", info.bit_depth, info.color_type)));
    }
    pixels.truncate(info.buffer_size());
    if pixels.is_empty() {
        return Err(bad("no pixels".into()));
    }
    Ok(Grey { width: info.width as usize, height: info.height as usize, pixels })
}

/// Three panels side by side as one RGB PNG: the picture with its boxes, the heat map over it, the crop.
/// `frame` is where the heat map lies in the picture, pixels.
///
/// # Errors
/// Encoding fails, a bug.
pub fn draw(picture: &Grey, crop: &Grey, attended: &Attended, frame: BBox) -> Result<Vec<u8>, Error> {
    let k = WIDTH.div_ceil(picture.width.max(1)).max(1);
    let (width, height) = (picture.width * k, picture.height * k);
    let mut panels = Canvas { width: 3 * width, height, pixels: vec![0; 3 * width * height * 3] };
    let region = attended.region;
    let heat = Heat::new(&region.heatmap, (region.heatmap_height, region.heatmap_width));
    for y in 0..height {
        for x in 0..width {
            // Centre of the drawn pixel in the picture's coordinates.
            let (u, v) = ((x as f32 + 0.5) / k as f32, (y as f32 + 0.5) / k as f32);
            let grey = picture.at(u, v);
            panels.set(x, y, [grey as u8; 3]);
            let heat = if frame.contains((u, v)) { heat.at(&frame, u, v) } else { 0.0 };
            let (alpha, colour) = (OPACITY * heat, hot(heat));
            let mixed = [0, 1, 2].map(|c| (grey * (1.0 - alpha) + colour[c] * alpha) as u8);
            panels.set(width + x, y, mixed);
            let (u, v) = ((x as f32 + 0.5) / width as f32, (y as f32 + 0.5) / height as f32);
            panels.set(2 * width + x, y, [crop.at(u * crop.width as f32, v * crop.height as f32) as u8; 3]);
        }
    }
    for left in [0, width] {
        for drawn in &attended.image.boxes {
            panels.outline(&drawn.bbox, k, left, width, TRUTH);
        }
        panels.outline(&region.bbox, k, left, width, REGION);
    }
    Ok(encode_rgb(&panels.pixels, panels.width as u32, panels.height as u32)?)
}

/// The heat map alone as a small RGBA PNG, to be laid over its frame in the picture and smoothed by the viewer.
///
/// # Errors
/// Encoding fails, a bug.
pub fn heat(region: &tables::regions::Row) -> Result<Vec<u8>, Error> {
    const SIDE: usize = 56;
    let heat = Heat::new(&region.heatmap, (region.heatmap_height, region.heatmap_width));
    let frame = BBox::frame(SIDE as f32, SIDE as f32);
    let mut pixels = Vec::with_capacity(SIDE * SIDE * 4);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let heat = heat.at(&frame, x as f32 + 0.5, y as f32 + 0.5);
            pixels.extend(hot(heat).map(|value| value as u8));
            pixels.push((255.0 * OPACITY * heat) as u8);
        }
    }
    Ok(encode_rgba(&pixels, SIDE as u32, SIDE as u32)?)
}

/// A heat map brought to 0..1 for display: `attend.normalise = "none"` has no upper end.
struct Heat<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    top: f32,
}

impl<'a> Heat<'a> {
    fn new(values: &'a [f32], (rows, columns): (usize, usize)) -> Self {
        let top = values.iter().copied().fold(0.0, f32::max);
        Heat { values, rows, columns, top }
    }

    /// Value at a point of the picture, pixel centres aligned, as attend enlarges it.
    fn at(&self, frame: &BBox, x: f32, y: f32) -> f32 {
        if self.top <= 0.0 || self.values.len() != self.rows * self.columns {
            return 0.0;
        }
        let u = (x - frame.x_min) / frame.width() * self.columns as f32;
        let v = (y - frame.y_min) / frame.height() * self.rows as f32;
        let heat = bilinear(self.columns, self.rows, u, v, |i| self.values[i]);
        (heat / self.top).clamp(0.0, 1.0)
    }
}

/// Value at `(x, y)` of a row-major map whose cell `i` has its centre at `i + 0.5`; constant beyond the outer centres.
fn bilinear(width: usize, height: usize, x: f32, y: f32, at: impl Fn(usize) -> f32) -> f32 {
    let tap = |position: f32, n: usize| {
        let position = (position - 0.5).clamp(0.0, (n - 1) as f32);
        let first = position as usize;
        (first, (first + 1).min(n - 1), position.fract())
    };
    let ((left, right, u), (top, bottom, v)) = (tap(x, width), tap(y, height));
    let row = |y: usize| (1.0 - u) * at(y * width + left) + u * at(y * width + right);
    (1.0 - v) * row(top) + v * row(bottom)
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
