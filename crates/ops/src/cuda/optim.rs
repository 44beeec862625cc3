//! Optimiser steps, moving averages and clipping, many tensors per launch.

use candle_core::{CudaDevice, DType, Result, Tensor, cuda_backend::cudarc::driver::DeviceRepr};
use half::bf16;

use super::{
    constants::{STEP as STEP_LEN, TENSORS as TENSORS_LEN, THREADS},
    launch::launch,
    operand::{NULL, View, address, uninit},
};
use crate::{error::Error, optim::step::Step};

/// Tensors of one launch.
const TENSORS: usize = TENSORS_LEN as usize;
/// Elements that a block updates.
const STEP: usize = STEP_LEN as usize;

/// The struct of this name in `cuda/kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensors {
    param: [u64; TENSORS],
    grad: [u64; TENSORS],
    first: [u64; TENSORS],
    second: [u64; TENSORS],
    copy: [u64; TENSORS],
    lens: [i64; TENSORS],
    ends: [i32; TENSORS],
    half: [u8; TENSORS],
    count: i32,
}

// SAFETY: numbers and addresses, laid out as in C.
unsafe impl DeviceRepr for Tensors {}

impl Tensors {
    fn none(count: usize) -> Tensors {
        let none = [NULL; TENSORS];
        Tensors {
            param: none,
            grad: none,
            first: none,
            second: none,
            copy: none,
            lens: [0; TENSORS],
            ends: [0; TENSORS],
            half: [0; TENSORS],
            count: count as i32,
        }
    }
}

/// The address of a gradient, and whether it is bf16.
fn gradient(op: &'static str, grad: &Tensor) -> Result<(u64, u8)> {
    Ok(match grad.dtype() {
        DType::BF16 => (View::new::<bf16>(op, "grad", grad)?.at, 1),
        _ => (View::new::<f32>(op, "grad", grad)?.at, 0),
    })
}

/// Launches a kernel for every [`TENSORS`] tensors: as many as fit into its arguments.
fn each(
    op: &'static str,
    steps: &[Step],
    mut go: impl FnMut(&candle_core::CudaDevice, Tensors, u32) -> Result<()>,
) -> Result<()> {
    for steps in steps.chunks(TENSORS) {
        let mut tensors = Tensors::none(steps.len());
        let (mut blocks, mut device) = (0, None);
        for (at, step) in steps.iter().enumerate() {
            let view = |name, tensor| View::new::<f32>(op, name, tensor);
            let param = view("param", step.param)?;
            device = Some(param.device()?.clone());
            tensors.param[at] = param.at;
            (tensors.grad[at], tensors.half[at]) = gradient(op, step.grad)?;
            tensors.first[at] = view("first", step.first)?.at;
            tensors.second[at] =
                step.second.map(|second| view("second", second)).transpose()?.map_or(NULL, |second| second.at);
            if let Some(copy) = step.copy {
                tensors.copy[at] = View::new::<bf16>(op, "copy", copy)?.at;
            }
            let at_once = [tensors.param[at], tensors.grad[at], tensors.first[at], tensors.second[at]];
            if let Some(twice) = (0..4).find(|&i| at_once[i] != NULL && at_once[..i].contains(&at_once[i])) {
                let (name, expected) = (["param", "grad", "first", "second"][twice], "a tensor of its own".to_owned());
                let got = "one that shares storage with another operand".to_owned();
                return Err(Error::Parameter { op, name, expected, got }.into());
            }
            let len = step.param.elem_count();
            blocks += len.div_ceil(STEP);
            tensors.ends[at] = blocks as i32;
            tensors.lens[at] = len as i64;
        }
        if let Some(device) = device {
            go(&device, tensors, blocks as u32)?;
        }
    }
    Ok(())
}

/// SGD with momentum and weight decay, by PyTorch's formula.
pub(crate) fn sgd(op: &'static str, steps: &[Step], lr: f32, mu: f32, wd: f32) -> Result<()> {
    each(op, steps, |device, tensors, blocks| {
        // SAFETY: every address is that of a tensor with the length beside it, and no two of them overlap.
        unsafe { launch!(device, "sgd", (blocks, 1), (THREADS, 1); tensors, lr, mu, wd) };
        Ok(())
    })
}

/// AdamW, by PyTorch's formula, with learning rate, betas, epsilon and weight decay; `step` counts from 1.
pub(crate) fn adamw(op: &'static str, steps: &[Step], [lr, beta1, beta2, eps, wd]: [f64; 5], step: u64) -> Result<()> {
    if steps.iter().any(|step| step.second.is_none()) {
        return Err(Error::Parameter { op, name: "second", expected: "a moment".into(), got: "None".into() }.into());
    }
    // Computed in f64: these do not depend on the elements.
    let bias = |beta: f64| 1.0 - beta.powf(step.max(1) as f64);
    let (rate, root) = ((lr / bias(beta1)) as f32, bias(beta2).sqrt() as f32);
    let kept = (1.0 - lr * wd) as f32;
    let [(beta1, rest1), (beta2, rest2)] = [beta1, beta2].map(|beta| (beta as f32, (1.0 - beta) as f32));
    each(op, steps, |device, tensors, blocks| {
        // SAFETY: as above.
        unsafe {
            launch!(device, "adamw", (blocks, 1), (THREADS, 1);
                tensors, beta1, rest1, beta2, rest2, eps as f32, kept, rate, root);
        }
        Ok(())
    })
}

/// Launches a kernel for every [`TENSORS`] gradients, each with a tensor of `f32` that it is to change, or with none.
fn each_pair(
    op: &'static str,
    pairs: &[(Option<&Tensor>, &Tensor)],
    mut go: impl FnMut(&CudaDevice, Tensors, u32) -> Result<()>,
) -> Result<()> {
    for pairs in pairs.chunks(TENSORS) {
        let mut tensors = Tensors::none(pairs.len());
        let (mut blocks, mut device) = (0, None);
        for (at, (param, grad)) in pairs.iter().enumerate() {
            (tensors.grad[at], tensors.half[at]) = gradient(op, grad)?;
            if let Some(param) = param {
                tensors.param[at] = View::new::<f32>(op, "param", param)?.at;
            }
            if tensors.param[at] == tensors.grad[at] {
                let (expected, got) = ("a tensor of its own".to_owned(), "one that shares storage".to_owned());
                return Err(Error::Parameter { op, name: "param", expected, got }.into());
            }
            if device.is_none() {
                device = Some(grad.device().as_cuda_device()?.clone());
            }
            let len = grad.elem_count();
            blocks += len.div_ceil(STEP);
            tensors.ends[at] = blocks as i32;
            tensors.lens[at] = len as i64;
        }
        if let Some(device) = device {
            go(&device, tensors, blocks as u32)?;
        }
    }
    Ok(())
}

/// As [`crate::average_steps`], after its checks; `weight` is one less the decay.
pub(crate) fn average(op: &'static str, pairs: &[(&Tensor, &Tensor)], weight: f32) -> Result<()> {
    let pairs: Vec<_> = pairs.iter().map(|&(average, value)| (Some(average), value)).collect();
    each_pair(op, &pairs, |device, tensors, blocks| {
        // SAFETY: every address is that of a tensor with the length beside it, and an average is no value.
        unsafe { launch!(device, "average", (blocks, 1), (THREADS, 1); tensors, weight) };
        Ok(())
    })
}

/// The values of some tensors of `f32` or bf16, times a factor, behind each other as `f32`.
#[cfg(feature = "nccl")]
pub(super) fn joined(op: &'static str, tensors: &[&Tensor], factor: f32) -> Result<Tensor> {
    let Some(first) = tensors.first() else { return Tensor::zeros(0, DType::F32, &candle_core::Device::Cpu) };
    let device = first.device().as_cuda_device()?;
    let count = tensors.iter().map(|tensor| tensor.elem_count()).sum::<usize>();
    let (made, mut at) = uninit::<f32>(device, count)?;
    for tensors in tensors.chunks(TENSORS) {
        let pairs: Vec<_> = tensors.iter().map(|&tensor| (None, tensor)).collect();
        each_pair(op, &pairs, |device, mut into, blocks| {
            for (param, len) in into.param.iter_mut().zip(into.lens).take(tensors.len()) {
                *param = at;
                at += len as u64 * size_of::<f32>() as u64;
            }
            // SAFETY: every value has the place behind that of the one before, and there are as many places as values.
            unsafe { launch!(device, "join", (blocks, 1), (THREADS, 1); into, factor) };
            Ok(())
        })?;
    }
    Ok(super::operand::tensor(made, device, count))
}

/// As [`crate::clip_by_norm`], after its checks; `eps` is added to the norm.
pub(crate) fn clip_by_norm(op: &'static str, grads: &[&Tensor], most: f64, eps: f64) -> Result<()> {
    let Some(first) = grads.first() else { return Ok(()) };
    let device = first.device().as_cuda_device()?;
    let count: usize = grads.iter().map(|grad| grad.elem_count().div_ceil(STEP)).sum();
    let ((sums, _), (_factor, factor_at)) = (uninit::<f64>(device, count)?, uninit::<f32>(device, 1)?);
    let (sums_at, mut done) = (address(&sums, device), 0);
    let pairs: Vec<_> = grads.iter().map(|&grad| (None, grad)).collect();
    each_pair(op, &pairs, |device, tensors, blocks| {
        let into = sums_at + (done * size_of::<f64>()) as u64;
        done += blocks as usize;
        // SAFETY: as above; a block writes one of the sums, of which there are as many as blocks in all launches.
        unsafe { launch!(device, "squares", (blocks, 1), (THREADS, 1); tensors, into) };
        Ok(())
    })?;
    // SAFETY: `count` sums have been written, and the factor has one element.
    unsafe { launch!(device, "clip_factor", (1, 1), (THREADS, 1); sums_at, count as i32, most, eps, factor_at) };
    each_pair(op, &pairs, |device, tensors, blocks| {
        // SAFETY: as above; nothing else has these gradients.
        unsafe { launch!(device, "scale", (blocks, 1), (THREADS, 1); tensors, factor_at) };
        Ok(())
    })
}
