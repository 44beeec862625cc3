//! The three passes of a convolution.

/// The shape of a convolution: `x [n, h, w, ci]`, `w [co, kh, kw, ci]`, `y [n, oh, ow, co]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) ci: usize,
    pub(crate) co: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
}

/// What is done to the sums before they are written.
#[derive(Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    /// Added to every pixel: `[co]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// Added element by element: `[n, oh, ow, co]`.
    pub(crate) residual: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub(crate) relu: bool,
}

fn taps(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    for p in 0..g.n * g.oh * g.ow {
        let (n, oy, ox) = (p / (g.oh * g.ow), p / g.ow % g.oh, p % g.ow);
        for t in 0..g.kh * g.kw {
            let (iy, ix) = (oy * g.stride + t / g.kw, ox * g.stride + t % g.kw);
            if iy >= g.padding && iy < g.h + g.padding && ix >= g.padding && ix < g.w + g.padding {
                f(p, t, (n * g.h + iy - g.padding) * g.w + ix - g.padding);
            }
        }
    }
}

pub(crate) fn forward(g: &Geometry, x: &[f32], w: &[f32], epilogue: Epilogue) -> Vec<f32> {
    let mut y = vec![0f32; g.n * g.oh * g.ow * g.co];
    let k = g.kh * g.kw * g.ci;
    taps(g, |p, t, q| {
        let x = &x[q * g.ci..][..g.ci];
        for o in 0..g.co {
            let w = &w[o * k + t * g.ci..][..g.ci];
            y[p * g.co + o] += x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
        }
    });
    for (i, y) in y.iter_mut().enumerate() {
        *y += epilogue.bias.map_or(0.0, |b| b[i % g.co]) + epilogue.residual.map_or(0.0, |r| r[i]);
        if epilogue.relu {
            *y = y.max(0.0);
        }
    }
    y
}

pub(crate) fn input_grad(g: &Geometry, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let mut dx = vec![0f32; g.n * g.h * g.w * g.ci];
    let k = g.kh * g.kw * g.ci;
    taps(g, |p, t, q| {
        for o in 0..g.co {
            let w = &w[o * k + t * g.ci..][..g.ci];
            for (dx, w) in dx[q * g.ci..][..g.ci].iter_mut().zip(w) {
                *dx += dy[p * g.co + o] * w;
            }
        }
    });
    dx
}

pub(crate) fn weight_grad(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let k = g.kh * g.kw * g.ci;
    let mut dw = vec![0f32; g.co * k];
    taps(g, |p, t, q| {
        for o in 0..g.co {
            for (dw, x) in dw[o * k + t * g.ci..][..g.ci].iter_mut().zip(&x[q * g.ci..]) {
                *dw += dy[p * g.co + o] * x;
            }
        }
    });
    dw
}
