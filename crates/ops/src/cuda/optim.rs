//! Optimiser steps, many tensors per launch.

use candle_core::{DType, Result, cuda_backend::cudarc::driver::DeviceRepr};
use half::bf16;

use super::{
    constants::{STEP as STEP_LEN, TENSORS as TENSORS_LEN, THREADS},
    launch::launch,
    operand::{NULL, View},
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

/// Launches a kernel for every [`TENSORS`] tensors: as many as fit into its arguments.
fn each(
    op: &'static str,
    steps: &[Step],
    mut go: impl FnMut(&candle_core::CudaDevice, Tensors, u32) -> Result<()>,
) -> Result<()> {
    for steps in steps.chunks(TENSORS) {
        let none = [NULL; TENSORS];
        let mut tensors = Tensors {
            param: none,
            grad: none,
            first: none,
            second: none,
            copy: none,
            lens: [0; TENSORS],
            ends: [0; TENSORS],
            half: [0; TENSORS],
            count: steps.len() as i32,
        };
        let (mut blocks, mut device) = (0, None);
        for (at, step) in steps.iter().enumerate() {
            let view = |name, tensor| View::new::<f32>(op, name, tensor);
            let param = view("param", step.param)?;
            device = Some(param.device()?.clone());
            tensors.param[at] = param.at;
            tensors.half[at] = u8::from(step.grad.dtype() == DType::BF16);
            tensors.grad[at] = match step.grad.dtype() {
                DType::BF16 => View::new::<bf16>(op, "grad", step.grad)?.at,
                _ => view("grad", step.grad)?.at,
            };
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
