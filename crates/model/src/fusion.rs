//! The fusion layer in evaluation.

use std::path::Path;

use candle_core::{Device, Tensor};
use cxr::OUTPUTS;
use nets::weights;

use crate::error::Error;

/// Name of the layer's weight `[15, D]` in weights files.
pub const WEIGHT: &str = "fc.weight";
/// Name of its bias `[15]`.
pub const BIAS: &str = "fc.bias";

/// Partial sums of a dot product: as many as the widest vector of a CPU has numbers.
const LANES: usize = 16;

/// A linear layer on the pooled features of global, then local (AG-CNN, section III-A, the fusion branch).
#[derive(Debug, Clone, PartialEq)]
pub struct FusionLayer {
    /// `[15, D]`, row-major.
    weight: Vec<f32>,
    bias: [f32; OUTPUTS],
    dim: usize,
}

impl FusionLayer {
    /// Takes weight `[15, D]` and bias `[15]`, of whatever device.
    ///
    /// # Errors
    /// Another shape; the device fails.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<FusionLayer> {
        let (outputs, dim) = weight.dims2()?;
        let bias = match bias {
            Some(bias) => bias.to_vec1()?,
            None => vec![0.0; OUTPUTS],
        };
        let bias: [f32; OUTPUTS] = bias.try_into().map_err(|bias: Vec<f32>| {
            candle_core::Error::Msg(format!("the fusion layer has {} biases, expected {OUTPUTS}", bias.len()))
        })?;
        if outputs != OUTPUTS || dim == 0 {
            candle_core::bail!("the fusion layer is [{outputs}, {dim}], expected [{OUTPUTS}, D]");
        }
        Ok(FusionLayer { weight: weight.flatten_all()?.to_vec1()?, bias, dim })
    }

    /// Reads the `weights.safetensors` of fusion.
    ///
    /// # Errors
    /// The file is damaged, or no fusion layer.
    pub fn open(path: &Path) -> Result<FusionLayer, Error> {
        let (tensors, _) = weights::read(path, &Device::Cpu)?;
        let find = |wanted: &str| tensors.iter().find(|(name, _)| name == wanted).map(|(_, tensor)| tensor);
        let foreign = |got: String| Error::Foreign {
            path: path.to_owned(),
            what: "fusion layer".to_owned(),
            expected: format!("{WEIGHT} [{OUTPUTS}, D] and {BIAS} [{OUTPUTS}]"),
            got,
        };
        let weight = find(WEIGHT).ok_or_else(|| foreign(format!("no {WEIGHT}")))?;
        FusionLayer::new(weight, find(BIAS)).map_err(|error| foreign(error.to_string()))
    }

    /// D, the features of both branches.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Weight `[15, D]` and bias `[15]` on the CPU.
    ///
    /// # Errors
    /// A tensor cannot be made.
    pub fn tensors(&self) -> candle_core::Result<(Tensor, Tensor)> {
        let weight = Tensor::from_slice(&self.weight, (OUTPUTS, self.dim), &Device::Cpu)?;
        Ok((weight, Tensor::new(&self.bias, &Device::Cpu)?))
    }

    /// The logits of one image. They do not depend on other images, nor on the number of threads or the instruction set.
    ///
    /// # Panics
    /// Where the features of both branches are not D in all.
    pub fn logits(&self, features: [&[f32]; 2]) -> [f32; OUTPUTS] {
        let features: Vec<f32> = features.into_iter().flatten().copied().collect();
        assert_eq!(features.len(), self.dim, "features of both branches");
        let mut logits = self.bias;
        for (logit, weight) in logits.iter_mut().zip(self.weight.chunks_exact(self.dim)) {
            *logit += dot(weight, &features);
        }
        logits
    }
}

/// The sum of products, in an order that is fixed.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_the_layers() {
        for (global, local) in [(1, 1), (16, 3), (37, 64), (512, 511)] {
            let dim = global + local;
            let value = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
            let weight: Vec<f32> = (0..OUTPUTS * dim).map(value).collect();
            let bias: Vec<f32> = (0..OUTPUTS).map(|i| value(i + 5)).collect();
            let features: Vec<f32> = (0..dim).map(|i| value(i + 3)).collect();
            let tensor = Tensor::from_vec(weight.clone(), (OUTPUTS, dim), &Device::Cpu).unwrap();
            let bias_tensor = Tensor::new(bias.as_slice(), &Device::Cpu).unwrap();
            let layer = FusionLayer::new(&tensor, Some(&bias_tensor)).unwrap();
            let logits = layer.logits([&features[..global], &features[global..]]);
            for output in 0..OUTPUTS {
                let products = weight[output * dim..][..dim].iter().zip(&features);
                let exact: f64 =
                    f64::from(bias[output]) + products.map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
                assert!((f64::from(logits[output]) - exact).abs() < 1e-4 * exact.abs().max(1.0), "{dim} features");
            }
        }
        let short = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let error = FusionLayer::new(&short, None).unwrap_err().to_string();
        assert!(error.contains("[3, 4], expected [15, D]"), "{error}");
    }
}
