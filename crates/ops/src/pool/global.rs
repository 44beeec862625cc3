//! Pooling over whole feature maps: maximum, mean, log-sum-exp.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::shape::{Map, Pool};
use crate::{
    trace,
    view::{Stored, View, check_shape, on_cuda, stored},
};

/// Pools each channel of each feature map over all its pixels.
///
/// # Shapes
///
/// `x [N, H, W, C]` to `[N, C]` of `f32`.
pub fn global_pool_forward(x: &Tensor, pool: Pool) -> Result<Tensor> {
    let op = "global_pool_forward";
    let g = Map::new(op, x, pool)?;
    let _span = trace::pass(op, &[x]);
    stored!(x, whole_forward(op, g, x, pool))
}

/// The gradient of [`global_pool_forward`].
///
/// # Shapes
///
/// `x [N, H, W, C]`, its pool `y [N, C]` and the pool's gradient `dy [N, C]`, both of `f32`, to `[N, H, W, C]`.
pub fn global_pool_backward(x: &Tensor, y: &Tensor, dy: &Tensor, pool: Pool) -> Result<Tensor> {
    let op = "global_pool_backward";
    let g = Map::new(op, x, pool)?;
    check_shape(op, "y", y, &[g.n, g.c])?;
    check_shape(op, "dy", dy, &[g.n, g.c])?;
    let _span = trace::pass(op, &[x, x]);
    stored!(x, whole_backward(op, g, x, y, dy, pool))
}

fn whole_forward<T: Stored>(op: &'static str, g: Map, x: &Tensor, pool: Pool) -> Result<Tensor> {
    on_cuda!(x, crate::cuda::global_pool::<T>(op, g, x, pool));
    let Map { n, pixels, c } = g;
    let x: View<T> = View::new(op, "x", x)?;
    let mut y = vec![0f32; n * c];
    let maps = y.par_chunks_mut(c).zip(x.par_chunks(pixels * c));
    maps.for_each(|(y, x)| {
        let fold = |y: &mut [f32], f: &dyn Fn(&mut f32, f32)| {
            for row in x.chunks_exact(c) {
                y.iter_mut().zip(row).for_each(|(y, x)| f(y, x.wide()));
            }
        };
        match pool {
            Pool::Avg => {
                fold(y, &|y, x| *y += x);
                y.iter_mut().for_each(|y| *y /= pixels as f32);
            }
            Pool::Max | Pool::Lse { .. } => {
                y.iter_mut().zip(&x[..c]).for_each(|(y, x)| *y = x.wide());
                fold(y, &|y, x| *y = if (x > *y) | x.is_nan() { x } else { *y });
            }
        }
        if let Pool::Lse { r } = pool {
            let mut sum = vec![0f32; c];
            for row in x.chunks_exact(c) {
                for ((sum, x), top) in sum.iter_mut().zip(row).zip(y.iter()) {
                    *sum += (r * (x.wide() - top)).exp();
                }
            }
            for (top, sum) in y.iter_mut().zip(&sum) {
                *top += (sum / pixels as f32).ln() / r;
            }
        }
    });
    Tensor::from_vec(y, (n, c), &Device::Cpu)
}

fn whole_backward<T: Stored>(
    op: &'static str,
    g: Map,
    x: &Tensor,
    y: &Tensor,
    dy: &Tensor,
    pool: Pool,
) -> Result<Tensor> {
    on_cuda!(x, crate::cuda::global_pool_grad::<T>(op, g, x, y, dy, pool));
    let (shape, Map { pixels, c, .. }) = (x.shape(), g);
    let x: View<T> = View::new(op, "x", x)?;
    let (y, dy): (View, View) = (View::new(op, "y", y)?, View::new(op, "dy", dy)?);
    let mut dx = vec![T::ZERO; x.len()];
    let maps = dx.par_chunks_mut(pixels * c).zip(x.par_chunks(pixels * c));
    let pooled = y.par_chunks(c).zip(dy.par_chunks(c));
    maps.zip(pooled).for_each(|((dx, x), (y, dy))| {
        let mut open = vec![true; c];
        for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for j in 0..c {
                let x = x[j].wide();
                dx[j] = T::narrow(match pool {
                    Pool::Avg => dy[j] / pixels as f32,
                    Pool::Lse { r } => dy[j] * (r * (x - y[j])).exp() / pixels as f32,
                    Pool::Max if open[j] && (x == y[j] || x.is_nan()) => {
                        open[j] = false;
                        dy[j]
                    }
                    Pool::Max => 0.0,
                });
            }
        }
    });
    Tensor::from_vec(dx, shape, &Device::Cpu)
}
