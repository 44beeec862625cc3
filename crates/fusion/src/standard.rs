//! Features of mean 0 and deviation 1.

use candle_core::Tensor;
use candle_nn::Linear;
use rayon::prelude::*;

use crate::Samples;

/// Images per partial sum; fixed, so that the result does not depend on the number of threads.
const PART: usize = 1024;

/// Mean and deviation `[D]` of the features.
#[derive(Debug, Clone)]
pub(crate) struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standard {
    /// Over the given images; a feature that never changes has deviation 1.
    pub(crate) fn of(samples: &Samples, indices: &[usize]) -> Standard {
        let sums = |part: &[usize]| {
            let mut sums = vec![(0.0, 0.0); samples.dim()];
            for &index in part {
                for (sums, &value) in sums.iter_mut().zip(samples.features(index).into_iter().flatten()) {
                    let value = f64::from(value);
                    *sums = (sums.0 + value, sums.1 + value * value);
                }
            }
            sums
        };
        let parts: Vec<Vec<(f64, f64)>> = indices.par_chunks(PART).map(sums).collect();
        let count = indices.len() as f64;
        let moments = (0..samples.dim()).map(|feature| {
            let add = |a: (f64, f64), part: &Vec<(f64, f64)>| (a.0 + part[feature].0, a.1 + part[feature].1);
            let (sum, squares) = parts.iter().fold((0.0, 0.0), add);
            let mean = sum / count;
            let variance = squares / count - mean * mean;
            // What rounding leaves of a constant feature is below this.
            let constant = variance <= 1e-12 * mean * mean;
            (mean as f32, if constant { 1.0 } else { variance.sqrt() as f32 })
        });
        let (mean, deviation) = moments.unzip();
        Standard { mean, deviation }
    }

    /// Standardises rows of D features in place.
    pub(crate) fn apply(&self, inputs: &mut [f32]) {
        for row in inputs.chunks_mut(self.mean.len()) {
            for (value, (mean, deviation)) in row.iter_mut().zip(self.mean.iter().zip(&self.deviation)) {
                *value = (*value - mean) / deviation;
            }
        }
    }

    /// The layer whose outputs for plain features are those of `layer` for standardised ones:
    /// `w · (x - m) / s + b = (w / s) · x + (b - (w / s) · m)`.
    pub(crate) fn to_plain(&self, layer: &Linear) -> candle_core::Result<Linear> {
        change(layer, |weight, feature| weight / f64::from(self.deviation[feature]), |feature| -self.mean[feature])
    }

    /// The reverse: `w · x + b = (w s) · (x - m) / s + (b + w · m)`.
    pub(crate) fn of_plain(&self, layer: &Linear) -> candle_core::Result<Linear> {
        let shift = |feature: usize| self.mean[feature] / self.deviation[feature];
        change(layer, |weight, feature| weight * f64::from(self.deviation[feature]), shift)
    }
}

/// New weights by weight and feature; each adds to the bias what it has times `shift` of the feature.
fn change(
    layer: &Linear,
    scale: impl Fn(f64, usize) -> f64,
    shift: impl Fn(usize) -> f32,
) -> candle_core::Result<Linear> {
    let mut weight = layer.weight().to_vec2::<f32>()?;
    let mut bias = match layer.bias() {
        Some(bias) => bias.to_vec1::<f32>()?,
        None => vec![0.0; weight.len()],
    };
    for (row, bias) in weight.iter_mut().zip(&mut bias) {
        let mut sum = f64::from(*bias);
        for (feature, weight) in row.iter_mut().enumerate() {
            let scaled = scale(f64::from(*weight), feature);
            sum += scaled * f64::from(shift(feature));
            *weight = scaled as f32;
        }
        *bias = sum as f32;
    }
    let device = layer.weight().device();
    Ok(Linear::new(Tensor::new(weight, device)?, Some(Tensor::new(bias, device)?)))
}
