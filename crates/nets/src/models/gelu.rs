//! The exact GELU, `x Φ(x)` (Hendrycks and Gimpel, arXiv 1606.08415).

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

/// Elements of a task.
const CHUNK: usize = 4096;

/// Element by element; candle's own takes one thread of a CPU.
pub(crate) fn gelu(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1_no_bwd(&Gelu) } else { x.gelu_erf() }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let values = storage.as_slice::<f32>()?;
        let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("gelu of a strided tensor") };
        let values = &values[start..end];
        let mut out = vec![0.0; values.len()];
        out.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(out, values)| {
            out.iter_mut().zip(values).for_each(|(out, &x)| *out = x * normal(x));
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// Φ(x), by Abramowitz and Stegun, 26.2.17, whose error is below 7.5e-8; in operations that the compiler makes vectors of.
fn normal(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = t * (0.319_381_53 + t * (-0.356_563_78 + t * (1.781_477_9 + t * (-1.821_256 + t * 1.330_274_4))));
    let tail = 0.398_942_3 * exp(-0.5 * x * x) * series;
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// `e^x` for `x <= 0`: 2 to the rounded power by its bits, times a polynomial of what remains (relative error below 1e-7).
fn exp(x: f32) -> f32 {
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4]; // in two parts, so that the first product is exact
    let x = x.max(-87.0);
    let power = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0; // rounds to a whole number
    let rest = x - power * LN2[0] - power * LN2[1];
    let poly = 1.0
        + rest
            * (1.0
                + rest
                    * (0.5
                        + rest
                            * (1.666_666_5e-1 + rest * (4.166_579_6e-2 + rest * (8.333_452e-3 + rest * 1.398_2e-3)))));
    poly * f32::from_bits(((power as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn it_is_the_exact_one() {
        let values: Vec<f32> = (-120_000..120_000).map(|index| index as f32 * 1e-4).collect();
        let x = Tensor::new(values.as_slice(), &Device::Cpu).unwrap();
        let exact = x.to_dtype(candle_core::DType::F64).unwrap().gelu_erf().unwrap().to_vec1::<f64>().unwrap();
        let got = gelu(&x).unwrap().to_vec1::<f32>().unwrap();
        for ((got, exact), x) in got.iter().zip(exact).zip(values) {
            assert!(
                (f64::from(*got) - exact).abs() < 4e-7 * f64::from(x.abs()).max(1.0),
                "gelu({x}) = {got}, exactly {exact}"
            );
        }
    }
}
