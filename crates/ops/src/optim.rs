//! Optimiser steps, in place.

pub(crate) mod average;
pub(crate) mod clip;
pub(crate) mod step;

use candle_core::{Result, Tensor};

pub use self::step::Step;
use crate::{
    error::Error,
    inplace::{Each2, Each3},
    trace,
};

/// One step of stochastic gradient descent, by PyTorch's formula, in place, of every parameter:
/// `momentum = mu momentum + (grad + wd param)`, then `param -= lr momentum`.
///
/// # Errors
///
/// The shapes of a step differ, or its tensors share storage.
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

/// A trace span: state and parameters are read and written, gradients are read.
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
/// As [`sgd_steps`]; a step has no second moment.
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
