//! Enlarging heat maps.

/// Bilinear enlargement of a map of `(height, width)` cells to `side` x `side`, both row-major
/// (PyTorch's `interpolate(mode="bilinear", align_corners=False)`: cell `i` has its centre at `i + 0.5`, and values are
/// constant beyond the outer centres).
///
/// # Panics
/// If the map is empty or has not `height * width` values.
pub fn upsample(map: &[f32], (height, width): (usize, usize), side: usize) -> Vec<f32> {
    assert!(!map.is_empty() && map.len() == height * width, "{} values of {height} x {width} cells", map.len());
    let rows = taps(height, side);
    let columns = taps(width, side);
    let mut out = Vec::with_capacity(side * side);
    for &(top, bottom, v) in &rows {
        let (top, bottom) = (&map[top * width..][..width], &map[bottom * width..][..width]);
        for &(left, right, u) in &columns {
            let above = (1.0 - u) * top[left] + u * top[right];
            let below = (1.0 - u) * bottom[left] + u * bottom[right];
            out.push((1.0 - v) * above + v * below);
        }
    }
    out
}

/// For each output position: the two input positions it lies between, and the weight of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    let tap = |index: usize| {
        let position = (scale * (index as f32 + 0.5) - 0.5).max(0.0);
        let first = (position as usize).min(from - 1);
        (first, (first + 1).min(from - 1), position - first as f32)
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_to_the_same_size_changes_nothing() {
        let map = [0.0, 1.0, 0.25, 0.5];
        assert_eq!(upsample(&map, (2, 2), 2), map);
    }

    /// `torch.nn.functional.interpolate(x, size=(4, 4), mode="bilinear", align_corners=False)` of one row and of a square.
    #[test]
    fn enlarging_is_pytorchs() {
        assert_eq!(upsample(&[0.0, 1.0], (1, 2), 4)[..4], [0.0, 0.25, 0.75, 1.0]);
        let square = upsample(&[0.0, 1.0, 2.0, 3.0], (2, 2), 4);
        assert_eq!(square[4..8], [0.5, 0.75, 1.25, 1.5]);
    }
}
