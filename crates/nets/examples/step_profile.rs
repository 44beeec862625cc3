//! Where the time of a training step goes: every convolution beside what this machine could do, and every operator.
//!
//! Arguments: backbone, batch, side in pixels, `f32`, `tf32` or `bf16`, steps, device (`cpu` if left out). Of each convolution's three passes: achieved
//! GFLOP/s, and the share of the ceiling in brackets, which is the lower of multiplying (on a CPU operands in registers, on
//! CUDA large matrices) and of copying (each operand once through memory). The median over the steps, after one that is
//! not counted. On CUDA the host waits for every operator, so that the step takes longer than it would.
//!
//! ```sh
//! cargo run --release -p nets --example step_profile -- resnet50 16 224 f32 5
//! ```

#![allow(clippy::print_stdout)] // what a benchmark is for

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use nets::{Network, OptimizerKind, Pool, Precision};
use rayon::prelude::*;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

/// One call of an operator.
#[derive(Debug, Clone, Default)]
struct Call {
    op: String,
    shape: String,
    flop: u64,
    bytes: u64,
    seconds: f64,
}

impl Visit for Call {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "shape" {
            self.shape = format!("{value:?}");
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "op" {
            value.clone_into(&mut self.op);
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "flop" => self.flop = value,
            "bytes" => self.bytes = value,
            _ => {}
        }
    }
}

/// Collects the calls, each of which ends when the device is done with it.
#[derive(Clone)]
struct Calls(Arc<Mutex<Vec<Call>>>, Device);

impl Calls {
    fn take(&self) -> Vec<Call> {
        self.0.lock().map(|mut calls| std::mem::take(&mut *calls)).unwrap_or_default()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Calls {
    fn on_new_span(&self, attributes: &Attributes, id: &Id, context: Context<S>) {
        let mut call = Call::default();
        attributes.record(&mut call);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert((call, Instant::now()));
        }
    }

    fn on_close(&self, id: Id, context: Context<S>) {
        let Some(span) = context.span(&id) else { return };
        let Some((mut call, start)) = span.extensions_mut().remove::<(Call, Instant)>() else { return };
        // An error shows in the step that it belongs to.
        let _ = self.1.synchronize();
        call.seconds = start.elapsed().as_secs_f64();
        // A part of another operator is counted there.
        if span.parent().is_none()
            && let Ok(mut calls) = self.0.lock()
        {
            calls.push(call);
        }
    }
}

/// Calls of the same operator on the same shape, in one step.
#[derive(Debug, Clone, Default)]
struct Group {
    calls: usize,
    flop: u64,
    bytes: u64,
    /// Of each step.
    seconds: Vec<f64>,
}

impl Group {
    fn median(&self) -> f64 {
        median(&self.seconds)
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Bytes per second, read and written, of copies that no cache holds.
fn copy_ceiling(device: &Device) -> Result<f64, candle_core::Error> {
    const BYTES: usize = 512 << 20;
    const CHUNK: usize = 1 << 20;
    let from = vec![1u8; BYTES];
    let seconds: Vec<f64> = if device.is_cpu() {
        let mut to = vec![2u8; BYTES];
        let mut copy = || {
            to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        };
        (0..5).map(|_| timed(&mut copy, device)).collect::<Result<_, _>>()?
    } else {
        let from = Tensor::from_vec(from, BYTES, device)?;
        (0..5).map(|_| timed(&mut || from.copy().map(drop), device)).collect::<Result<_, _>>()?
    };
    Ok(2.0 * BYTES as f64 / seconds.into_iter().fold(f64::INFINITY, f64::min))
}

/// Multiplications and additions per second.
fn multiply_ceiling(precision: Precision, device: &Device) -> Result<f64, candle_core::Error> {
    let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    if device.is_cpu() {
        return Ok(ops::roofline::peak_flops(dtype));
    }
    #[cfg(feature = "cuda")]
    candle_core::cuda_backend::set_gemm_reduced_precision_f32(precision == Precision::Tf32);
    const SIDE: usize = 8192;
    let [a, b] = [1.0, 2.0].map(|mean| Tensor::randn(mean, 1f32, (SIDE, SIDE), device));
    let (a, b) = (a?.to_dtype(dtype)?, b?.to_dtype(dtype)?);
    let seconds: Vec<f64> = (0..5).map(|_| timed(&mut || a.matmul(&b).map(drop), device)).collect::<Result<_, _>>()?;
    Ok(2.0 * (SIDE as f64).powi(3) / seconds.into_iter().fold(f64::INFINITY, f64::min))
}

/// Seconds until the device is done.
fn timed(what: &mut dyn FnMut() -> Result<(), candle_core::Error>, device: &Device) -> Result<f64, candle_core::Error> {
    device.synchronize()?;
    let start = Instant::now();
    what()?;
    device.synchronize()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The operators of several training steps.
#[derive(Default)]
struct Profile {
    /// Operators and shapes in the order of the first step.
    order: Vec<(String, String)>,
    groups: BTreeMap<(String, String), Group>,
    /// Seconds of each step.
    wall: Vec<f64>,
}

impl Profile {
    fn add(&mut self, calls: Vec<Call>, seconds: f64) {
        self.wall.push(seconds);
        self.groups.values_mut().for_each(|group| (group.calls, group.flop, group.bytes) = (0, 0, 0));
        for call in calls {
            let key = (call.op, call.shape);
            if !self.groups.contains_key(&key) {
                self.order.push(key.clone());
            }
            let group = self.groups.entry(key).or_default();
            group.calls += 1;
            group.flop += call.flop;
            group.bytes += call.bytes;
            group.seconds.resize(self.wall.len(), 0.0);
            group.seconds[self.wall.len() - 1] += call.seconds;
        }
    }

    /// One line per convolution, beside the ceilings: multiplications and bytes per second.
    fn print_convolutions(&self, multiply: f64, copy: f64) {
        println!("ceilings: {:.0} GFLOP/s, {:.1} GB/s copied (read and written)\n", multiply / 1e9, copy / 1e9);
        println!(
            "{:<30} {:>3} {:>7} {:>6} {:>14} {:>14} {:>14} {:>7}",
            "convolution", "n", "GFLOP", "MB", "forward", "input grad", "weight grad", "ms"
        );
        let mut shapes: Vec<&String> = Vec::new();
        for (op, shape) in &self.order {
            if op.starts_with("conv2d") && !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        const PASSES: [&str; 3] = ["conv2d_stats", "conv2d_input_grad", "conv2d_weight_grad"];
        let mut totals = [(0, 0.0, 0.0); 3];
        for shape in shapes {
            let group = |op: &str| self.groups.get(&(op.to_owned(), shape.clone()));
            let forward = group("conv2d_forward").or_else(|| group(PASSES[0]));
            let passes = [forward, group(PASSES[1]), group(PASSES[2])];
            let Some(first) = forward else { continue };
            let (gflop, megabytes) = (first.flop as f64 / 1e9, first.bytes as f64 / 1e6);
            let mut line = format!("{shape:<30} {:>3} {gflop:>7.2} {megabytes:>6.0}", first.calls);
            let mut ms = 0.0;
            for (pass, total) in passes.iter().zip(&mut totals) {
                let Some(group) = pass else {
                    line += &format!(" {:>14}", "");
                    continue;
                };
                let (flop, seconds) = (group.flop as f64, group.median());
                let least = (flop / multiply).max(group.bytes as f64 / copy);
                line += &format!(" {:>7.0} [{:>3.0}%]", flop / seconds / 1e9, 100.0 * least / seconds);
                *total = (total.0 + group.flop, total.1 + seconds, total.2 + least);
                ms += 1e3 * seconds;
            }
            println!("{line} {ms:>8.1}");
        }
        let mut line = format!("{:<48}", "all");
        for (flop, seconds, least) in totals {
            line += &format!(" {:>7.0} [{:>3.0}%]", flop as f64 / seconds / 1e9, 100.0 * least / seconds);
        }
        println!("{line} {:>8.1}\n", totals.iter().map(|total| 1e3 * total.1).sum::<f64>());
    }

    /// One line per operator, and the step as a whole.
    fn print_operators(&self, batch: usize) {
        println!("{:<30} {:>5} {:>9} {:>6} {:>8}", "operator", "calls", "ms", "share", "GB/s");
        let step = median(&self.wall);
        let mut by_op: BTreeMap<&str, (usize, f64, u64)> = BTreeMap::new();
        for ((op, _), group) in &self.groups {
            let sum = by_op.entry(op).or_default();
            *sum = (sum.0 + group.calls, sum.1 + group.median(), sum.2 + group.bytes);
        }
        let mut by_op: Vec<_> = by_op.into_iter().collect();
        by_op.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        for (op, (calls, seconds, bytes)) in &by_op {
            let rate = *bytes as f64 / seconds / 1e9;
            println!("{op:<30} {calls:>5} {:>9.2} {:>5.1}% {rate:>8.1}", 1e3 * seconds, 100.0 * seconds / step);
        }
        let inside: f64 = by_op.iter().map(|(_, sum)| sum.1).sum();
        let (outside, share) = (1e3 * (step - inside), 100.0 * (1.0 - inside / step));
        println!("{:<30} {:>5} {outside:>9.2} {share:>5.1}%", "outside the operators", "");
        println!(
            "step {:.1} ms, {:.2} images/s; ratio operators {:.3}",
            1e3 * step,
            batch as f64 / step,
            inside / step
        );
    }
}

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: nets::OnLines = nets::OnLines;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    nets::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([backbone, batch, side, precision, steps], device) = (match &arguments[..] {
        [all @ .., device] if all.len() == 5 => (all, device.as_str()),
        all => (all, "cpu"),
    }) else {
        return Err("step_profile BACKBONE BATCH SIDE f32|tf32|bf16 STEPS [DEVICE]".into());
    };
    let (batch, side, steps): (usize, usize, usize) = (batch.parse()?, side.parse()?, steps.parse()?);
    let device = nets::device(device)?;
    let numbers = match precision.as_str() {
        "bf16" => Precision::Bf16,
        "tf32" => Precision::Tf32,
        _ => Precision::F32,
    };
    let (multiply, copy) = (multiply_ceiling(numbers, &device)?, copy_ceiling(&device)?);

    let calls = Calls(Arc::default(), device.clone());
    tracing_subscriber::registry().with(calls.clone()).init();
    let mut network = Network::new(backbone.parse()?, Pool::Max, 1, &device)?;
    network.set_precision(numbers)?;
    let mut optimizer = network.optimizer(OptimizerKind::Sgd, 0.9, 1e-4)?;
    let x = Tensor::randn(0f32, 1.0, (batch, side, side, 3), &device)?;
    let targets = Tensor::zeros((batch, cxr::OUTPUTS), DType::F32, &device)?;
    let mut profile = Profile::default();
    for step in 0..=steps {
        let start = Instant::now();
        let (_, grads) = network.loss_and_grads(&x, &targets)?;
        network.update(&mut optimizer, &grads, 1e-3)?;
        device.synchronize()?;
        let (seconds, calls) = (start.elapsed().as_secs_f64(), calls.take());
        if step > 0 {
            profile.add(calls, seconds);
        }
    }
    let isa = if device.is_cpu() { format!("{:?}, ", ops::isa()) } else { String::new() };
    println!("{backbone}, batch {batch}, {side} px, {precision}, {isa}{}", nets::describe(&device));
    profile.print_convolutions(multiply, copy);
    profile.print_operators(batch);
    Ok(())
}
