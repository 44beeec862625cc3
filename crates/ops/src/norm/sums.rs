//! Sums over pixels, per channel.

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::{
    error::Error,
    kernel::{Element, moments::Moments, vectorised},
};

/// Pixels that are summed in `f32` before the sum is added to an `f64` one.
const STRIP: usize = 64;
/// The most parts into which a sum over pixels is split.
const PARTS: usize = 64;

/// The number of channels of `x [..., C]`, which must not be empty.
pub(super) fn channels(op: &'static str, x: &Tensor) -> Result<usize> {
    match x.dims().last() {
        Some(&c) if x.elem_count() > 0 => Ok(c),
        _ => Err(Error::Shape {
            op,
            name: "x",
            expected: "[..., C], at least one pixel and one channel".into(),
            got: x.dims().to_vec(),
        }
        .into()),
    }
}

pub(super) fn narrow(wide: &[f64]) -> Vec<f32> {
    wide.iter().map(|v| *v as f32).collect()
}

/// Two sums per channel over `pixels`; `strip` adds the terms of a range of pixels to the two slices.
pub(super) fn channel_sums(
    pixels: usize,
    c: usize,
    strip: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> [Vec<f64>; 2] {
    let part = pixels.div_ceil(PARTS).next_multiple_of(STRIP);
    let parts: Vec<[Vec<f64>; 2]> = (0..pixels.div_ceil(part))
        .into_par_iter()
        .map(|i| {
            let (mut a, mut b) = (vec![0f64; c], vec![0f64; c]);
            let (mut sa, mut sb) = (vec![0f32; c], vec![0f32; c]);
            let end = ((i + 1) * part).min(pixels);
            for first in (i * part..end).step_by(STRIP) {
                sa.fill(0.0);
                sb.fill(0.0);
                strip(first..(first + STRIP).min(end), &mut sa, &mut sb);
                add_wide(&mut a, &sa);
                add_wide(&mut b, &sb);
            }
            [a, b]
        })
        .collect();
    let mut total = [vec![0f64; c], vec![0f64; c]];
    for part in &parts {
        for (total, part) in total.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        }
    }
    total
}

fn add_wide(wide: &mut [f64], narrow: &[f32]) {
    wide.iter_mut().zip(narrow).for_each(|(w, n)| *w += f64::from(*n));
}

/// Mean and biased variance per channel. Values are taken relative to the first pixel, so that the variance stays exact when
/// the mean is far from zero.
pub(super) fn moments<T: Element>(x: &[T], c: usize) -> Moments {
    let pixels = x.len() / c;
    let origin = &x[..c];
    let [sum, squares] = channel_sums(pixels, c, |range, sum, squares| {
        vectorised(|| {
            for row in x[range.start * c..range.end * c].chunks_exact(c) {
                let sums = sum.iter_mut().zip(squares.iter_mut());
                for ((x, origin), (sum, squares)) in row.iter().zip(origin).zip(sums) {
                    let d = x.wide() - origin.wide();
                    *sum += d;
                    *squares += d * d;
                }
            }
        })
    });
    let n = pixels as f64;
    let shift = sum.iter().map(|s| s / n);
    Moments {
        mean: shift.clone().zip(origin).map(|(s, o)| s + f64::from(o.wide())).collect(),
        var: shift.zip(&squares).map(|(s, q)| (q / n - s * s).max(0.0)).collect(),
    }
}

/// Scale and shift, per channel, such that `scale x + shift = gamma (x - mean) inv_std + beta`.
pub(super) fn scale_shift(gamma: &[f32], beta: &[f32], mean: &[f32], inv_std: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let scale: Vec<f64> = gamma.iter().zip(inv_std).map(|(g, s)| f64::from(*g) * f64::from(*s)).collect();
    let shift = beta.iter().zip(mean).zip(&scale).map(|((b, m), s)| (f64::from(*b) - f64::from(*m) * s) as f32);
    (narrow(&scale), shift.collect())
}
