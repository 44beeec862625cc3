//! From feature maps to heat maps: the channel statistic, its normalisation, its upsampling.

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::Error;

/// How the K channels of the last feature map become one heat map (AG-CNN, section III-B, eq. 3; compared in Table III).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// H(x, y) = max over k of |f_k(x, y)|: the paper's choice.
    Max,
    /// H(x, y) = 1/K sum over k of |f_k(x, y)|.
    L1,
    /// H(x, y) = 1/K sqrt(sum over k of f_k(x, y)^2).
    L2,
}

impl Statistic {
    /// `max`, `l1` or `l2`.
    pub fn name(self) -> &'static str {
        match self {
            Statistic::Max => "max",
            Statistic::L1 => "l1",
            Statistic::L2 => "l2",
        }
    }
}

/// How one image's heat map is brought to a range in which a threshold means something.
///
/// The paper does not say; with raw values no single tau fits all images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// (H - min H) / (max H - min H): onto [0, 1].
    Minmax,
    /// H / max H: into [0, 1]; the coolest cell need not reach 0.
    Max,
    /// H as it is, in the units of the network's activations.
    None,
}

impl Normalise {
    /// `minmax`, `max` or `none`.
    pub fn name(self) -> &'static str {
        match self {
            Normalise::Minmax => "minmax",
            Normalise::Max => "max",
            Normalise::None => "none",
        }
    }
}

/// Heat maps of a batch, on the device that holds it: `map` is `[N, h, w, K]`, the answer N*h*w values, row-major.
///
/// # Errors
/// [`Error::NotFinite`] where a map holds a NaN or an infinity; [`Error::Candle`] from the device.
pub fn heat_maps(map: &Tensor, statistic: Statistic) -> Result<Vec<f32>, Error> {
    let cells = map.dim(1)? * map.dim(2)?;
    let [heat, sum] = on_device(map, statistic)?;
    check(&values(&sum)?, cells)?;
    values(&heat)
}

/// Heat maps and the sums of all channels' magnitudes, each `[N, h, w]`, where `map` is: nothing waits for the device.
///
/// The sum is computed whatever the statistic: a maximum may pass over a NaN, a sum never does.
pub(crate) fn on_device(map: &Tensor, statistic: Statistic) -> candle_core::Result<[Tensor; 2]> {
    let (_, _, _, channels) = map.dims4()?;
    let magnitude = map.to_dtype(DType::F32)?.abs()?;
    let sum = magnitude.sum(D::Minus1)?;
    let heat = match statistic {
        Statistic::Max => magnitude.max(D::Minus1)?,
        Statistic::L1 => (&sum / channels as f64)?,
        Statistic::L2 => (magnitude.sqr()?.sum(D::Minus1)?.sqrt()? / channels as f64)?,
    };
    Ok([heat, sum])
}

/// Refuses sums, of maps of so many cells, that are not finite.
pub(crate) fn check(sums: &[f32], cells: usize) -> Result<(), Error> {
    match sums.iter().position(|value| !value.is_finite()) {
        Some(first) => Err(Error::NotFinite { index: first / cells }),
        None => Ok(()),
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

/// Normalises one heat map; `None` where it is constant, and therefore points nowhere.
pub fn normalise(heat: &[f32], how: Normalise) -> Option<Vec<f32>> {
    let min = heat.iter().copied().fold(f32::INFINITY, f32::min);
    let max = heat.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if min >= max {
        return None;
    }
    Some(match how {
        Normalise::Minmax => heat.iter().map(|value| (value - min) / (max - min)).collect(),
        Normalise::Max => heat.iter().map(|value| value / max).collect(),
        Normalise::None => heat.to_vec(),
    })
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
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_map_that_is_not_finite_is_named_by_its_image() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let map = Tensor::new(&[1.0, 2.0, 3.0, bad], &Device::Cpu).unwrap();
            let map = map.reshape((2, 1, 1, 2)).unwrap();
            for statistic in [Statistic::Max, Statistic::L1, Statistic::L2] {
                let error = heat_maps(&map, statistic).unwrap_err();
                assert!(matches!(error, Error::NotFinite { index: 1 }), "{error}");
            }
        }
    }

    #[test]
    fn a_constant_map_has_no_normal_form() {
        for how in [Normalise::Minmax, Normalise::Max, Normalise::None] {
            assert_eq!(normalise(&[0.0; 4], how), None);
            assert_eq!(normalise(&[3.0; 4], how), None);
        }
    }

    #[test]
    fn enlarging_to_the_same_size_changes_nothing() {
        let heat = [0.0, 1.0, 0.25, 0.5, 0.75, 0.125];
        assert_eq!(upsample(&heat[..4], (2, 2), 2), heat[..4]);
        assert_eq!(upsample(&[0.0, 1.0], (1, 2), 4)[..4], [0.0, 0.25, 0.75, 1.0]);
    }
}
