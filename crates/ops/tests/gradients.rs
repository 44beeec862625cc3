//! Every gradient against central finite differences of the loss `sum(output * weights)` with fixed random weights.

mod common;

use candle_core::{Result, Tensor};
use common::{assert_close, noise, random, tensor, values};
use ops::{Conv, Pool};

/// The loss weights, of the output's shape.
fn weights(output: &Tensor) -> Tensor {
    random(output.dims(), 99)
}

fn loss(output: &Tensor) -> f64 {
    let weights = values(&weights(output));
    values(output).iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(w)).sum()
}

/// The loss's gradient with respect to `inputs[which]`, by central differences of half-width `eps`.
fn numeric(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], which: usize, eps: f32) -> Vec<f32> {
    let mut inputs = inputs.to_vec();
    let (shape, start) = (inputs[which].dims().to_vec(), values(&inputs[which]));
    let mut at = |i: usize, value: f32| {
        let mut moved = start.clone();
        moved[i] = value;
        inputs[which] = tensor(&moved, &shape);
        loss(&f(&inputs).unwrap())
    };
    (0..start.len())
        .map(|i| {
            let (low, high) = (start[i] - eps, start[i] + eps);
            ((at(i, high) - at(i, low)) / f64::from(high - low)) as f32
        })
        .collect()
}

/// A map whose values are all different, a tenth apart: a difference of less than half of that changes no maximum.
fn distinct(shape: &[usize], seed: u64) -> Tensor {
    let noise = noise(shape.iter().product(), seed);
    let mut order: Vec<usize> = (0..noise.len()).collect();
    order.sort_by(|a, b| noise[*a].total_cmp(&noise[*b]));
    let mut map = vec![0f32; noise.len()];
    for (rank, at) in order.into_iter().enumerate() {
        map[at] = (rank as f32 - noise.len() as f32 / 2.0) / 10.0;
    }
    tensor(&map, shape)
}

/// For functions that are linear in each input: the difference quotient is exact, so its step may be wide, which keeps
/// rounding errors small.
const LINEAR: (f32, f32) = (0.5, 2e-5);

/// `x`, `w`, stride and padding. Channel counts and widths are no multiples of any vector; some windows leave pixels over.
const CONVOLUTIONS: [([usize; 4], [usize; 4], usize, usize); 8] = [
    ([2, 3, 4, 5], [7, 1, 1, 5], 1, 0),
    ([2, 5, 6, 3], [4, 1, 1, 3], 2, 0),
    ([2, 5, 4, 5], [6, 3, 3, 5], 1, 1),
    ([1, 6, 7, 5], [9, 3, 3, 5], 2, 1),
    ([1, 9, 8, 3], [5, 7, 7, 3], 2, 3),
    ([1, 2, 19, 1], [17, 1, 3, 1], 1, 1),
    ([1, 4, 3, 17], [2, 2, 3, 17], 3, 2),
    ([1, 1, 1, 2], [3, 3, 3, 2], 1, 1),
];

#[test]
fn convolution() {
    for (xs, ws, stride, padding) in CONVOLUTIONS {
        let inputs = [random(&xs, 1), random(&ws, 2)];
        let what = format!("{xs:?} * {ws:?}, stride {stride}, padding {padding}");
        let (eps, within) = LINEAR;
        let [x, w] = &inputs;
        let forward = |t: &[Tensor]| ops::conv2d_forward(&t[0], &t[1], Conv::new(stride, padding));
        let dy = weights(&forward(&inputs).unwrap());
        let dx = ops::conv2d_input_grad(&dy, w, Conv::new(stride, padding), (xs[1], xs[2]), None).unwrap();
        assert_eq!(dx.dims(), x.dims());
        assert_close(&what, &values(&dx), &numeric(forward, &inputs, 0, eps), within);
        let dw = ops::conv2d_weight_grad(x, &dy, Conv::new(stride, padding), (ws[1], ws[2])).unwrap();
        assert_eq!(dw.dims(), w.dims());
        assert_close(&what, &values(&dw), &numeric(forward, &inputs, 1, eps), within);
    }
}

/// `x`, `gamma`, `beta`, `residual` such that no sum is within 0.2 of the ReLU's bend.
fn normalised(with_residual: bool) -> [Tensor; 4] {
    let shape = [2, 3, 3, 5];
    let far = |noise: Vec<f32>, from: f32| -> Vec<f32> { noise.iter().map(|v| v.signum() * from + v * 0.5).collect() };
    let x = far(noise(90, 3), 1.0).into_iter().map(|v| v * 1.5 + 0.5).collect::<Vec<_>>();
    let gamma = [1f32, 1.5, -0.8, 0.7, 1.2];
    let beta = [0.1f32, -0.1, 0.05, 0.0, 0.1];
    let residual = if with_residual { far(noise(90, 4), 4.0) } else { vec![0.0; 90] };
    let inputs = [tensor(&x, &shape), tensor(&gamma, &[5]), tensor(&beta, &[5]), tensor(&residual, &shape)];
    let (y, _) = ops::batch_norm_forward(&inputs[0], &inputs[1], &inputs[2], Some(&inputs[3]), false, EPS).unwrap();
    assert!(values(&y).iter().all(|y| y.abs() > 0.2), "{:?}", values(&y));
    inputs
}

const EPS: f64 = 1e-5;
/// Half-width and tolerance for batch normalisation.
const CURVED: (f32, f32) = (1e-2, 1e-3);

#[test]
fn batch_norm_by_hand() {
    for (with_residual, relu) in [(false, false), (false, true), (true, false), (true, true)] {
        let inputs = normalised(with_residual);
        let forward =
            |t: &[Tensor]| ops::batch_norm_forward(&t[0], &t[1], &t[2], with_residual.then_some(&t[3]), relu, EPS);
        let (y, stats) = forward(&inputs).unwrap();
        let [x, gamma, beta, _] = &inputs;
        let grads = ops::batch_norm_backward(&weights(&y), x, Some(&y), gamma, beta, &stats, with_residual, relu, None)
            .unwrap();
        assert_eq!(grads.dresidual.is_some(), with_residual);
        let analytic = [Some(grads.dx), Some(grads.dgamma), Some(grads.dbeta), grads.dresidual];
        for (which, grad) in analytic.iter().enumerate() {
            let Some(grad) = grad else { continue };
            let what = format!("residual {with_residual}, relu {relu}, input {which}");
            assert_eq!(grad.dims(), inputs[which].dims(), "{what}");
            let expected = numeric(|t| Ok(forward(t)?.0), &inputs, which, CURVED.0);
            assert_close(&what, &values(grad), &expected, CURVED.1);
        }
    }
}

#[test]
fn max_pool() {
    for (shape, k, stride, padding) in [([2, 5, 6, 3], 3, 2, 1), ([1, 5, 5, 2], 2, 2, 0), ([1, 4, 5, 1], 3, 1, 1)] {
        let x = distinct(&shape, 5);
        let what = format!("{shape:?}, kernel {k}, stride {stride}, padding {padding}");
        let f = |t: &[Tensor]| Ok(ops::max_pool_forward(&t[0], k, stride, padding)?.0);
        let (y, index) = ops::max_pool_forward(&x, k, stride, padding).unwrap();
        let dx = ops::max_pool_backward(&weights(&y), &index, k, stride, padding, (shape[1], shape[2])).unwrap();
        assert_close(&what, &values(&dx), &numeric(f, &[x], 0, 0.02), 1e-4);
    }
}

#[test]
fn max_pool_ties_go_to_the_first_pixel() {
    let x = tensor(&[7f32; 16], &[1, 4, 4, 1]);
    let (y, index) = ops::max_pool_forward(&x, 3, 2, 1).unwrap();
    assert_eq!(values(&y), [7.0; 4]);
    // Of each window the first pixel that is not padding: the middle, the left edge, the upper edge, the corner.
    assert_eq!(index.flatten_all().unwrap().to_vec1::<u8>().unwrap(), [4, 3, 1, 0]);
    let dy = tensor(&[1f32, 2.0, 4.0, 8.0], &[1, 2, 2, 1]);
    let dx = ops::max_pool_backward(&dy, &index, 3, 2, 1, (4, 4)).unwrap();
    #[rustfmt::skip]
    let expected = [
        1.0, 2.0, 0.0, 0.0,
        4.0, 8.0, 0.0, 0.0,
        0.0, 0.0, 0.0, 0.0,
        0.0, 0.0, 0.0, 0.0,
    ];
    assert_eq!(values(&dx), expected);
}

#[test]
fn avg_pool() {
    for (shape, k) in [([2, 4, 6, 3], 2), ([1, 5, 7, 2], 3), ([1, 3, 2, 1], 1)] {
        let x = random(&shape, 6);
        let forward = |t: &[Tensor]| ops::avg_pool_forward(&t[0], k);
        let dy = weights(&forward(std::slice::from_ref(&x)).unwrap());
        let dx = ops::avg_pool_backward(&dy, k, (shape[1], shape[2])).unwrap();
        let what = format!("{shape:?}, kernel {k}");
        assert_eq!(dx.dims(), x.dims(), "{what}");
        assert_close(&what, &values(&dx), &numeric(forward, &[x], 0, LINEAR.0), LINEAR.1);
    }
}

#[test]
fn global_pools() {
    let shape = [2, 3, 4, 3];
    let pools = [
        (Pool::Max, distinct(&shape, 7), 0.02, 1e-4),
        (Pool::Avg, random(&shape, 8), LINEAR.0, LINEAR.1),
        (Pool::Lse { r: 1.0 }, random(&shape, 9), 1e-2, 1e-3),
        (Pool::Lse { r: 10.0 }, random(&shape, 10), 5e-3, 2e-3),
    ];
    for (pool, x, eps, within) in pools {
        let y = ops::global_pool_forward(&x, pool).unwrap();
        let dx = ops::global_pool_backward(&x, &y, &weights(&y), pool).unwrap();
        assert_eq!(dx.dims(), x.dims());
        let f = |t: &[Tensor]| ops::global_pool_forward(&t[0], pool);
        assert_close(&format!("{pool:?}"), &values(&dx), &numeric(f, &[x], 0, eps), within);
    }
}

#[test]
fn global_max_pool_ties_go_to_the_first_pixel() {
    let x = tensor(&[1f32, 3.0, 2.0, 3.0, 2.0, 0.0], &[1, 3, 1, 2]);
    let y = ops::global_pool_forward(&x, Pool::Max).unwrap();
    let dy = noise(2, 99);
    let dx = ops::global_pool_backward(&x, &y, &tensor(&dy, &[1, 2]), Pool::Max).unwrap();
    assert_eq!(values(&dx), [0.0, dy[1], dy[0], 0.0, 0.0, 0.0]);
}

#[test]
fn bce() {
    let logits = random(&[4, 5], 11).affine(3.0, 0.0).unwrap();
    let targets = random(&[4, 5], 12).affine(0.5, 0.5).unwrap();
    let (loss, grad) = ops::bce_with_logits(&logits, &targets).unwrap();
    let weight = values(&weights(&loss))[0];
    let expected = numeric(|t| Ok(ops::bce_with_logits(&t[0], &targets)?.0), &[logits], 0, 2e-2);
    let grad: Vec<f32> = values(&grad).iter().map(|grad| grad * weight).collect();
    assert_close("bce_with_logits", &grad, &expected, 1e-3);
}
