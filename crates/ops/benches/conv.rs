//! Speed of the three convolution passes on ResNet-50's distinct layers, in GFLOP/s; `BATCH` images (default 16).
//!
//! Run with `cargo bench -p ops`. One line per layer: shape, then the fastest of nine calls of each pass (other users of the machine only ever slow it); `dx+` adds the gradient by another path.

use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use ops::Conv;

/// Side of the input, input channels, output channels, kernel, stride.
const LAYERS: [[usize; 5]; 16] = [
    [224, 3, 64, 7, 2],
    [56, 64, 64, 1, 1],
    [56, 64, 64, 3, 1],
    [56, 64, 256, 1, 1],
    [56, 256, 64, 1, 1],
    [56, 128, 128, 3, 2],
    [56, 256, 512, 1, 2],
    [28, 512, 128, 1, 1],
    [28, 128, 128, 3, 1],
    [28, 128, 512, 1, 1],
    [14, 1024, 256, 1, 1],
    [14, 256, 256, 3, 1],
    [14, 256, 1024, 1, 1],
    [7, 2048, 512, 1, 1],
    [7, 512, 512, 3, 1],
    [7, 512, 2048, 1, 1],
];

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: ops::memory::OnLines = ops::memory::OnLines;

#[allow(clippy::print_stdout)] // what a benchmark is for
fn main() -> Result<()> {
    ops::memory::keep_freed_memory();
    let batch = std::env::var("BATCH").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
    println!("{:?}, {} threads, batch {batch}", ops::isa(), rayon::current_num_threads());
    println!("{:>5} {:>5} {:>5} k s {:>9} {:>9} {:>9} {:>9}", "side", "in", "out", "forward", "dx", "dx+", "dw");
    let mut total = [0.0; 5];
    for [side, input, output, kernel, stride] in LAYERS {
        let padding = kernel / 2;
        let x = Tensor::randn(0f32, 1.0, (batch, side, side, input), &Device::Cpu)?;
        let w = Tensor::randn(0f32, 1.0, (output, kernel, kernel, input), &Device::Cpu)?;
        let dy = ops::conv2d_forward(&x, &w, Conv::new(stride, padding))?;
        let flop = 2.0 * (dy.elem_count() * kernel * kernel * input) as f64;
        let seconds = [
            fastest(|| ops::conv2d_forward(&x, &w, Conv::new(stride, padding)))?,
            fastest(|| ops::conv2d_input_grad(&dy, &w, Conv::new(stride, padding), (side, side), None))?,
            fastest(|| ops::conv2d_input_grad(&dy, &w, Conv::new(stride, padding), (side, side), Some(x.clone())))?,
            fastest(|| ops::conv2d_weight_grad(&x, &dy, Conv::new(stride, padding), (kernel, kernel)))?,
        ];
        let [forward, dx, dx_plus, dw] = seconds.map(|seconds| flop / seconds / 1e9);
        println!(
            "{side:>5} {input:>5} {output:>5} {kernel} {stride} {forward:>9.0} {dx:>9.0} {dx_plus:>9.0} {dw:>9.0}"
        );
        seconds.iter().enumerate().for_each(|(pass, seconds)| total[pass] += seconds);
        total[4] += flop;
    }
    let [forward, dx, dx_plus, dw] = [0, 1, 2, 3].map(|pass| total[4] / total[pass] / 1e9);
    println!("{:>22} {forward:>10.0} {dx:>9.0} {dx_plus:>9.0} {dw:>9.0}", "all");
    Ok(())
}

fn fastest(mut call: impl FnMut() -> Result<Tensor>) -> Result<f64> {
    call()?;
    let mut best = f64::INFINITY;
    for _ in 0..9 {
        let start = Instant::now();
        call()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
