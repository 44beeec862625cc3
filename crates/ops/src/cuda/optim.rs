//! Steps of optimisers, many tensors at a time.

use candle_core::{Result, cuda_backend::cudarc::driver::DeviceRepr};

use super::{NULL, THREADS, View, launch};
use crate::{Error, Step};

/// Tensors of one launch (as in the kernels).
const TENSORS: usize = 72;
/// Elements that a block steps over (as in the kernels).
const STEP: usize = 4096;

/// As the kernels have it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensors {
    param: [u64; TENSORS],
    grad: [u64; TENSORS],
    first: [u64; TENSORS],
    second: [u64; TENSORS],
    ends: [i32; TENSORS],
    count: i32,
    lens: [i64; TENSORS],
}

// SAFETY: numbers and addresses, laid out as in C.
unsafe impl DeviceRepr for Tensors {}

/// Launches a kernel for as many tensors at a time as its parameters hold.
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
            ends: [0; TENSORS],
            count: steps.len() as i32,
            lens: [0; TENSORS],
        };
        let (mut blocks, mut device) = (0, None);
        for (at, step) in steps.iter().enumerate() {
            let view = |name, tensor| View::new::<f32>(op, name, tensor);
            let param = view("param", step.param)?;
            device = Some(param.device()?.clone());
            tensors.param[at] = param.at;
            tensors.grad[at] = view("grad", step.grad)?.at;
            tensors.first[at] = view("first", step.first)?.at;
            tensors.second[at] =
                step.second.map_or(Ok(NULL), |second| Ok::<_, candle_core::Error>(view("second", second)?.at))?;
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
        // SAFETY: every address is that of a tensor of the length beside it; nobody else has these parameters.
        unsafe { launch!(device, "sgd", (blocks, 1), (THREADS, 1); tensors, lr, mu, wd) };
        Ok(())
    })
}

/// AdamW, by PyTorch's formula, with learning rate, betas, epsilon and weight decay; `step` counts from 1.
pub(crate) fn adamw(op: &'static str, steps: &[Step], [lr, beta1, beta2, eps, wd]: [f32; 5], step: u64) -> Result<()> {
    if steps.iter().any(|step| step.second.is_none()) {
        return Err(Error::Parameter { op, name: "second", expected: "a moment".into(), got: "None".into() }.into());
    }
    let correction = |beta: f32| (1.0 - f64::from(beta).powf(step.max(1) as f64)) as f32;
    each(op, steps, |device, tensors, blocks| {
        // SAFETY: as above.
        unsafe {
            launch!(device, "adamw", (blocks, 1), (THREADS, 1);
                tensors, lr, beta1, beta2, eps, wd, correction(beta1), correction(beta2));
        }
        Ok(())
    })
}
