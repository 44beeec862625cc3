//! Heat maps: how channels become one map, how a map is normalised, how it is enlarged.

use serde::{Deserialize, Serialize};

/// How the K channels of the last feature map become one heat map (AG-CNN, section III-B, eq. 3; compared in Table III).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Statistic {
    /// H(x, y) = max over k of |f_k(x, y)|: the paper's choice.
    Max,
    /// H(x, y) = 1/K sum over k of |f_k(x, y)|.
    L1,
    /// H(x, y) = 1/K sqrt(sum over k of f_k(x, y)^2).
    L2,
}

/// How one image's heat map is brought to a range in which a threshold means something.
///
/// The paper does not say; with raw values no single tau fits all images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Normalise {
    /// (H - min H) / (max H - min H): onto [0, 1].
    Minmax,
    /// H / max H: into [0, 1]; the coolest cell need not reach 0.
    Max,
    /// H as it is, in the units of the network's activations.
    None,
}

/// Normalises one heat map; `None` where it is constant, and therefore points nowhere.
pub fn normalise(heat: &[f32], how: Normalise) -> Option<Vec<f32>> {
    let (min, max) = range(heat);
    if min >= max {
        return None;
    }
    Some(match how {
        Normalise::Minmax => heat.iter().map(|value| (value - min) / (max - min)).collect(),
        Normalise::Max => heat.iter().map(|value| value / max).collect(),
        Normalise::None => heat.to_vec(),
    })
}

/// A heat map after [`normalise`]: what a threshold applies to and what `regions` stores. All 0 where the raw map was
/// constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormalisedMap<'a> {
    values: &'a [f32],
    height: usize,
    width: usize,
}

impl<'a> NormalisedMap<'a> {
    /// A map of `(height, width)` whose values, row-major, are normalised already.
    ///
    /// # Panics
    /// Where there are not `height * width` values, or none.
    pub fn new(values: &'a [f32], (height, width): (usize, usize)) -> Self {
        assert!(!values.is_empty() && values.len() == height * width, "{} values, {height} x {width}", values.len());
        NormalisedMap { values, height, width }
    }

    /// The values, `[height, width]` row-major.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Whether all values are equal: nothing to attend to.
    pub fn is_constant(&self) -> bool {
        let (min, max) = range(self.values);
        min >= max
    }

    /// The map enlarged to `side` x `side`; see [`upsample`].
    pub fn upsampled(&self, side: usize) -> Vec<f32> {
        upsample(self.values, (self.height, self.width), side)
    }
}

fn range(values: &[f32]) -> (f32, f32) {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    (min, values.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}

/// Bilinear enlargement of an h x w map to `side` x `side`, both row-major, pixel centres aligned
/// (PyTorch's `interpolate(mode="bilinear", align_corners=False)`).
pub fn upsample(heat: &[f32], (height, width): (usize, usize), side: usize) -> Vec<f32> {
    let rows = taps(height, side);
    let columns = taps(width, side);
    let mut out = Vec::with_capacity(side * side);
    for &(top, bottom, v) in &rows {
        let (top, bottom) = (&heat[top * width..][..width], &heat[bottom * width..][..width]);
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
    (0..to)
        .map(|i| {
            let position = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
            let first = (position as usize).min(from - 1);
            (first, (first + 1).min(from - 1), position - first as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_map_has_no_normal_form() {
        for how in [Normalise::Minmax, Normalise::Max, Normalise::None] {
            assert_eq!(normalise(&[0.0; 4], how), None);
            assert_eq!(normalise(&[3.0; 4], how), None);
        }
        assert!(NormalisedMap::new(&[0.0; 6], (2, 3)).is_constant());
    }

    #[test]
    fn normal_forms() {
        let heat = [1.0, 2.0, 5.0];
        assert_eq!(normalise(&heat, Normalise::Minmax).unwrap(), [0.0, 0.25, 1.0]);
        assert_eq!(normalise(&heat, Normalise::Max).unwrap(), [0.2, 0.4, 1.0]);
        assert_eq!(normalise(&heat, Normalise::None).unwrap(), heat);
    }

    #[test]
    fn enlarging_to_the_same_size_changes_nothing() {
        let heat = [0.0, 1.0, 0.25, 0.5, 0.75, 0.125];
        assert_eq!(upsample(&heat[..4], (2, 2), 2), heat[..4]);
        assert_eq!(upsample(&[0.0, 1.0], (1, 2), 4)[..4], [0.0, 0.25, 0.75, 1.0]);
    }
}
