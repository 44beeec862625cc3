//! The three passes against their definition in `f64`.

use super::{
    Epilogue, Geometry, KEPT_FOR, Patches, Precision, Weights, by_lines, forward, input_grad, weight_grad, winograd,
};
use crate::kernel::Source;

fn plain(data: &[f32], pitch: usize) -> Source<'_, f32> {
    Source { data, pitch, prologue: None }
}

/// Kernel tap and input pixel of every term of every output pixel.
fn terms(g: &Geometry, mut each: impl FnMut(usize, usize, usize)) {
    for p in 0..g.n * g.oh * g.ow {
        let (n, oy, ox) = (p / (g.oh * g.ow), p / g.ow % g.oh, p % g.ow);
        for t in 0..g.kh * g.kw {
            let (iy, ix) = (oy * g.stride + t / g.kw, ox * g.stride + t % g.kw);
            if iy >= g.padding && iy < g.h + g.padding && ix >= g.padding && ix < g.w + g.padding {
                each(p, t, (n * g.h + iy - g.padding) * g.w + ix - g.padding);
            }
        }
    }
}

/// The three passes by definition, in f64.
fn naive(g: &Geometry, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f64>; 3] {
    let taps = g.kh * g.kw;
    let mut y = vec![0.0; g.n * g.oh * g.ow * g.co];
    let mut dx = vec![0.0; x.len()];
    let mut dw = vec![0.0; w.len()];
    terms(g, |p, t, q| {
        for (o, i) in (0..g.co).flat_map(|o| (0..g.ci).map(move |i| (o, i))) {
            let (at_x, at_y, at_w) = (q * g.ci + i, p * g.co + o, (o * taps + t) * g.ci + i);
            y[at_y] += f64::from(x[at_x]) * f64::from(w[at_w]);
            dx[at_x] += f64::from(dy[at_y]) * f64::from(w[at_w]);
            dw[at_w] += f64::from(dy[at_y]) * f64::from(x[at_x]);
        }
    });
    [y, dx, dw]
}

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

fn close(what: &str, g: &Geometry, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(1e-9, |most, value| value.abs().max(most));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs() / scale;
        assert!(error < 3e-6, "{what} of {g:?} at {index}: {got}, expected {expected}");
    }
}

#[test]
fn all_passes_match_their_definition() {
    // n, h, w, ci, co, kh, kw, stride, padding
    for [n, h, w, ci, co, kh, kw, stride, padding] in [
        [2, 9, 9, 3, 8, 7, 7, 2, 3],
        [1, 14, 14, 64, 64, 3, 3, 1, 1],
        [3, 7, 7, 40, 33, 1, 1, 1, 0],
        [2, 8, 8, 16, 70, 1, 1, 2, 0],
        [2, 9, 12, 5, 32, 3, 3, 2, 1],
        [1, 5, 6, 300, 7, 3, 2, 1, 0],
        [1, 4, 4, 2, 3, 3, 3, 1, 3],
        [2, 11, 7, 4, 6, 2, 3, 3, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 0],
        [4, 30, 30, 4, 5, 3, 3, 1, 1],   // several parts in the weight gradient
        [1, 6, 6, 8, 530, 3, 3, 1, 1],   // several groups of channels
        [3, 14, 15, 64, 40, 3, 3, 1, 1], // blocks of pixels from several images
        [1, 20, 30, 32, 33, 5, 3, 1, 2],
        [1, 14, 14, 160, 40, 3, 3, 1, 1], // two chunks of channels
        [5, 5, 5, 160, 70, 3, 3, 1, 1],   // too small for that: by Winograd's algorithm
        [2, 12, 11, 32, 64, 3, 3, 2, 1],  // an input gradient of four phases
        // Where tiles are tall, patches that are read in their lines:
        [2, 12, 190, 3, 64, 7, 7, 2, 3], // two blocks a line
        [1, 62, 61, 3, 40, 5, 7, 2, 2],
        [3, 56, 55, 3, 33, 7, 6, 2, 0],
        // Weight gradients by pairs of images, where tiles take pairs:
        [5, 14, 14, 40, 70, 3, 3, 1, 1],  // the last without another
        [2, 30, 31, 33, 300, 3, 3, 1, 1], // two bands of pixels, two blocks of channels
        [2, 15, 16, 150, 20, 3, 3, 1, 1],
        [4, 30, 31, 70, 20, 3, 3, 2, 1], // four phases
        [2, 33, 34, 64, 32, 2, 5, 3, 1], // six
        [2, 17, 20, 48, 16, 5, 3, 2, 0],
        [2, 60, 61, 32, 8, 3, 3, 4, 0], // a stride that leaves pixels out
        // By Winograd's algorithm:
        [2, 7, 7, 40, 33, 3, 3, 1, 1],
        [1, 9, 6, 300, 18, 3, 3, 1, 1],  // three chunks of channels
        [5, 9, 9, 270, 290, 3, 3, 1, 1], // and groups of panels
        [2, 5, 8, 16, 16, 3, 3, 1, 0],
        [1, 4, 5, 17, 150, 3, 3, 1, 2],
        [3, 30, 31, 16, 70, 3, 3, 1, 1], // several parts in the weight gradient
    ] {
        let out = |size: usize, kernel: usize| (size + 2 * padding - kernel) / stride + 1;
        let g = Geometry {
            n,
            h,
            w,
            ci,
            co,
            kh,
            kw,
            stride,
            padding,
            oh: out(h, kh),
            ow: out(w, kw),
            precision: Precision::F32,
        };
        let x = values(n * h * w * ci, 1);
        let weight = values(co * kh * kw * ci, 2);
        let dy = values(n * g.oh * g.ow * co, 3);
        let [y, dx, dw] = naive(&g, &x, &weight, &dy);
        let forward_by = |weights: Weights| forward(&g, plain(&x, ci), &weights, Epilogue::default());
        let kept = forward_by(Weights::new(&g, &weight));
        close("y", &g, &kept, &y);
        let once = forward_by(Weights::once(&g, &weight));
        close("y", &g, &once, &y);
        let typical = Geometry { oh: KEPT_FOR, ow: KEPT_FOR, ..g };
        let way = |g| (winograd::suits(g), by_lines(&Patches::forward(g), &g.precision.tile()));
        assert!(once == kept || way(&g) != way(&typical), "{g:?}");
        close("dx", &g, &input_grad(&g, plain(&dy, co), &weight), &dx);
        close("dw", &g, &weight_grad(&g, plain(&x, ci), plain(&dy, co)), &dw);

        let (bias, residual) = (values(co, 4), values(y.len(), 5));
        let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), relu: true };
        let finished = y
            .iter()
            .enumerate()
            .map(|(index, y)| (y + f64::from(bias[index % co]) + f64::from(residual[index])).max(0.0));
        close(
            "finished y",
            &g,
            &forward(&g, plain(&x, ci), &Weights::new(&g, &weight), epilogue),
            &finished.collect::<Vec<_>>(),
        );
    }
}

/// `ops::Weights` are made before any image is known.
#[test]
fn kept_weights_are_for_images_of_a_usual_size() {
    let [unknown, usual] = [3, KEPT_FOR].map(|side| geometry([0, side, 32, 32, 3, 1]));
    let kept = Weights::new(&Geometry { oh: 1, ow: 1, ..unknown }, &values(32 * 9 * 32, 1));
    assert_eq!(matches!(kept, Weights::Tiles(_)), winograd::suits(&usual));
}

fn geometry([n, side, ci, co, kernel, stride]: [usize; 6]) -> Geometry {
    let padding = kernel / 2;
    let out = (side + 2 * padding - kernel) / stride + 1;
    let (h, w, kh, kw, oh, ow) = (side, side, kernel, kernel, out, out);
    Geometry { n, h, w, ci, co, kh, kw, stride, padding, oh, ow, precision: Precision::F32 }
}

/// Root mean square of the errors.
fn rms(got: &[f32], expected: &[f64]) -> f64 {
    let squares = got.iter().zip(expected).map(|(got, expected)| (f64::from(*got) - expected).powi(2));
    (squares.sum::<f64>() / got.len() as f64).sqrt()
}

/// Whatever the CPU multiplies by: the errors are not larger than those of the definition, computed in `f32`.
#[test]
fn products_are_as_exact_as_f32() {
    for shape in [
        [1, 14, 64, 64, 3, 1],
        [2, 14, 40, 64, 3, 1],
        [4, 14, 32, 40, 3, 2],
        [2, 7, 256, 64, 1, 1],
        [1, 14, 32, 64, 3, 2],
        [2, 14, 20, 40, 3, 1],
    ] {
        let g = geometry(shape);
        let taps = g.kh * g.kw;
        let x = values(g.n * g.h * g.w * g.ci, 1);
        let w = values(g.co * taps * g.ci, 2);
        let dy = values(g.n * g.oh * g.ow * g.co, 3);
        let mut by_definition = [vec![0f32; dy.len()], vec![0f32; x.len()], vec![0f32; w.len()]];
        let [y, dx, dw] = &mut by_definition;
        terms(&g, |p, t, q| {
            for (o, i) in (0..g.co).flat_map(|o| (0..g.ci).map(move |i| (o, i))) {
                let (at_x, at_y, at_w) = (q * g.ci + i, p * g.co + o, (o * taps + t) * g.ci + i);
                y[at_y] += x[at_x] * w[at_w];
                dx[at_x] += dy[at_y] * w[at_w];
                dw[at_w] += dy[at_y] * x[at_x];
            }
        });
        let got = [
            forward(&g, plain(&x, g.ci), &Weights::new(&g, &w), Epilogue::default()),
            input_grad(&g, plain(&dy, g.co), &w),
            weight_grad(&g, plain(&x, g.ci), plain(&dy, g.co)),
        ];
        let exact = naive(&g, &x, &w, &dy);
        for (pass, ((got, by_definition), exact)) in got.iter().zip(&by_definition).zip(&exact).enumerate() {
            let (got, most) = (rms(got, exact), rms(by_definition, exact));
            assert!(got <= most, "pass {pass} of {g:?}: {got} above {most}");
        }
    }
}

/// Factors of very different sizes: each error is a small part of what was added up.
#[test]
fn sizes_of_factors_do_not_matter() {
    let g = geometry([1, 8, 64, 32, 1, 1]);
    let scaled = |count, seed| {
        let sizes = values(count, seed + 10).into_iter().map(|v| (30.0 * v).exp2());
        values(count, seed).into_iter().zip(sizes).map(|(v, size)| v * size).collect::<Vec<f32>>()
    };
    let (x, w) = (scaled(g.n * g.h * g.w * g.ci, 1), scaled(g.co * g.ci, 2));
    let got = forward(&g, plain(&x, g.ci), &Weights::new(&g, &w), Epilogue::default());
    for (pixel, x) in x.chunks_exact(g.ci).enumerate() {
        for (channel, w) in w.chunks_exact(g.ci).enumerate() {
            let terms = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let error = (f64::from(got[pixel * g.co + channel]) - terms().sum::<f64>()).abs();
            let most = 1e-6 * terms().map(f64::abs).sum::<f64>();
            assert!(error <= most, "{pixel}, {channel}: {error} above {most}");
        }
    }
}

/// What is not a number stays visible, and where it was.
#[test]
fn infinities_and_nan_stay_where_they_are() {
    for shape in [[1, 8, 64, 32, 1, 1], [1, 16, 32, 32, 3, 1]] {
        let g = geometry(shape);
        let w = values(g.co * g.kh * g.kw * g.ci, 2);
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX] {
            let mut x = values(g.n * g.h * g.w * g.ci, 1);
            x[0] = bad;
            let y = forward(&g, plain(&x, g.ci), &Weights::new(&g, &w), Epilogue::default());
            let far = (g.kh * g.w + g.kh) * g.co;
            assert!(bad == f32::MAX || y[..g.co].iter().all(|v| !v.is_finite()), "{bad} in {g:?}");
            assert!(y[far..].iter().all(|v| v.is_finite()), "{bad} in {g:?}");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let g = Geometry {
        n: 3,
        h: 28,
        w: 28,
        ci: 20,
        co: 40,
        kh: 3,
        kw: 3,
        stride: 1,
        padding: 1,
        oh: 28,
        ow: 28,
        precision: Precision::F32,
    };
    let (x, w) = (values(3 * 28 * 28 * 20, 1), values(40 * 9 * 20, 2));
    let dy = values(3 * 28 * 28 * 40, 3);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            (
                forward(&g, plain(&x, 20), &Weights::new(&g, &w), Epilogue::default()),
                input_grad(&g, plain(&dy, 40), &w),
                weight_grad(&g, plain(&x, 20), plain(&dy, 40)),
            )
        })
    };
    assert!(with(1) == with(3));
}
