//! Pooling: windows (maximum, mean) and whole maps (maximum, mean, log-sum-exp).

use std::mem::MaybeUninit;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use crate::{
    Error, Input, buffer,
    input::InputView,
    kernel::{
        Element,
        conv::{Change, Source},
        vectorised,
        windows::{self, Row, Taps},
    },
    trace,
    view::{Stored, View, check_count, check_shape, dims4, on_cuda, stored},
};

const X: &str = "[N, H, W, C], no size 0";

/// The shape of a pooling by windows.
#[derive(Clone, Copy)]
struct Windows {
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    k: usize,
    stride: usize,
    padding: usize,
    oh: usize,
    ow: usize,
}

impl Windows {
    fn new(op: &'static str, [n, h, w, c]: [usize; 4], k: usize, stride: usize, padding: usize) -> Result<Self> {
        let refuse = |name, expected: String, got: usize| {
            let got = got.to_string();
            Err(Error::Parameter { op, name, expected, got }.into())
        };
        // The tap index is a byte; a window must touch at least one pixel.
        if !(1..=16).contains(&k) {
            return refuse("kernel", "1 to 16".into(), k);
        }
        if stride == 0 {
            return refuse("stride", "at least 1".into(), stride);
        }
        if padding > k / 2 {
            return refuse("padding", format!("at most half the kernel {k}"), padding);
        }
        check_count(op, "x", [n, h, w, c])?;
        for (name, size) in [("height", h), ("width", w)] {
            if size + 2 * padding < k || size == 0 {
                return refuse(name, format!("at least {} (kernel {k}, padding {padding})", k - 2 * padding), size);
            }
        }
        if c == 0 {
            return refuse("channels", "at least 1".into(), c);
        }
        let out = |size: usize| (size + 2 * padding - k) / stride + 1;
        Ok(Self { n, h, w, c, k, stride, padding, oh: out(h), ow: out(w) })
    }

    fn output(&self) -> [usize; 4] {
        [self.n, self.oh, self.ow, self.c]
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(&self) -> crate::cuda::Windows {
        let Windows { n, h, w, c, k, stride, padding, oh, ow } = *self;
        let size = |size: usize| size as i32; // `check_count` has seen their product, and no axis of 2^31 pixels fits
        crate::cuda::Windows {
            n: size(n),
            h: size(h),
            w: size(w),
            channels: size(c),
            k: size(k),
            stride: size(stride),
            padding: size(padding),
            oh: size(oh),
            ow: size(ow),
        }
    }

    /// The taps of output `o` along one axis of length `size` that fall inside: `(tap, position)`.
    fn taps(&self, o: usize, size: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let start = (o * self.stride) as isize - self.padding as isize;
        (0..self.k).filter_map(move |t| {
            let at = start + t as isize;
            (0..size as isize).contains(&at).then_some((t, at as usize))
        })
    }

    /// The outputs whose window covers position `at` along one axis with `outputs` outputs: `(tap, output)`.
    fn covering(&self, at: usize, outputs: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let (k, stride) = (self.k, self.stride);
        let at = at + self.padding;
        (0..k).rev().filter_map(move |t| {
            let offset = at.checked_sub(t)?;
            (offset % stride == 0 && offset / stride < outputs).then_some((t, offset / stride))
        })
    }
}

/// The largest value of each `k`×`k` window, and which tap of the window it was: `ky k + kx`, the first of equals.
/// Padding never wins. Not a number wins over any number.
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
        on_cuda!(x.x, crate::cuda::max_pool::<T>(op, g.on_cuda(), x));
        let x = InputView::<T>::new(op, "x", x)?;
        let (y, index) = max_forward(&g, x.source());
        Ok((Tensor::from_vec(y, &g.output(), &Device::Cpu)?, Tensor::from_vec(index, &g.output(), &Device::Cpu)?))
    }
    let x = x.into();
    stored!(x.x, run(x, k, stride, padding))
}

fn max_forward<T: Element>(g: &Windows, x: Source<T>) -> (Vec<T>, Vec<u8>) {
    let (c, row) = (g.c, g.ow * g.c);
    let len = g.n * g.oh * row;
    let (ones, zeros) = (vec![1.0; c], vec![0.0; c]);
    let change = x.change.unwrap_or(Change { scale: &ones, shift: &zeros, relu: false });
    let (down, across) = (Taps::new(g.oh, |o| g.taps(o, g.h)), Taps::new(g.ow, |o| g.taps(o, g.w)));
    let mut index = vec![0u8; len];
    let pass = |y: &mut [MaybeUninit<T>]| {
        let rows = y.par_chunks_mut(row).zip(index.par_chunks_mut(row));
        rows.enumerate().for_each(|(r, (y, index))| {
            let row = Row { rows: down.at(r % g.oh), columns: &across, width: g.w, k: g.k, channels: c };
            let image = &x.data[r / g.oh * g.h * g.w * x.pitch..];
            windows::largest(row, image, x.pitch, change, y, index);
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

/// Gathers: each input pixel asks the windows over it whether they chose it, so that no two threads write one place.
fn max_backward<T: Stored>(op: &'static str, g: &Windows, dy: &Tensor, index: &Tensor) -> Result<Tensor> {
    on_cuda!(dy, crate::cuda::max_pool_grad::<T>(op, g.on_cuda(), dy, index));
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
    on_cuda!(x, crate::cuda::avg_pool::<T>(op, g.on_cuda(), x));
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
    on_cuda!(dy, crate::cuda::avg_pool_grad::<T>(op, g.on_cuda(), dy));
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

/// How a map becomes one number per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pool {
    /// The maximum; its gradient goes to one pixel, the first of equals in row-major order.
    Max,
    /// The mean.
    Avg,
    /// `log(mean(exp(r x))) / r` (Pinheiro and Collobert 2015): the mean for small `r`, the maximum for large.
    Lse {
        /// The sharpness, above 0.
        r: f32,
    },
}

/// Pools each channel of each map over all its pixels.
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

/// The sizes of a pool of whole maps.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub(crate) n: usize,
    pub(crate) pixels: usize,
    pub(crate) c: usize,
}

impl Map {
    fn new(op: &'static str, x: &Tensor, pool: Pool) -> Result<Map> {
        let [n, h, w, c] = dims4(op, "x", x, X)?;
        if h * w * c == 0 {
            let (expected, got) = (X.to_owned(), vec![n, h, w, c]);
            return Err(Error::Shape { op, name: "x", expected, got }.into());
        }
        match pool {
            Pool::Lse { r } if !(r > 0.0 && r.is_finite()) => {
                let (expected, got) = ("finite and above 0".to_owned(), r.to_string());
                Err(Error::Parameter { op, name: "r", expected, got }.into())
            }
            _ => Ok(Map { n, pixels: h * w, c }),
        }
    }
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
