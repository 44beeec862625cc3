//! From feature maps to heat maps.

use candle_core::{D, DType, Tensor};
use cxr::heatmap::Statistic;

/// Heat maps and the sums of all channels' magnitudes, each `[N, h, w]`, of feature maps `[N, h, w, K]`; they stay where
/// the feature maps are, and nothing waits for the device.
///
/// The sum is computed whatever the statistic: a maximum may pass over a NaN, a sum never does. [`not_finite`] looks.
///
/// # Errors
/// The device refuses.
pub fn heat_maps(map: &Tensor, statistic: Statistic) -> candle_core::Result<[Tensor; 2]> {
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

/// Which image of a batch has a feature map that is not finite, given the sums of [`heat_maps`] of `cells` a map.
pub fn not_finite(sums: &[f32], cells: usize) -> Option<usize> {
    sums.iter().position(|value| !value.is_finite()).map(|first| first / cells)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_map_that_is_not_finite_is_found() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let map = Tensor::new(&[1.0, 2.0, 3.0, bad], &Device::Cpu).unwrap();
            let map = map.reshape((2, 1, 1, 2)).unwrap();
            for statistic in [Statistic::Max, Statistic::L1, Statistic::L2] {
                let [_, sums] = heat_maps(&map, statistic).unwrap();
                assert_eq!(not_finite(&sums.flatten_all().unwrap().to_vec1().unwrap(), 1), Some(1));
            }
        }
        assert_eq!(not_finite(&[1.0, 2.0], 1), None);
    }
}
