//! The shapes and kinds of pooling.

use candle_core::{Result, Tensor};

use crate::{
    error::Error,
    view::{check_count, dims4},
};

pub(super) const X: &str = "[N, H, W, C], no size 0";

/// The shape of a pooling over windows.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) k: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
}

impl Windows {
    pub(super) fn new(
        op: &'static str,
        [n, h, w, c]: [usize; 4],
        k: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
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

    #[cfg(feature = "cuda")]
    pub(crate) fn input(&self) -> [usize; 4] {
        [self.n, self.h, self.w, self.c]
    }

    pub(crate) fn output(&self) -> [usize; 4] {
        [self.n, self.oh, self.ow, self.c]
    }

    /// The taps of output `o` that are inside an axis of length `size`: `(tap, position)`.
    pub(super) fn taps(&self, o: usize, size: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let start = (o * self.stride) as isize - self.padding as isize;
        (0..self.k).filter_map(move |t| {
            let at = start + t as isize;
            (0..size as isize).contains(&at).then_some((t, at as usize))
        })
    }

    /// The outputs whose window covers position `at` of an axis with `outputs` outputs: `(tap, output)`.
    pub(super) fn covering(&self, at: usize, outputs: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let (k, stride) = (self.k, self.stride);
        let at = at + self.padding;
        (0..k).rev().filter_map(move |t| {
            let offset = at.checked_sub(t)?;
            (offset % stride == 0 && offset / stride < outputs).then_some((t, offset / stride))
        })
    }
}

/// How a whole feature map becomes one number per channel.
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

/// The sizes of a pooling over whole feature maps.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub(crate) n: usize,
    pub(crate) pixels: usize,
    pub(crate) c: usize,
}

impl Map {
    pub(super) fn new(op: &'static str, x: &Tensor, pool: Pool) -> Result<Map> {
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
