//! Pooling over windows: maximum and mean.

use std::mem::MaybeUninit;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::shape::{Windows, X};
use crate::{
    buffer,
    input::{Input, InputView},
    kernel::{
        Element, Prologue, Source, vectorised,
        windows::{self, Row, Taps},
    },
    trace,
    view::{Stored, View, check_shape, dims4, on_cuda, stored},
};

/// The largest value of each `k`×`k` window, and the tap of the window it is at, `ky k + kx` (the first of equals). Padding
/// is never the largest; NaN is larger than any number.
///
/// # Shapes
///
/// `x [N, H, W, C]` to two `[N, Ho, Wo, C]`, `f32` and `u8`; `Ho = (H + 2 padding - k) / stride + 1` rounded down.
pub fn max_pool_forward<'a>(
    x: impl Into<Input<'a>>,
    k: usize,
    stride: usize,
    padding: usize,
) -> Result<(Tensor, Tensor)> {
    fn run<T: Stored>(x: Input, k: usize, stride: usize, padding: usize) -> Result<(Tensor, Tensor)> {
        let op = "max_pool_forward";
        let g = Windows::new(op, dims4(op, "x", x.x, X)?, k, stride, padding)?;
        let _span = trace::pass(op, &[x.x]);
        on_cuda!(x.x, crate::cuda::max_pool::<T>(op, &g, x));
        let x = InputView::<T>::new(op, "x", x)?;
        let (y, index) = max_forward(&g, x.source());
        Ok((Tensor::from_vec(y, &g.output(), &Device::Cpu)?, Tensor::from_vec(index, &g.output(), &Device::Cpu)?))
    }
    // Not generic, so that the kernels are compiled here and not by every user.
    fn stored(x: Input, k: usize, stride: usize, padding: usize) -> Result<(Tensor, Tensor)> {
        stored!(x.x, run(x, k, stride, padding))
    }
    stored(x.into(), k, stride, padding)
}

fn max_forward<T: Element>(g: &Windows, x: Source<T>) -> (Vec<T>, Vec<u8>) {
    let (c, row) = (g.c, g.ow * g.c);
    let len = g.n * g.oh * row;
    let (ones, zeros) = (vec![1.0; c], vec![0.0; c]);
    let prologue = x.prologue.unwrap_or(Prologue { scale: &ones, shift: &zeros, relu: false });
    let (down, across) = (Taps::new(g.oh, |o| g.taps(o, g.h)), Taps::new(g.ow, |o| g.taps(o, g.w)));
    let mut index = vec![0u8; len];
    let pass = |y: &mut [MaybeUninit<T>]| {
        let rows = y.par_chunks_mut(row).zip(index.par_chunks_mut(row));
        rows.enumerate().for_each(|(r, (y, index))| {
            let row = Row { rows: down.at(r % g.oh), columns: &across, width: g.w, k: g.k, channels: c };
            let image = &x.data[r / g.oh * g.h * g.w * x.pitch..];
            windows::largest(row, image, x.pitch, prologue, y, index);
        });
    };
    // SAFETY: the chunks tile `y`, and `Windows::new` allows no window without a tap inside, so each pixel is written.
    let y = unsafe { buffer::filled(len, pass) };
    (y, index)
}

/// The gradient of [`max_pool_forward`] with respect to `x`, whose height and width were `(h, w)`.
///
/// # Shapes
///
/// `dy` (`f32`) and `index` (`u8`) `[N, Ho, Wo, C]` to `[N, H, W, C]`.
pub fn max_pool_backward(
    dy: &Tensor,
    index: &Tensor,
    k: usize,
    stride: usize,
    padding: usize,
    (h, w): (usize, usize),
) -> Result<Tensor> {
    let op = "max_pool_backward";
    let [n, _, _, c] = dims4(op, "dy", dy, X)?;
    let g = Windows::new(op, [n, h, w, c], k, stride, padding)?;
    check_shape(op, "dy", dy, &g.output())?;
    check_shape(op, "index", index, &g.output())?;
    let _span = trace::pass(op, &[dy, index]);
    stored!(dy, max_backward(op, &g, dy, index))
}

/// A gather: each input pixel adds the gradients of those windows over it whose maximum it is, so that no two threads write
/// to one element.
fn max_backward<T: Stored>(op: &'static str, g: &Windows, dy: &Tensor, index: &Tensor) -> Result<Tensor> {
    on_cuda!(dy, crate::cuda::max_pool_grad::<T>(op, g, dy, index));
    let index: View<u8> = View::new(op, "index", index)?;
    let dy: View<T> = View::new(op, "dy", dy)?;
    let (c, row, map) = (g.c, g.w * g.c, g.oh * g.ow * g.c);
    let (down, across) = (Taps::new(g.h, |at| g.covering(at, g.oh)), Taps::new(g.w, |at| g.covering(at, g.ow)));
    let pass = |dx: &mut [MaybeUninit<T>]| {
        dx.par_chunks_mut(row).enumerate().for_each(|(r, dx)| {
            let row = Row { rows: down.at(r % g.h), columns: &across, width: g.ow, k: g.k, channels: c };
            let image = r / g.h * map..(r / g.h + 1) * map;
            windows::chosen(row, &dy[image.clone()], &index[image], dx);
        });
    };
    // SAFETY: the chunks tile `dx`, and every pixel is written.
    let dx = unsafe { buffer::filled(g.n * g.h * row, pass) };
    Tensor::from_vec(dx, (g.n, g.h, g.w, c), &Device::Cpu)
}

/// The mean of each `k`×`k` window, windows side by side (stride `k`, no padding, incomplete ones left out).
///
/// # Shapes
///
/// `x [N, H, W, C]` to `[N, H / k, W / k, C]`, rounded down.
pub fn avg_pool_forward(x: &Tensor, k: usize) -> Result<Tensor> {
    let op = "avg_pool_forward";
    let g = Windows::new(op, dims4(op, "x", x, X)?, k, k, 0)?;
    let _span = trace::pass(op, &[x]);
    stored!(x, mean_forward(op, &g, x))
}

fn mean_forward<T: Stored>(op: &'static str, g: &Windows, x: &Tensor) -> Result<Tensor> {
    on_cuda!(x, crate::cuda::avg_pool::<T>(op, g, x));
    let x: View<T> = View::new(op, "x", x)?;
    let (c, k, row) = (g.c, g.k, g.ow * g.c);
    let share = 1.0 / (k * k) as f32;
    let pass = |y: &mut [MaybeUninit<T>]| {
        y.par_chunks_mut(row).enumerate().for_each(|(r, y)| {
            let (image, oy) = (r / g.oh, r % g.oh);
            let mut sum = vec![0f32; c];
            for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                sum.fill(0.0);
                for tap in 0..k * k {
                    let (iy, ix) = (oy * k + tap / k, ox * k + tap % k);
                    let x = &x[((image * g.h + iy) * g.w + ix) * c..][..c];
                    vectorised(|| sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x.wide() * share));
                }
                vectorised(|| y.iter_mut().zip(&sum).for_each(|(y, sum)| _ = y.write(T::narrow(*sum))));
            }
        });
    };
    // SAFETY: the chunks tile `y`, and every pixel is written.
    let y = unsafe { buffer::filled(g.n * g.oh * row, pass) };
    Tensor::from_vec(y, &g.output(), &Device::Cpu)
}

/// The gradient of [`avg_pool_forward`] with respect to `x`, whose height and width were `(h, w)`.
///
/// # Shapes
///
/// `dy [N, H / k, W / k, C]` to `[N, H, W, C]`.
pub fn avg_pool_backward(dy: &Tensor, k: usize, (h, w): (usize, usize)) -> Result<Tensor> {
    let op = "avg_pool_backward";
    let [n, _, _, c] = dims4(op, "dy", dy, X)?;
    let g = Windows::new(op, [n, h, w, c], k, k, 0)?;
    check_shape(op, "dy", dy, &g.output())?;
    let _span = trace::pass(op, &[dy]);
    stored!(dy, mean_backward(op, &g, dy))
}

fn mean_backward<T: Stored>(op: &'static str, g: &Windows, dy: &Tensor) -> Result<Tensor> {
    on_cuda!(dy, crate::cuda::avg_pool_grad::<T>(op, g, dy));
    let dy: View<T> = View::new(op, "dy", dy)?;
    let Windows { n, h, w, c, k, .. } = *g;
    let share = 1.0 / (k * k) as f32;
    let row = w * c;
    let pass = |dx: &mut [MaybeUninit<T>]| {
        dx.par_chunks_mut(row).enumerate().for_each(|(r, dx)| {
            let (image, oy) = (r / h, r % h / k);
            for (ix, dx) in dx.chunks_exact_mut(c).enumerate() {
                let ox = ix / k;
                if oy >= g.oh || ox >= g.ow {
                    dx.fill(MaybeUninit::new(T::ZERO));
                    continue;
                }
                let dy = &dy[((image * g.oh + oy) * g.ow + ox) * c..][..c];
                vectorised(|| {
                    for (dx, dy) in dx.iter_mut().zip(dy) {
                        dx.write(T::narrow(dy.wide() * share));
                    }
                });
            }
        });
    };
    // SAFETY: the chunks tile `dx`, and either branch writes the whole pixel.
    let dx = unsafe { buffer::filled(n * h * row, pass) };
    Tensor::from_vec(dx, (n, h, w, c), &Device::Cpu)
}
