//! One training or evaluation step after the other, on demand: what `just bench-cpu` times beside PyTorch.
//!
//! Arguments: backbone, batch, side in pixels, `f32` or `bf16`, device (`cpu` if left out). Every line `train` or `evaluate` on stdin runs one such step and prints
//! the seconds it took. Set `RAYON_NUM_THREADS` for the number of threads.
//!
//! ```sh
//! yes train | head -5 | cargo run --release -p nets --example step_speed -- resnet50 16 224 f32
//! ```

#![allow(clippy::print_stdout)] // what a benchmark is for

use std::{io::BufRead, time::Instant};

use candle_core::{DType, Tensor};
use nets::{Network, OptimizerKind, Pool, Precision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([backbone, batch, side, precision], device) = (match &arguments[..] {
        [all @ .., device] if all.len() == 4 => (all, device.as_str()),
        all => (all, "cpu"),
    }) else {
        return Err("step_speed BACKBONE BATCH SIDE f32|bf16 [DEVICE]".into());
    };
    let (batch, side): (usize, usize) = (batch.parse()?, side.parse()?);
    let device = nets::device(device)?;
    let mut network = Network::new(backbone.parse()?, Pool::Max, 1, &device)?;
    network.set_precision(match precision.as_str() {
        "bf16" => Precision::Bf16,
        "tf32" => Precision::Tf32,
        _ => Precision::F32,
    })?;
    let mut optimizer = network.optimizer(OptimizerKind::Sgd, 0.9, 1e-4)?;
    let x = Tensor::randn(0f32, 1.0, (batch, side, side, 3), &device)?;
    let targets = Tensor::zeros((batch, cxr::OUTPUTS), DType::F32, &device)?;
    println!("{:?}, {precision}, {} threads", ops::isa(), rayon::current_num_threads());
    for line in std::io::stdin().lock().lines() {
        let start = Instant::now();
        match line?.as_str() {
            "train" => {
                let (_, grads) = network.loss_and_grads(&x, &targets)?;
                network.update(&mut optimizer, &grads, 1e-3)?;
            }
            "evaluate" => drop(network.forward_eval(&x)?),
            other => return Err(format!("{other}: expected train or evaluate").into()),
        }
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
