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

/// Where a cell of a feature map is taken to lie in the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Alignment {
    /// The cells divide the input evenly, as enlarging a map by interpolation assumes (PyTorch's `align_corners=False`).
    Grid,
    /// A cell lies at the centre of its receptive field.
    Receptive,
}

/// Where the centres of a map's cells lie in the network's input, px, in x as in y: cell `i` at `first_px + i * step_px`.
///
/// A convolution of odd kernel with "same" padding and stride 2 puts its first output over the input's first pixel, and so
/// does a chain of them: a ResNet's cells have their centres at 0.5, 32.5, 64.5, ... px, not at 16, 48, 80, ... as an even
/// grid has them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cells {
    /// Centre of the first cell, px from the input's edge.
    pub first_px: f32,
    /// From one centre to the next, px.
    pub step_px: f32,
}

impl Cells {
    /// `cells` cells that divide `side` px evenly.
    pub fn even(cells: usize, side: usize) -> Cells {
        let step_px = side as f32 / cells as f32;
        Cells { first_px: step_px / 2.0, step_px }
    }

    /// The centre of a cell, px from the input's edge.
    pub fn centre_px(self, cell: usize) -> f32 {
        self.first_px + cell as f32 * self.step_px
    }

    /// Whether both numbers can be: finite, not negative, and the step above 0.
    pub fn is_valid(self) -> bool {
        self.first_px.is_finite() && self.first_px >= 0.0 && self.step_px.is_finite() && self.step_px > 0.0
    }
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
    cells: Option<Cells>,
}

impl<'a> NormalisedMap<'a> {
    /// A map of `(height, width)` whose values, row-major, are normalised already; `None`: its cells divide the input evenly.
    ///
    /// # Panics
    /// Where there are not `height * width` values, or none.
    pub fn new(values: &'a [f32], (height, width): (usize, usize), cells: Option<Cells>) -> Self {
        assert!(!values.is_empty() && values.len() == height * width, "{} values, {height} x {width}", values.len());
        NormalisedMap { values, height, width, cells }
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
        upsample(self.values, (self.height, self.width), side, self.cells)
    }
}

fn range(values: &[f32]) -> (f32, f32) {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    (min, values.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}

/// Bilinear enlargement of an h x w map to `side` x `side`, both row-major. The cells lie where `cells` says, in units of
/// the output's pixels; `None`: they divide it evenly (PyTorch's `interpolate(mode="bilinear", align_corners=False)`).
/// Outside the outermost centres, the map goes on as it is there.
///
/// Whoever takes `cells` from a file must have refused those that are not valid ([`Cells::is_valid`]): a step of 0 makes NaN.
pub fn upsample(heat: &[f32], (height, width): (usize, usize), side: usize, cells: Option<Cells>) -> Vec<f32> {
    let rows = taps(height, side, cells);
    let columns = taps(width, side, cells);
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
fn taps(from: usize, to: usize, cells: Option<Cells>) -> Vec<(usize, usize, f32)> {
    let even = from as f32 / to as f32;
    (0..to)
        .map(|i| {
            let centre = i as f32 + 0.5;
            let position = match cells {
                None => even * centre - 0.5,
                Some(cells) => (centre - cells.first_px) / cells.step_px,
            };
            let position = position.clamp(0.0, (from - 1) as f32);
            let first = position as usize;
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
        assert!(NormalisedMap::new(&[0.0; 6], (2, 3), None).is_constant());
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
        assert_eq!(upsample(&heat[..4], (2, 2), 2, None), heat[..4]);
        assert_eq!(upsample(&[0.0, 1.0], (1, 2), 4, None)[..4], [0.0, 0.25, 0.75, 1.0]);
    }

    #[test]
    fn cells_lie_where_they_are_said_to_lie() {
        let heat = [0.0, 1.0, 0.25, 0.5];
        let even = upsample(&heat, (2, 2), 8, Some(Cells::even(2, 8)));
        assert_eq!(even, upsample(&heat, (2, 2), 8, None));
        // Centres over the pixels 0 and 4 of 8: those pixels have the cells' values, the last ones the last cell's.
        let row = upsample(&[0.0, 1.0], (1, 2), 8, Some(Cells { first_px: 0.5, step_px: 4.0 }));
        assert_eq!(row[..8], [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(Cells { first_px: 0.5, step_px: 32.0 }.centre_px(6), 192.5);
    }
}
