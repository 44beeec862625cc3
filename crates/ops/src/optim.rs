//! Optimiser steps, in place.

use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor};
use rayon::prelude::*;

use crate::{
    Error,
    kernel::vectorised,
    trace,
    view::{check_shape, slice, slice_mut},
};

/// Elements per parallel task: 256 KiB.
const TASK: usize = 64 << 10;

/// A parameter, its gradient, and what an optimiser keeps of it; all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Changed in place.
    pub param: &'a Tensor,
    /// Its gradient: `f32`; on CUDA also bf16.
    pub grad: &'a Tensor,
    /// Momentum, or the first moment; changed in place.
    pub first: &'a Tensor,
    /// The second moment, which SGD has not; changed in place.
    pub second: Option<&'a Tensor>,
    /// On CUDA, a bf16 copy of the parameter that is written along with it; elsewhere there is none.
    pub copy: Option<&'a Tensor>,
}

impl Step<'_> {
    fn check(&self, op: &'static str) -> Result<()> {
        let operands = [
            ("param", Some(self.param)),
            ("grad", Some(self.grad)),
            ("first", Some(self.first)),
            ("second", self.second),
            ("copy", self.copy),
        ];
        for (name, tensor) in operands {
            let Some(tensor) = tensor else { continue };
            check_shape(op, name, tensor, self.param.dims())?;
            if !tensor.is_contiguous() {
                let (shape, strides) = (tensor.shape().clone(), tensor.stride().to_vec());
                return Err(Error::Strided { op, name, shape, strides }.into());
            }
            let half = name == "copy" || (name == "grad" && tensor.device().is_cuda() && tensor.dtype() == DType::BF16);
            let (expected, got) = (if half { DType::BF16 } else { DType::F32 }, tensor.dtype());
            if got != expected {
                return Err(Error::Type { op, name, expected, got }.into());
            }
        }
        Ok(())
    }
}

/// One step of stochastic gradient descent, by PyTorch's formula, in place, of every parameter:
/// `momentum = mu momentum + (grad + wd param)`, then `param -= lr momentum`.
///
/// # Errors
///
/// If the shapes of a step differ, or if its tensors share their storage.
pub fn sgd_steps(steps: &[Step], lr: f64, mu: f64, wd: f64) -> Result<()> {
    let op = "sgd_steps";
    steps.iter().try_for_each(|step| step.check(op))?;
    #[cfg(feature = "cuda")]
    if steps.first().is_some_and(|step| step.param.device().is_cuda()) {
        let _span = span(op, steps);
        return crate::cuda::sgd(op, steps, lr as f32, mu as f32, wd as f32);
    }
    steps.iter().try_for_each(|step| sgd_step(op, step, lr, mu, wd))
}

/// What is changed is read and written, the gradient read.
#[cfg(feature = "cuda")]
fn span(op: &'static str, steps: &[Step]) -> tracing::span::EnteredSpan {
    let tensors = steps.iter().flat_map(|&Step { param, grad, first, second, copy }| {
        [Some(param), Some(param), Some(first), Some(first), second, second, Some(grad), copy].into_iter().flatten()
    });
    trace::pass(op, &tensors.collect::<Vec<_>>())
}

/// One step of AdamW (Loshchilov and Hutter 2019), by PyTorch's formula, in place, of every parameter; `step` counts
/// from 1.
///
/// # Errors
///
/// As [`sgd_steps`]; a step without a second moment.
#[allow(clippy::too_many_arguments)] // the algorithm's own parameters
pub fn adamw_steps(steps: &[Step], lr: f64, b1: f64, b2: f64, eps: f64, wd: f64, step: u64) -> Result<()> {
    let op = "adamw_steps";
    steps.iter().try_for_each(|step| step.check(op))?;
    #[cfg(feature = "cuda")]
    if steps.first().is_some_and(|step| step.param.device().is_cuda()) {
        let _span = span(op, steps);
        return crate::cuda::adamw(op, steps, [lr, b1, b2, eps, wd], step);
    }
    steps.iter().try_for_each(|each| {
        let missing = || Error::Parameter { op, name: "second", expected: "a moment".into(), got: "None".into() };
        let second = each.second.ok_or_else(missing)?;
        adamw_step(op, each, second, lr, b1, b2, eps, wd, step)
    })
}

fn sgd_step(
    name: &'static str,
    Step { param, grad, first: momentum, .. }: &Step,
    lr: f64,
    mu: f64,
    wd: f64,
) -> Result<()> {
    let _span = trace::pass(name, &[param, grad, momentum, momentum, momentum, param, param]);
    let (lr, mu, wd) = (lr as f32, mu as f32, wd as f32);
    let f = move |m: f32, g: f32, p: f32| mu * m + (g + wd * p);
    momentum.inplace_op3(grad, param, &Each3 { name, f })?;
    let f = move |p: f32, m: f32| p - lr * m;
    param.inplace_op2(momentum, &Each2 { name, f })
}

#[allow(clippy::too_many_arguments)] // the algorithm's own parameters
fn adamw_step(
    name: &'static str,
    Step { param, grad, first: m, .. }: &Step,
    v: &Tensor,
    lr: f64,
    b1: f64,
    b2: f64,
    eps: f64,
    wd: f64,
    step: u64,
) -> Result<()> {
    let _span = trace::pass(name, &[param, grad, m, m, grad, v, v, m, v, param]);
    let bias = |b: f64| 1.0 - b.powf(step.max(1) as f64);
    let (size, root) = ((lr / bias(b1)) as f32, bias(b2).sqrt() as f32);
    let (keep, eps) = ((1.0 - lr * wd) as f32, eps as f32);
    let (one_b1, b2, one_b2) = ((1.0 - b1) as f32, b2 as f32, (1.0 - b2) as f32);
    let f = move |m: f32, g: f32| m + one_b1 * (g - m);
    m.inplace_op2(grad, &Each2 { name, f })?;
    let f = move |v: f32, g: f32| b2 * v + one_b2 * g * g;
    v.inplace_op2(grad, &Each2 { name, f })?;
    let f = move |p: f32, m: f32, v: f32| keep * p - size * m / (v.sqrt() / root + eps);
    param.inplace_op3(m, v, &Each3 { name, f })
}

/// `a = f(a, b)`, element by element.
pub(crate) struct Each2<F> {
    pub(crate) name: &'static str,
    pub(crate) f: F,
}

impl<F: Fn(f32, f32) -> f32 + Sync> InplaceOp2 for Each2<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<()> {
        let a = slice_mut(self.name, "first operand", a, la)?;
        let b: &[f32] = slice(self.name, "second operand", b, lb)?;
        a.par_chunks_mut(TASK)
            .zip(b.par_chunks(TASK))
            .for_each(|(a, b)| vectorised(|| a.iter_mut().zip(b).for_each(|(a, b)| *a = (self.f)(*a, *b))));
        Ok(())
    }
}

/// `a = f(a, b, c)`, element by element.
struct Each3<F> {
    name: &'static str,
    f: F,
}

impl<F: Fn(f32, f32, f32) -> f32 + Sync> InplaceOp3 for Each3<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
        c: &CpuStorage,
        lc: &Layout,
    ) -> Result<()> {
        let a = slice_mut(self.name, "first operand", a, la)?;
        let b: &[f32] = slice(self.name, "second operand", b, lb)?;
        let c: &[f32] = slice(self.name, "third operand", c, lc)?;
        a.par_chunks_mut(TASK).zip(b.par_chunks(TASK)).zip(c.par_chunks(TASK)).for_each(|((a, b), c)| {
            let operands = b.iter().zip(c);
            vectorised(|| {
                for (a, (b, c)) in a.iter_mut().zip(operands) {
                    *a = (self.f)(*a, *b, *c);
                }
            })
        });
        Ok(())
    }
}
