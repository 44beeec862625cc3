//! Speed of whole training and evaluation steps, in images per second: median of `STEPS` (default 5) after one to warm up.
//!
//! `BACKBONE` (resnet50), `BATCH` (16) and `SIDE` (224) choose another case.

#![allow(clippy::print_stdout)] // what a benchmark is for

use std::time::Instant;

use candle_core::Tensor;
use nets::{Backbone, Network, OptimizerKind, Pool, Result};

fn main() -> Result<()> {
    let backbone: Backbone = std::env::var("BACKBONE").unwrap_or_else(|_| "resnet50".into()).parse()?;
    let [batch, side, steps] = [("BATCH", 16), ("SIDE", 224), ("STEPS", 5)]
        .map(|(name, default)| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default));
    let device = nets::device("cpu")?;
    let mut network = Network::new(backbone, Pool::Max, 1, &device)?;
    let mut optimizer = network.optimizer(OptimizerKind::Sgd, 0.9, 1e-4)?;
    let x = Tensor::randn(0f32, 1.0, (batch, side, side, 3), &device)?;
    let targets = Tensor::zeros((batch, cxr::OUTPUTS), candle_core::DType::F32, &device)?;
    println!("{backbone}, batch {batch}, {side} px, {} threads, {:?}", rayon::current_num_threads(), ops::isa());

    let train = median(steps, || {
        let (_, grads) = network.loss_and_grads(&x, &targets)?;
        network.update(&mut optimizer, &grads, 1e-3)
    })?;
    println!("train {:.1} images/s", batch as f64 / train);
    let evaluate = median(steps, || network.forward_eval(&x).map(drop))?;
    println!("evaluate {:.1} images/s", batch as f64 / evaluate);
    Ok(())
}

/// Median seconds of a call.
fn median(calls: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    call()?;
    let mut seconds = Vec::new();
    for _ in 0..calls.max(1) {
        let start = Instant::now();
        call()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
