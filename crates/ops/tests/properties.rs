//! Operators of random shapes against their definitions in `f64`.
//!
//! Channel counts go across every vector width, images are smaller and larger than the tiles and blocks of the kernels,
//! and shapes that cannot be (a kernel larger than the padded image) are refused, not run.

mod common;

use candle_core::{DType, Tensor};
use common::{assert_close, halved, random, values};
use ops::{Conv, Pool};
use proptest::{prelude::*, test_runner::RngSeed};

const EPS: f64 = 1e-5;

/// A convolution's shape; it need not be a possible one.
#[derive(Debug, Clone, Copy)]
struct Shape {
    x: [usize; 4],
    /// `[Co, kh, kw, Ci]`.
    w: [usize; 4],
    stride: usize,
    padding: usize,
}

impl Shape {
    /// Of the result; `None` if the kernel does not fit.
    fn output(&self) -> Option<[usize; 4]> {
        let out = |size: usize, kernel: usize| Some((size + 2 * self.padding).checked_sub(kernel)? / self.stride + 1);
        Some([self.x[0], out(self.x[1], self.w[1])?, out(self.x[2], self.w[2])?, self.w[0]])
    }

    /// The place in `y`, `x` and `w` of every product of the definition.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let Some([n, oh, ow, co]) = self.output() else { return };
        let ([_, h, w, ci], [_, kh, kw, _]) = (self.x, self.w);
        for (image, oy, ox) in places(n, oh, ow) {
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let (y, x) = (oy * self.stride + ky, ox * self.stride + kx);
                let inside = |at: usize, size: usize| (self.padding..size + self.padding).contains(&at);
                if !inside(y, h) || !inside(x, w) {
                    continue;
                }
                let pixel = ((image * h + y - self.padding) * w + x - self.padding) * ci;
                for (o, i) in (0..co).flat_map(|o| (0..ci).map(move |i| (o, i))) {
                    each(((image * oh + oy) * ow + ox) * co + o, pixel + i, ((o * kh + ky) * kw + kx) * ci + i);
                }
            }
        }
    }
}

fn places(n: usize, h: usize, w: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..n).flat_map(move |image| (0..h).flat_map(move |y| (0..w).map(move |x| (image, y, x))))
}

/// Sums of products, and of their magnitudes.
struct Sums(Vec<[f64; 2]>);

impl Sums {
    fn add(&mut self, at: usize, a: f32, b: f32) {
        let product = f64::from(a) * f64::from(b);
        self.0[at][0] += product;
        self.0[at][1] += product.abs();
    }

    /// No element is off by more than `tolerance` times the largest sum of magnitudes.
    #[track_caller]
    fn assert_close(&self, what: &str, got: &[f32], tolerance: f64) {
        assert_eq!(got.len(), self.0.len(), "{what}");
        let most = self.0.iter().fold(0.0, |most: f64, [_, magnitude]| most.max(*magnitude));
        for (at, (got, [expected, _])) in got.iter().zip(&self.0).enumerate() {
            let off = (f64::from(*got) - expected).abs();
            assert!(off <= tolerance * most, "{what}: element {at} is {got}, expected {expected} (of up to {most})");
        }
    }
}

/// `y`, `dx` and `dw` by definition.
fn by_definition(shape: &Shape, x: &[f32], w: &[f32], dy: &[f32]) -> [Sums; 3] {
    let [mut y, mut dx, mut dw] = [dy.len(), x.len(), w.len()].map(|len| Sums(vec![[0.0; 2]; len]));
    shape.products(|at_y, at_x, at_w| {
        y.add(at_y, x[at_x], w[at_w]);
        dx.add(at_x, dy[at_y], w[at_w]);
        dw.add(at_w, dy[at_y], x[at_x]);
    });
    [y, dx, dw]
}

fn shapes() -> impl Strategy<Value = Shape> {
    let channels = || prop_oneof![1..6usize, 14..36usize, 60..70usize];
    let kernel = prop_oneof![Just((1, 1)), Just((3, 3)), (1..5usize, 1..5usize)];
    let image = (0..3usize, 1..16usize, 1..16usize, channels());
    (image, channels(), kernel, 1..4usize, 0..4usize).prop_map(|((n, h, w, ci), co, (kh, kw), stride, padding)| Shape {
        x: [n, h, w, ci],
        w: [co, kh, kw, ci],
        stride,
        padding,
    })
}

proptest! {
    // The same cases on every run.
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() })]

    #[test]
    fn convolutions(shape in shapes(), bf16: bool) {
        let stored = |tensor: Tensor| if bf16 { halved(&tensor) } else { tensor };
        let (x, w) = (stored(random(&shape.x, 1)), random(&shape.w, 2));
        let conv = Conv::new(shape.stride, shape.padding);
        let Some(output) = shape.output() else {
            let error = ops::conv2d_forward(&x, &w, conv).unwrap_err().to_string();
            prop_assert!(error.starts_with("conv2d_forward: `"), "{}", error);
            return Ok(());
        };
        let dy = stored(random(&output, 3));
        let [y, dx, dw] = by_definition(&shape, &values(&x), &values(&w), &values(&dy));
        let tolerance = if bf16 { 1e-2 } else { 1e-6 };
        let ([_, height, width, _], [_, kh, kw, _]) = (shape.x, shape.w);
        y.assert_close("y", &values(&ops::conv2d_forward(&x, &w, conv).unwrap()), tolerance);
        let got = ops::conv2d_input_grad(&dy, &w, conv, (height, width), None).unwrap();
        dx.assert_close("dx", &values(&got), tolerance);
        dw.assert_close("dw", &values(&ops::conv2d_weight_grad(&x, &dy, conv, (kh, kw)).unwrap()), tolerance);
        let (got, mean) = match ops::conv2d_stats(&x, &w, conv, EPS, None) {
            Ok((y, stats)) => (y, stats.mean),
            Err(_) => {
                prop_assert_eq!(shape.x[0], 0);
                return Ok(());
            }
        };
        y.assert_close("y with statistics", &values(&got), tolerance);
        let co = shape.w[0];
        let mut means = Sums(vec![[0.0; 2]; co]);
        for (at, [value, magnitude]) in y.0.iter().enumerate() {
            means.0[at % co][0] += value * co as f64 / y.0.len() as f64;
            means.0[at % co][1] = means.0[at % co][1].max(*magnitude);
        }
        means.assert_close("mean", &values(&mean), tolerance);
    }

    #[test]
    fn norms(n in 1..4usize, side in 1..8usize, c in 1..70usize, relu: bool, with_residual: bool, bf16: bool) {
        let shape = [n, side, side, c];
        let stored = |seed| if bf16 { halved(&random(&shape, seed)) } else { random(&shape, seed) };
        let (x, dy, residual) = (stored(1), stored(2), stored(3));
        let (gamma, beta) = (random(&[c], 4), random(&[c], 5));
        let residual = with_residual.then_some(&residual);
        let (y, stats) = ops::batch_norm_forward(&x, &gamma, &beta, residual, relu, EPS).unwrap();

        let wide = |tensor: &Tensor| values(tensor).into_iter().map(f64::from).collect::<Vec<_>>();
        let (xs, dys, gammas, betas) = (wide(&x), wide(&dy), wide(&gamma), wide(&beta));
        let residuals = residual.map_or(vec![0.0; xs.len()], wide);
        let pixels = n * side * side;
        let channel = |values: &[f64], c_at: usize| values.iter().skip(c_at).step_by(c).copied().collect::<Vec<_>>();
        let (mut expected, mut dx) = (vec![0f32; xs.len()], vec![0f32; xs.len()]);
        let passed = values(&y);
        for at in 0..c {
            let (x, r) = (channel(&xs, at), channel(&residuals, at));
            let mean = x.iter().sum::<f64>() / pixels as f64;
            let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / pixels as f64;
            let inv_std = 1.0 / (var + EPS).sqrt();
            // By the mask of the result that was rounded: near zero, it may have been to the other side.
            let d: Vec<f64> = channel(&dys, at)
                .into_iter()
                .enumerate()
                .map(|(pixel, d)| if relu && passed[pixel * c + at] <= 0.0 { 0.0 } else { d })
                .collect();
            let normed: Vec<f64> = x.iter().map(|x| (x - mean) * inv_std).collect();
            let sum = d.iter().sum::<f64>() / pixels as f64;
            let product = d.iter().zip(&normed).map(|(d, x)| d * x).sum::<f64>() / pixels as f64;
            for pixel in 0..pixels {
                let y = gammas[at] * normed[pixel] + betas[at] + r[pixel];
                expected[pixel * c + at] = if relu { y.max(0.0) } else { y } as f32;
                dx[pixel * c + at] = (gammas[at] * inv_std * (d[pixel] - sum - normed[pixel] * product)) as f32;
            }
        }
        assert_close("y", &passed, &expected, if bf16 { 5e-3 } else { 2e-5 });
        let got = ops::batch_norm_backward(&dy, &x, Some(&y), &gamma, &beta, &stats, with_residual, relu, None).unwrap();
        // A single pixel has a variance of 0, and a gradient of 0 times 316.
        assert_close_to("dx", &values(&got.dx), &dx, if bf16 { 5e-3 } else { 1e-3 });
    }

    #[test]
    fn pools(
        n in 1..3usize, h in 1..12usize, w in 1..12usize, c in 1..40usize, k in 1..4usize, stride in 1..4usize,
        bf16: bool,
    ) {
        let mut x = random(&[n, h, w, c], 1);
        if bf16 {
            x = halved(&x);
        }
        let xs = values(&x);
        let padding = k / 2;
        let at = |image: usize, y: usize, x: usize, channel: usize| xs[((image * h + y) * w + x) * c + channel];
        match ops::max_pool_forward(&x, k, stride, padding) {
            Ok((y, index)) => {
                let [_, oh, ow, _] = <[usize; 4]>::try_from(y.dims()).unwrap();
                let taps = index.flatten_all().unwrap().to_vec1::<u8>().unwrap();
                for (pixel, (image, oy, ox)) in places(n, oh, ow).enumerate() {
                    let window = |o: usize, size: usize| {
                        (0..k).map(move |tap| o * stride + tap).filter(move |at| (padding..size + padding).contains(at))
                    };
                    for channel in 0..c {
                        let window = window(oy, h).flat_map(|y| window(ox, w).map(move |x| (y - padding, x - padding)));
                        let most = window.map(|(y, x)| at(image, y, x, channel)).fold(f32::NEG_INFINITY, f32::max);
                        prop_assert_eq!(values(&y)[pixel * c + channel], most);
                        let tap = usize::from(taps[pixel * c + channel]);
                        let (y, x) = (oy * stride + tap / k - padding, ox * stride + tap % k - padding);
                        prop_assert_eq!(at(image, y, x, channel), most);
                    }
                }
            }
            Err(error) => prop_assert!(h + 2 * padding < k || w + 2 * padding < k, "{}", error),
        }
        let x = x.to_dtype(DType::F32).unwrap();
        let mean = values(&ops::global_pool_forward(&x, Pool::Avg).unwrap());
        let most = values(&ops::global_pool_forward(&x, Pool::Max).unwrap());
        for (image, channel) in (0..n).flat_map(|image| (0..c).map(move |channel| (image, channel))) {
            let map: Vec<f32> = places(1, h, w).map(|(_, y, x)| at(image, y, x, channel)).collect();
            let expected = map.iter().map(|v| f64::from(*v)).sum::<f64>() / map.len() as f64;
            prop_assert!((f64::from(mean[image * c + channel]) - expected).abs() < 1e-6);
            prop_assert_eq!(most[image * c + channel], map.into_iter().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}

/// [`assert_close`], with a largest magnitude of at least 1.
#[track_caller]
fn assert_close_to(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    let scale = expected.iter().fold(1f32, |most, v| most.max(v.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance * scale, "{what}: element {i} is {got}, expected {expected}");
    }
}
