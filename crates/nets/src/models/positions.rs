//! Bicubic interpolation of a grid of vectors, as PyTorch's `interpolate(mode="bicubic", align_corners=False)`.

use std::array::from_fn;

/// The free parameter of the cubic convolution (Keys, IEEE Trans. ASSP 29, 1981), PyTorch's value.
const A: f64 = -0.75;

/// `grid [side, side, width]` row-major, resized to `[rows, columns, width]`.
pub(crate) fn bicubic(grid: &[f32], side: usize, (rows, columns): (usize, usize), width: usize) -> Vec<f32> {
    let (down, across) = (taps(side, rows), taps(side, columns));
    let mut out = vec![0.0; rows * columns * width];
    for (cell, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let (down, across) = (&down[cell / columns], &across[cell % columns]);
        for &(row, v) in down {
            for &(column, u) in across {
                let vector = &grid[(row * side + column) * width..][..width];
                out.iter_mut().zip(vector).for_each(|(out, value)| *out += v * u * value);
            }
        }
    }
    out
}

/// For each output position the four input positions around it, those outside moved to the edge, with their weights.
fn taps(from: usize, to: usize) -> Vec<[(usize, f32); 4]> {
    let at = |index: usize| {
        let position = (index as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let (first, part) = (position.floor(), position - position.floor());
        from_fn(|tap| {
            let place = (first as i64 + tap as i64 - 1).clamp(0, from as i64 - 1) as usize;
            (place, cubic((part + 1.0 - tap as f64).abs()) as f32)
        })
    };
    (0..to).map(at).collect()
}

/// The weight of a value at a distance of 0 to 2.
fn cubic(x: f64) -> f64 {
    if x <= 1.0 { ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0 } else { A * (((x - 5.0) * x + 8.0) * x - 4.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.functional.interpolate(torch.tensor([[[[0., 1, 4], [9, 16, 25], [36, 49, 64]]]]), size=(2, 4),
    /// mode="bicubic", align_corners=False)`, torch 2.15.0.
    #[test]
    fn it_is_pytorchs() {
        let grid: Vec<f32> = (0..9_u8).map(|value| f32::from(value * value)).collect();
        let got = bicubic(&grid, 3, (2, 4), 1);
        let expected =
            [0.935_634_6, 2.008_327_5, 4.969_211_6, 7.684_482_6, 29.348_543, 36.258_278, 48.344_27, 56.896_57];
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4, "{got}, expected {expected}");
        }
        assert_eq!(bicubic(&grid, 3, (3, 3), 1), grid);
    }
}
