//! Pooling: windows and whole maps.

use candle_core::{Result, Tensor, cuda_backend::cudarc::driver::DeviceRepr};

use super::{ACROSS, DOWN, OnCuda, THREADS, View, address_of, blocks, kernel, launch, norm::Change, room, tensor};
use crate::{Input, Pool, pool::Map};

/// As the kernels have it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Windows {
    pub(crate) n: i32,
    pub(crate) h: i32,
    pub(crate) w: i32,
    pub(crate) channels: i32,
    pub(crate) k: i32,
    pub(crate) stride: i32,
    pub(crate) padding: i32,
    pub(crate) oh: i32,
    pub(crate) ow: i32,
}

// SAFETY: nine numbers, laid out as in C.
unsafe impl DeviceRepr for Windows {}

impl Windows {
    fn input(&self) -> [usize; 4] {
        [self.n, self.h, self.w, self.channels].map(|size| size as usize)
    }

    fn output(&self) -> [usize; 4] {
        [self.n, self.oh, self.ow, self.channels].map(|size| size as usize)
    }
}

fn count(shape: [usize; 4]) -> usize {
    shape.iter().product()
}

/// The largest value of every window, and its tap.
pub(crate) fn max_pool<T: OnCuda>(op: &'static str, g: Windows, x: Input) -> Result<(Tensor, Tensor)> {
    let Change { scale, shift, relu } = Change::new(op, x)?;
    let x = View::new::<T>(op, "x", x.x)?;
    let device = x.device()?.clone();
    let ((y, y_at), (index, index_at)) =
        (room::<T>(&device, count(g.output()))?, room::<u8>(&device, count(g.output()))?);
    let (name, vector) = kernel::<T>("max_pool", &[g.channels as usize]);
    // SAFETY: `x` and the results have the shapes of `g`.
    unsafe {
        launch!(device, &name, blocks(count(g.output()) / vector), (THREADS, 1);
            x.at, g, address_of(&scale), address_of(&shift), i32::from(relu), y_at, index_at);
    }
    Ok((tensor(y, &device, g.output().as_slice()), tensor(index, &device, g.output().as_slice())))
}

pub(crate) fn max_pool_grad<T: OnCuda>(op: &'static str, g: Windows, dy: &Tensor, index: &Tensor) -> Result<Tensor> {
    let dy = View::new::<T>(op, "dy", dy)?;
    let index = View::bytes(op, "index", index)?;
    let device = dy.device()?.clone();
    let (dx, at) = room::<T>(&device, count(g.input()))?;
    let (name, vector) = kernel::<T>("max_pool_grad", &[g.channels as usize]);
    // SAFETY: as above.
    unsafe {
        launch!(device, &name, blocks(count(g.input()) / vector), (THREADS, 1); dy.at, index.at, g, at);
    }
    Ok(tensor(dx, &device, g.input().as_slice()))
}

pub(crate) fn avg_pool<T: OnCuda>(op: &'static str, g: Windows, x: &Tensor) -> Result<Tensor> {
    let x = View::new::<T>(op, "x", x)?;
    let device = x.device()?.clone();
    let (y, at) = room::<T>(&device, count(g.output()))?;
    let (name, vector) = kernel::<T>("avg_pool", &[g.channels as usize]);
    // SAFETY: as above.
    unsafe {
        launch!(device, &name, blocks(count(g.output()) / vector), (THREADS, 1); x.at, g, at);
    }
    Ok(tensor(y, &device, g.output().as_slice()))
}

pub(crate) fn avg_pool_grad<T: OnCuda>(op: &'static str, g: Windows, dy: &Tensor) -> Result<Tensor> {
    let dy = View::new::<T>(op, "dy", dy)?;
    let device = dy.device()?.clone();
    let (dx, at) = room::<T>(&device, count(g.input()))?;
    let (name, vector) = kernel::<T>("avg_pool_grad", &[g.channels as usize]);
    // SAFETY: as above.
    unsafe {
        launch!(device, &name, blocks(count(g.input()) / vector), (THREADS, 1); dy.at, g, at);
    }
    Ok(tensor(dx, &device, g.input().as_slice()))
}

/// The kind of a pool as the kernels number it, and its sharpness.
fn kind(pool: Pool) -> (i32, f32) {
    match pool {
        Pool::Max => (0, 0.0),
        Pool::Avg => (1, 0.0),
        Pool::Lse { r } => (2, r),
    }
}

/// As [`crate::global_pool_forward`], after its checks.
pub(crate) fn global_pool<T: OnCuda>(op: &'static str, g: Map, x: &Tensor, pool: Pool) -> Result<Tensor> {
    let Map { n, pixels, c } = g;
    let x = View::new::<T>(op, "x", x)?;
    let device = x.device()?;
    let (y, at) = room::<f32>(device, n * c)?;
    let (name, vector) = kernel::<T>("global_pool", &[c]);
    let (kind, r) = kind(pool);
    let across = c.div_ceil(vector * ACROSS as usize) as u32;
    if n > 0 {
        // SAFETY: `x` has so many maps of so many pixels and channels.
        unsafe {
            launch!(device, &name, (across, n as u32), (ACROSS, DOWN); x.at, pixels as i32, c as i32, kind, r, at);
        }
    }
    Ok(tensor(y, device, (n, c)))
}

/// As [`crate::global_pool_backward`], after its checks.
pub(crate) fn global_pool_grad<T: OnCuda>(
    op: &'static str,
    g: Map,
    x: &Tensor,
    y: &Tensor,
    dy: &Tensor,
    pool: Pool,
) -> Result<Tensor> {
    let (shape, Map { n, pixels, c }) = (x.shape(), g);
    let x = View::new::<T>(op, "x", x)?;
    let (y, dy) = (View::new::<f32>(op, "y", y)?, View::new::<f32>(op, "dy", dy)?);
    let device = x.device()?;
    let (dx, at) = room::<T>(device, shape.elem_count())?;
    let (name, vector) = kernel::<T>("global_pool_grad", &[c]);
    let (kind, r) = kind(pool);
    let across = c.div_ceil(vector * THREADS as usize) as u32;
    if n > 0 {
        // SAFETY: as above.
        unsafe {
            launch!(device, &name, (across, n as u32), (THREADS, 1);
                x.at, y.at, dy.at, pixels as i32, c as i32, kind, r, at);
        }
    }
    Ok(tensor(dx, device, shape))
}
