//! Where edges lie in an image, and which way they rise: a chest is a chest by this.

use picture::Grey;

/// Side at which an image is looked at, px.
const SIDE: usize = 32;
/// Cells a side.
const CELLS: usize = 4;
/// Directions, around the full circle: a dark edge is not a bright one.
const DIRECTIONS: usize = 8;
/// Numbers of a layout.
pub(crate) const LEN: usize = CELLS * CELLS * DIRECTIONS;

/// Histograms of oriented gradients (Dalal & Triggs, CVPR 2005): for each of 4 x 4 cells, how much grey rises in each of 8
/// directions, at 32 x 32 px; of length 1, then square roots, so that faint edges count. All equal where there is no edge.
pub(crate) fn layout(prepared: &Grey) -> Vec<f32> {
    let image = prepared.square(SIDE as u32);
    let at = |x: usize, y: usize| f32::from(image.pixels[y * SIDE + x]);
    let mut sums = [0.0_f32; LEN];
    for y in 0..SIDE {
        for x in 0..SIDE {
            let next = |i: usize| (i + 1).min(SIDE - 1);
            let dx = at(next(x), y) - at(x.saturating_sub(1), y);
            let dy = at(x, next(y)) - at(x, y.saturating_sub(1));
            let turn = dy.atan2(dx).rem_euclid(std::f32::consts::TAU) / std::f32::consts::TAU;
            // The two directions that it lies between.
            let place = turn * DIRECTIONS as f32;
            let (first, part) = (place as usize % DIRECTIONS, place.fract());
            let cell = (y * CELLS / SIDE * CELLS + x * CELLS / SIDE) * DIRECTIONS;
            let rise = dx.hypot(dy);
            sums[cell + first] += rise * (1.0 - part);
            sums[cell + (first + 1) % DIRECTIONS] += rise * part;
        }
    }
    let length = sums.iter().map(|sum| (sum + 1e-9) * (sum + 1e-9)).sum::<f32>().sqrt();
    sums.iter().map(|sum| ((sum + 1e-9) / length).sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_found_where_they_are() {
        // Grey rises from left to right in the lower right quarter alone.
        let pixel = |i: usize| {
            let (x, y) = (i % 64, i / 64);
            if x >= 32 && y >= 32 { ((x - 32) * 8) as u8 } else { 0 }
        };
        let image = Grey { width: 64, height: 64, pixels: (0..64 * 64).map(pixel).collect() };
        let found = layout(&image);
        let largest = (0..LEN).max_by(|&a, &b| found[a].total_cmp(&found[b])).unwrap();
        let (cell, direction) = (largest / DIRECTIONS, largest % DIRECTIONS);
        assert!(cell / CELLS >= 2 && cell % CELLS >= 2, "{cell}");
        assert_eq!(direction, 0);
        assert!((found.iter().map(|value| value.powi(4)).sum::<f32>() - 1.0).abs() < 1e-4);
        // Brightness and contrast change nothing; inversion turns every direction around.
        let fainter = Grey { pixels: image.pixels.iter().map(|value| 20 + value / 2).collect(), ..image.clone() };
        let difference = layout(&fainter).iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 0.2, "{difference}");
        let inverted = Grey { pixels: image.pixels.iter().map(|value| 255 - value).collect(), ..image };
        assert!(layout(&inverted)[cell * DIRECTIONS + 4] > 0.9 * found[largest]);
        assert_eq!(layout(&Grey { width: 2, height: 2, pixels: vec![7; 4] }), vec![found_flat(); LEN]);
    }

    /// What every number of an image without edges is.
    fn found_flat() -> f32 {
        layout(&Grey { width: 1, height: 1, pixels: vec![0] })[0]
    }
}
