//! Pooling, over windows and over whole feature maps.

use candle_core::{Result, Tensor, cuda_backend::cudarc::driver::DeviceRepr};

use super::{
    constants::{ACROSS, DOWN, POOL_AVG, POOL_LSE, POOL_MAX, THREADS},
    element::OnCuda,
    launch::{blocks, kernel, launch},
    norm::Prologue,
    operand::{View, address_of, tensor, uninit},
};
use crate::{
    input::Input,
    pool::shape::{Map, Pool, Windows},
};

/// The struct `Windows` in `cuda/channels.inc`: n, h, w, channels, k, stride, padding, oh, ow.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawWindows([i32; 9]);

// SAFETY: nine numbers, laid out as in C.
unsafe impl DeviceRepr for RawWindows {}

impl From<&Windows> for RawWindows {
    fn from(&Windows { n, h, w, c, k, stride, padding, oh, ow }: &Windows) -> RawWindows {
        // `Windows::new` has checked that the product fits into memory, and no axis has 2^31 pixels.
        RawWindows([n, h, w, c, k, stride, padding, oh, ow].map(|size| size as i32))
    }
}

fn count(shape: [usize; 4]) -> usize {
    shape.iter().product()
}

/// The largest value of every window, and its tap; as [`crate::max_pool_forward`], after its checks.
pub(crate) fn max_pool<T: OnCuda>(op: &'static str, g: &Windows, x: Input) -> Result<(Tensor, Tensor)> {
    let Prologue { scale, shift, relu } = Prologue::new(op, x)?;
    let x = View::new::<T>(op, "x", x.x)?;
    let device = x.device()?.clone();
    let ((y, y_at), (index, index_at)) =
        (uninit::<T>(&device, count(g.output()))?, uninit::<u8>(&device, count(g.output()))?);
    let (name, vector) = kernel::<T>("max_pool", &[g.c]);
    // SAFETY: `x` and the results have the shapes of `g`.
    unsafe {
        launch!(device, &name, blocks(count(g.output()) / vector), (THREADS, 1);
            x.at, RawWindows::from(g), address_of(&scale), address_of(&shift), i32::from(relu), y_at, index_at);
    }
    Ok((tensor(y, &device, g.output().as_slice()), tensor(index, &device, g.output().as_slice())))
}

pub(crate) fn max_pool_grad<T: OnCuda>(op: &'static str, g: &Windows, dy: &Tensor, index: &Tensor) -> Result<Tensor> {
    let dy = View::new::<T>(op, "dy", dy)?;
    let index = View::bytes(op, "index", index)?;
    let device = dy.device()?.clone();
    let (dx, at) = uninit::<T>(&device, count(g.input()))?;
    let (name, vector) = kernel::<T>("max_pool_grad", &[g.c]);
    // SAFETY: as above.
    unsafe {
        launch!(device, &name, blocks(count(g.input()) / vector), (THREADS, 1); dy.at, index.at, RawWindows::from(g), at);
    }
    Ok(tensor(dx, &device, g.input().as_slice()))
}

pub(crate) fn avg_pool<T: OnCuda>(op: &'static str, g: &Windows, x: &Tensor) -> Result<Tensor> {
    let x = View::new::<T>(op, "x", x)?;
    let device = x.device()?.clone();
    let (y, at) = uninit::<T>(&device, count(g.output()))?;
    let (name, vector) = kernel::<T>("avg_pool", &[g.c]);
    // SAFETY: as above.
    unsafe {
        launch!(device, &name, blocks(count(g.output()) / vector), (THREADS, 1); x.at, RawWindows::from(g), at);
    }
    Ok(tensor(y, &device, g.output().as_slice()))
}

pub(crate) fn avg_pool_grad<T: OnCuda>(op: &'static str, g: &Windows, dy: &Tensor) -> Result<Tensor> {
    let dy = View::new::<T>(op, "dy", dy)?;
    let device = dy.device()?.clone();
    let (dx, at) = uninit::<T>(&device, count(g.input()))?;
    let (name, vector) = kernel::<T>("avg_pool_grad", &[g.c]);
    // SAFETY: as above.
    unsafe {
        launch!(device, &name, blocks(count(g.input()) / vector), (THREADS, 1); dy.at, RawWindows::from(g), at);
    }
    Ok(tensor(dx, &device, g.input().as_slice()))
}

/// The kernels' number of a pool, and its sharpness.
fn kind(pool: Pool) -> (u32, f32) {
    match pool {
        Pool::Max => (POOL_MAX, 0.0),
        Pool::Avg => (POOL_AVG, 0.0),
        Pool::Lse { r } => (POOL_LSE, r),
    }
}

/// As [`crate::global_pool_forward`], after its checks.
pub(crate) fn global_pool<T: OnCuda>(op: &'static str, g: Map, x: &Tensor, pool: Pool) -> Result<Tensor> {
    let Map { n, pixels, c } = g;
    let x = View::new::<T>(op, "x", x)?;
    let device = x.device()?;
    let (y, at) = uninit::<f32>(device, n * c)?;
    let (name, vector) = kernel::<T>("global_pool", &[c]);
    let (kind, r) = kind(pool);
    let across = c.div_ceil(vector * ACROSS as usize) as u32;
    if n > 0 {
        // SAFETY: `x` has `n` maps of `pixels` pixels and `c` channels.
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
    let (dx, at) = uninit::<T>(device, shape.elem_count())?;
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
