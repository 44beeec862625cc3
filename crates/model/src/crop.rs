//! The attended region as an image of its own.

use cxr::BBox;
use picture::Grey;

/// The part of an image under `area`, which is in a frame of `frame_px` x `frame_px`, as a square of `side_px`; the image may
/// have any size and shape.
pub fn crop_of(image: &Grey, area: BBox, frame_px: usize, side_px: u32) -> Grey {
    let [x_min, y_min, x_max, y_max] = in_image(area, frame_px, [image.width, image.height]);
    let ([x_min, x_max], [y_min, y_max]) =
        (at_least_a_pixel([x_min, x_max], image.width), at_least_a_pixel([y_min, y_max], image.height));
    image.crop([x_min, y_min, x_max, y_max], side_px)
}

/// Edges that are a pixel apart at least: a region of a very small image may be less.
fn at_least_a_pixel([from, to]: [f64; 2], side: u32) -> [f64; 2] {
    if to - from >= 1.0 {
        return [from, to];
    }
    let from = ((from + to) / 2.0 - 0.5).clamp(0.0, f64::from(side.saturating_sub(1)));
    [from, from + 1.0]
}

/// Left, top, right and bottom edge of a box in an image of `[width, height]` px, given in a frame of `frame_px` x
/// `frame_px` that the image was squeezed into.
pub fn in_image(area: BBox, frame_px: usize, size_px: [u32; 2]) -> [f64; 4] {
    let [x, y] = size_px.map(|side| f64::from(side) / frame_px as f64);
    [f64::from(area.x_min) * x, f64::from(area.y_min) * y, f64::from(area.x_max) * x, f64::from(area.y_max) * y]
}
