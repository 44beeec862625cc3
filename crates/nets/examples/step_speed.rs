//! One training or evaluation step after the other, on demand: what `just bench-cpu` and `just bench-gpu` time beside
//! PyTorch.
//!
//! Arguments: backbone, batch, side in pixels, `f32`, `tf32` or `bf16`, device (`cpu` if left out). Every line `train` or
//! `evaluate` on stdin, with a number behind it if it is not 1, runs so many such steps and prints the seconds that each
//! took, once the device is done with the last; `memory` prints the MB that the device's memory had in use at most, and
//! kept at most. Set `RAYON_NUM_THREADS` for the number of threads.
//!
//! ```sh
//! yes train | head -5 | cargo run --release -p nets --example step_speed -- resnet50 16 224 f32
//! ```

#![allow(clippy::print_stdout)] // what a benchmark is for

use std::{io::BufRead, time::Instant};

use candle_core::{DType, Device, Tensor};
use nets::{Network, OptimizerKind, Pool, Precision};

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: nets::OnLines = nets::OnLines;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    nets::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([backbone, batch, side, precision], device) = (match &arguments[..] {
        [all @ .., device] if all.len() == 4 => (all, device.as_str()),
        all => (all, "cpu"),
    }) else {
        return Err("step_speed BACKBONE BATCH SIDE f32|tf32|bf16 [DEVICE]".into());
    };
    let (batch, side): (usize, usize) = (batch.parse()?, side.parse()?);
    let device = nets::device(device)?;
    let mut network = Network::new(backbone.parse()?, Pool::Max, 1, &device)?;
    let numbers = match precision.as_str() {
        "bf16" => Precision::Bf16,
        "tf32" => Precision::Tf32,
        _ => Precision::F32,
    };
    network.set_precision(numbers)?;
    network.evaluate_in(numbers);
    let mut optimizer = network.optimizer(OptimizerKind::Sgd, 0.9, 1e-4)?;
    let x = Tensor::randn(0f32, 1.0, (batch, side, side, 3), &device)?;
    let targets = Tensor::zeros((batch, cxr::OUTPUTS), DType::F32, &device)?;
    let isa = if device.is_cpu() { format!("{:?}, ", ops::isa()) } else { String::new() };
    println!("{isa}{precision}, {}", nets::describe(&device));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (what, times) = line.split_once(' ').unwrap_or((&line, "1"));
        let times: usize = times.parse()?;
        let start = Instant::now();
        for _ in 0..times {
            match what {
                "train" => {
                    let (_, grads) = network.loss_and_grads(&x, &targets)?;
                    network.update(&mut optimizer, &grads, 1e-3)?;
                }
                "evaluate" => drop(network.forward_eval(&x)?),
                "memory" => {}
                other => return Err(format!("{other}: expected train, evaluate or memory").into()),
            }
        }
        device.synchronize()?;
        match what {
            "memory" => println!("{}", memory(&device)?),
            _ => println!("{}", start.elapsed().as_secs_f64() / times.max(1) as f64),
        }
    }
    Ok(())
}

/// MB of the device's memory in use at most, and kept at most.
fn memory(device: &Device) -> candle_core::Result<String> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        let [used, kept] = ops::device::peak_memory(device)?;
        return Ok(format!("{} {}", used / 1_000_000, kept / 1_000_000));
    }
    let _ = device;
    Ok("0 0".to_owned())
}
