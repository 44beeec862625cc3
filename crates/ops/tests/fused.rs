//! Fused operators against the separate operators that they replace.

mod common;

use candle_core::{DType, Tensor};
use common::{assert_close, halved, random, tensor, values};
use ops::{Affine, BatchStats, Conv, Input, Weights};

const EPS: f64 = 1e-5;

/// `x`, the statistics of its batch, a norm by them with ReLU, and what that gives.
fn normed(shape: &[usize]) -> (Tensor, BatchStats, [Tensor; 2], Affine, Tensor) {
    let c = shape[shape.len() - 1];
    let (x, gamma, beta) = (random(shape, 1), random(&[c], 2), random(&[c], 3));
    let stats = ops::batch_stats(&x, EPS, None).unwrap();
    let affine = stats.affine(&gamma, &beta, true).unwrap();
    let (y, _) = ops::batch_norm_forward(&x, &gamma, &beta, None, true, EPS).unwrap();
    (x, stats, [gamma, beta], affine, y)
}

/// Input, kernel, stride, padding: borders, remainders, channels beyond a block's depth and a tile's width.
const CONVOLUTIONS: [([usize; 4], [usize; 4], usize, usize); 11] = [
    ([2, 12, 128, 3], [33, 7, 7, 3], 2, 3),  // a stem
    ([2, 14, 16, 64], [32, 3, 3, 64], 1, 1), // two groups of taps
    ([2, 9, 9, 3], [8, 7, 7, 3], 2, 3),
    ([2, 7, 5, 40], [33, 3, 3, 40], 1, 1),
    ([1, 8, 8, 300], [64, 1, 1, 300], 1, 0),
    ([3, 9, 12, 5], [32, 3, 3, 5], 2, 1),
    ([1, 4, 4, 2], [3, 3, 3, 2], 1, 3),
    ([2, 14, 14, 64], [70, 1, 1, 64], 2, 0),
    // Deeper than what is multiplied at once, and than what is gathered at once, in `f32` and in bf16.
    ([1, 7, 9, 300], [70, 1, 1, 300], 1, 0),
    ([1, 7, 6, 80], [290, 3, 3, 80], 2, 1),
    ([1, 5, 7, 600], [33, 1, 1, 600], 1, 0),
];

/// Whether some instruction sets compute this convolution by Winograd's algorithm.
fn by_winograd(w: [usize; 4], stride: usize) -> bool {
    w[1..3] == [3, 3] && stride == 1 && w[0] >= 16 && w[3] >= 16
}

#[test]
fn convolution_normalises_on_the_way_in() {
    for (xs, ws, stride, padding) in CONVOLUTIONS {
        let what = format!("{xs:?} * {ws:?}, stride {stride}, padding {padding}");
        let (x, _, _, affine, normed) = normed(&xs);
        let input = Input { x: &x, affine: Some(&affine) };
        let w = random(&ws, 4);
        let y = ops::conv2d_forward(&normed, &w, Conv::new(stride, padding)).unwrap();
        assert!(values(&ops::conv2d_forward(input, &w, Conv::new(stride, padding)).unwrap()) == values(&y), "{what}");

        let dy = random(y.dims(), 5);
        let kernel = (ws[1], ws[2]);
        let dw = ops::conv2d_weight_grad(&normed, &dy, Conv::new(stride, padding), kernel).unwrap();
        assert!(
            values(&ops::conv2d_weight_grad(input, &dy, Conv::new(stride, padding), kernel).unwrap()) == values(&dw),
            "{what}"
        );

        // In bf16, what is normalised is rounded before it is multiplied; before Winograd's transforms it is not.
        let same = |got: Vec<f32>, expected: Vec<f32>| match by_winograd(ws, stride) {
            true => assert_close(&format!("{what} in bf16"), &got, &expected, 2e-2),
            false => assert!(got == expected, "{what} in bf16"),
        };
        let x = halved(&x);
        let input = Input { x: &x, affine: Some(&affine) };
        let normed = ops::normalised_sum(input, None, false).unwrap();
        let y = |x: Input| values(&ops::conv2d_forward(x, &w, Conv::new(stride, padding)).unwrap());
        same(y(input), y((&normed).into()));
        let dy = halved(&dy);
        let dw = |x: Input| values(&ops::conv2d_weight_grad(x, &dy, Conv::new(stride, padding), kernel).unwrap());
        same(dw(input), dw((&normed).into()));
    }
}

#[test]
fn convolution_knows_its_statistics() {
    for (xs, ws, stride, padding) in CONVOLUTIONS {
        let what = format!("{xs:?} * {ws:?}, stride {stride}, padding {padding}");
        // Far from zero, where sums of squares lose their digits.
        let (x, w) = ((random(&xs, 1) + 100.0).unwrap(), random(&ws, 2));
        let y = ops::conv2d_forward(&x, &w, Conv::new(stride, padding)).unwrap();
        let (fused, stats) = ops::conv2d_stats(&x, &w, Conv::new(stride, padding), EPS, None).unwrap();
        assert!(values(&fused) == values(&y), "{what}");
        let expected = ops::batch_stats(&y, EPS, None).unwrap();
        for (name, got, expected) in [
            ("mean", &stats.mean, &expected.mean),
            ("var", &stats.var, &expected.var),
            ("inv_std", &stats.inv_std, &expected.inv_std),
        ] {
            assert_close(&format!("{name} of {what}"), &values(got), &values(expected), 1e-5);
        }
    }
}

#[test]
fn input_gradient_takes_another_path_along() {
    for (xs, ws, stride, padding) in CONVOLUTIONS {
        let (x, w, plus) = (random(&xs, 1), random(&ws, 2), random(&xs, 3));
        let dy = ops::conv2d_forward(&x, &w, Conv::new(stride, padding)).unwrap();
        let side = (xs[1], xs[2]);
        let alone = ops::conv2d_input_grad(&dy, &w, Conv::new(stride, padding), side, None).unwrap();
        let into = plus.copy().unwrap();
        let both = ops::conv2d_input_grad(&dy, &w, Conv::new(stride, padding), side, Some(into.clone())).unwrap();
        assert_close(&format!("{xs:?} * {ws:?}"), &values(&both), &values(&(alone + &plus).unwrap()), 1e-6);
        assert!(values(&into) == values(&both), "in place");
    }
}

/// Each way to sums: complete after one pass over the weights, after several, by phases of the stride (some without a
/// tap), by Winograd.
#[test]
fn input_gradient_is_added_in_place() {
    for (xs, ws, stride, padding) in [
        ([2, 9, 8, 40], [64, 1, 1, 40], 1, 0),
        ([1, 9, 8, 70], [300, 1, 1, 70], 1, 0),
        ([2, 9, 8, 33], [20, 1, 1, 33], 2, 0),
        ([2, 9, 8, 33], [40, 3, 3, 33], 2, 1),
        ([1, 12, 12, 64], [64, 3, 3, 64], 1, 1),
    ] {
        let (w, plus) = (random(&ws, 2), random(&xs, 3));
        let conv = Conv::new(stride, padding);
        let dy = random(ops::conv2d_forward(&plus, &w, conv).unwrap().dims(), 1);
        let grad = |plus| ops::conv2d_input_grad(&dy, &w, conv, (xs[1], xs[2]), plus).unwrap();
        let expected = (grad(None) + &plus).unwrap();
        assert_close(&format!("{xs:?} * {ws:?}"), &values(&grad(Some(plus))), &values(&expected), 1e-6);
    }
}

/// A part of the channels of a wider tensor is read where it lies.
#[test]
fn convolution_reads_a_part_of_the_channels() {
    let wide = random(&[2, 6, 7, 50], 1);
    for (first, c) in [(0, 20), (13, 37)] {
        let part = wide.narrow(3, first, c).unwrap();
        let whole = part.contiguous().unwrap();
        let affine = ops::batch_stats(&whole, EPS, None).unwrap();
        let affine = affine.affine(&random(&[c], 2), &random(&[c], 3), true).unwrap();
        let [part, whole] = [&part, &whole].map(|x| Input { x, affine: Some(&affine) });
        for (kernel, stride, padding) in [(1, 1, 0), (3, 1, 1), (3, 2, 1)] {
            let w = random(&[40, kernel, kernel, c], 4);
            let y = ops::conv2d_forward(whole, &w, Conv::new(stride, padding)).unwrap();
            assert!(values(&ops::conv2d_forward(part, &w, Conv::new(stride, padding)).unwrap()) == values(&y));
            let dw = ops::conv2d_weight_grad(whole, &y, Conv::new(stride, padding), (kernel, kernel)).unwrap();
            let got = ops::conv2d_weight_grad(part, &y, Conv::new(stride, padding), (kernel, kernel)).unwrap();
            assert!(values(&got) == values(&dw));
        }
    }
    // And so are gradients.
    let w = random(&[20, 3, 3, 8], 5);
    let dy = wide.narrow(3, 30, 20).unwrap();
    let whole = dy.contiguous().unwrap();
    let dx = |dy| values(&ops::conv2d_input_grad(dy, &w, Conv::new(1, 1), (6, 7), None).unwrap());
    assert!(dx(&dy) == dx(&whole));
    let x = random(&[2, 6, 7, 8], 6);
    let dw = |dy| values(&ops::conv2d_weight_grad(&x, dy, Conv::new(1, 1), (3, 3)).unwrap());
    assert!(dw(&dy) == dw(&whole));
}

#[test]
fn sums_normalise_on_the_way_in() {
    let (shape, one) = ([2, 5, 4, 19], tensor(&[1f32; 19], &[19]));
    let (x, _, _, affine, y) = normed(&shape);
    let other = random(&shape, 7);
    let linear = ops::batch_stats(&other, EPS, None).unwrap().affine(&one, &one, false).unwrap();
    let (normed_other, _) = ops::batch_norm_forward(&other, &one, &one, None, false, EPS).unwrap();
    let (x, other) = (Input { x: &x, affine: Some(&affine) }, Input { x: &other, affine: Some(&linear) });

    let sum = |x: Input, other| values(&ops::normalised_sum(x, other, true).unwrap());
    let expected = (&y + &normed_other).unwrap().relu().unwrap();
    assert_eq!(sum(x, Some(other)), values(&expected));
    assert_eq!(sum(Input::from(&y), Some(Input::from(&normed_other))), values(&expected));
    assert_eq!(sum(x, None), values(&y));
}

#[test]
fn max_pool_normalises_on_the_way_in() {
    let (x, _, _, affine, y) = normed(&[2, 7, 6, 21]);
    let (expected, taps) = ops::max_pool_forward(&y, 3, 2, 1).unwrap();
    let (got, chosen) = ops::max_pool_forward(Input { x: &x, affine: Some(&affine) }, 3, 2, 1).unwrap();
    assert_eq!(values(&got), values(&expected));
    let [chosen, taps] = [chosen, taps].map(|taps| taps.flatten_all().unwrap().to_vec1::<u8>().unwrap());
    assert_eq!(chosen, taps);
}

#[test]
fn batch_norm_finds_its_relu_again() {
    let (x, stats, [gamma, beta], _, y) = normed(&[3, 5, 4, 19]);
    let dy = random(x.dims(), 8);
    let grads = |y| ops::batch_norm_backward(&dy, &x, y, &gamma, &beta, &stats, false, true, None).unwrap();
    let (kept, again) = (grads(Some(&y)), grads(None));
    for (kept, again) in [(kept.dx, again.dx), (kept.dgamma, again.dgamma), (kept.dbeta, again.dbeta)] {
        assert_eq!(values(&kept), values(&again));
    }
    let error = ops::batch_norm_backward(&dy, &x, None, &gamma, &beta, &stats, true, true, None).unwrap_err();
    assert!(error.to_string().contains("`y`"), "{error}");
}

#[test]
fn an_affine_of_other_channels_is_refused() {
    let (x, _, _, affine, _) = normed(&[2, 5, 4, 6]);
    let narrow = x.narrow(3, 0, 5).unwrap();
    let input = Input { x: &narrow, affine: Some(&affine) };
    let error = ops::conv2d_forward(input, &random(&[4, 1, 1, 5], 1), Conv::new(1, 0)).unwrap_err().to_string();
    assert!(error.starts_with("conv2d_forward: `scale` must have shape [5], got [6]"), "{error}");
    let error = ops::conv2d_stats(&random(&[0, 4, 4, 3], 1), &random(&[4, 1, 1, 3], 1), Conv::new(1, 0), EPS, None)
        .unwrap_err();
    assert!(error.to_string().starts_with("conv2d_stats: `x`"), "{error}");
}

#[test]
fn batch_norm_adds_its_gradient_to_another() {
    let (x, stats, [gamma, beta], _, y) = normed(&[3, 5, 4, 19]);
    let dy = random(x.dims(), 8);
    let expected = ops::batch_norm_backward(&dy, &x, Some(&y), &gamma, &beta, &stats, false, true, None).unwrap();
    // Both in the middle of wider tensors.
    let wide = |part: &Tensor| {
        let around = random(&[3, 5, 4, 7], 9);
        Tensor::cat(&[&around, part, &around], 3).unwrap()
    };
    let before = random(x.dims(), 10);
    let (x, into) = (wide(&x), wide(&before));
    let other_channels = values(&into.narrow(3, 0, 7).unwrap().contiguous().unwrap());
    let (x, part) = (x.narrow(3, 7, 19).unwrap(), into.narrow(3, 7, 19).unwrap());
    let (dgamma, dbeta) = ops::batch_norm_backward_add(&dy, &x, &gamma, &beta, &stats, &part, None).unwrap();
    assert_eq!(values(&part.contiguous().unwrap()), values(&(before + expected.dx).unwrap()));
    assert_eq!(values(&into.narrow(3, 0, 7).unwrap().contiguous().unwrap()), other_channels);
    assert_eq!((values(&dgamma), values(&dbeta)), (values(&expected.dgamma), values(&expected.dbeta)));

    let error = ops::batch_norm_backward_add(&dy, &x, &gamma, &beta, &stats, &dy, None);
    assert!(error.is_err(), "in place over an operand");
    let error = ops::batch_norm_backward_add(&dy, &x, &gamma, &beta, &stats, &into, None).unwrap_err().to_string();
    assert!(error.starts_with("batch_norm_backward_add: `into` must have shape"), "{error}");
}

/// As candle rounds them, bit for bit.
#[test]
fn activations_are_rounded() {
    let mut numbers: Vec<f32> = (0..70_000u32).map(|n| f32::from_bits(n.wrapping_mul(2_654_435_761))).collect();
    numbers.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0, 1.0 + 1.0 / 256.0]);
    numbers.retain(|v| !v.is_nan());
    let x = Tensor::from_vec(numbers.clone(), numbers.len(), &candle_core::Device::Cpu).unwrap();
    for dtype in [DType::BF16, DType::F32] {
        let bits = |x: Tensor| x.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits);
        assert!(bits(ops::activations(&x, dtype).unwrap()).eq(bits(x.to_dtype(dtype).unwrap())), "{dtype:?}");
    }
    let nan = Tensor::new(&[f32::NAN], &candle_core::Device::Cpu).unwrap();
    let nan = ops::activations(&nan, DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    assert!(nan.to_vec1::<f32>().unwrap()[0].is_nan());
}

/// Rounded to bf16.
fn rounded(x: &Tensor) -> Tensor {
    halved(x).to_dtype(DType::F32).unwrap()
}

/// With operands that are rounded beforehand, the passes differ from those in `f32` by the rounding of the result. By
/// Winograd's algorithm the transformed operands are rounded as well, which costs as much again.
#[test]
fn convolution_in_bf16() {
    for (xs, ws, stride, padding) in CONVOLUTIONS {
        let what = format!("{xs:?} * {ws:?}, stride {stride}, padding {padding}");
        let (x, w) = (random(&xs, 1), random(&ws, 2));
        let conv = Conv::new(stride, padding);
        let near = |name, got: Tensor, exact: Tensor, direct: Tensor| {
            assert!(values(&got) != values(&exact), "{name} of {what}: nothing was rounded");
            assert_close(&format!("{name} of {what}, in f32"), &values(&got), &values(&exact), 2e-2);
            if !by_winograd(ws, stride) {
                assert_close(&format!("{name} of {what}"), &values(&got), &values(&direct), 4e-3);
            }
            let error = |of: &Tensor| {
                let of = of.to_dtype(DType::F32).unwrap();
                (of - &exact).unwrap().sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap().sqrt()
            };
            let (got, direct) = (error(&got), error(&direct));
            assert!(got < 2.5 * direct, "{name} of {what}: error {got}, of rounded operands {direct}");
        };

        let y = ops::conv2d_forward(&x, &w, conv).unwrap();
        let (got, stats) = ops::conv2d_stats(&halved(&x), &w, conv, EPS, None).unwrap();
        assert_eq!((got.dtype(), stats.mean.dtype()), (DType::BF16, DType::F32));
        near("y", got, y.clone(), ops::conv2d_forward(&rounded(&x), &rounded(&w), conv).unwrap());

        let (side, kernel) = ((xs[1], xs[2]), (ws[1], ws[2]));
        let grad = |y: &Tensor, w: &Tensor| ops::conv2d_input_grad(y, w, conv, side, None).unwrap();
        let got = grad(&halved(&y), &w);
        assert_eq!(got.dtype(), DType::BF16);
        near("dx", got, grad(&y, &w), grad(&rounded(&y), &rounded(&w)));
        let grad = |x: &Tensor, y: &Tensor| ops::conv2d_weight_grad(x, y, conv, kernel).unwrap();
        let got = grad(&halved(&x), &halved(&y));
        // cuDNN's is of its operands' type.
        let expected = if x.device().is_cuda() { DType::BF16 } else { DType::F32 };
        assert_eq!(got.dtype(), expected);
        near("dw", got, grad(&x, &y), grad(&rounded(&x), &rounded(&y)));

        let (bias, residual) = (random(&ws[..1], 3), rounded(&random(y.dims(), 4)));
        let layer = |x: &Tensor, w: &Tensor, residual: &Tensor| {
            let prepared = Weights::new(w, conv, x.dtype()).unwrap();
            ops::conv2d_bias_act(x, &prepared, Some(&bias), Some(residual), true).unwrap()
        };
        let got = layer(&halved(&x), &w, &halved(&residual));
        assert_eq!(got.dtype(), DType::BF16);
        let direct = if x.device().is_cuda() {
            // cuDNN's result is rounded before the rest is added.
            let y = rounded(&ops::conv2d_forward(&rounded(&x), &rounded(&w), conv).unwrap());
            y.broadcast_add(&bias).and_then(|y| (y + &residual)?.relu()).unwrap()
        } else {
            layer(&rounded(&x), &rounded(&w), &residual)
        };
        near("layer", got, layer(&x, &w, &residual), direct);
    }
}

/// In bf16, everything between convolutions gives what it gives in `f32`, rounded.
#[test]
fn what_is_between_convolutions_in_bf16() {
    let shape = [2, 9, 8, 37];
    let (x, stats, [gamma, beta], affine, _) = normed(&shape);
    let (x, residual, dy) = (rounded(&x), rounded(&random(&shape, 7)), rounded(&random(&shape, 8)));
    let is_rounded = |what: &str, got: &Tensor, exact: &Tensor| {
        assert_eq!(got.dtype(), DType::BF16, "{what}");
        assert!(values(got) == values(&halved(exact)), "{what}");
    };
    let halves = |x: &Tensor, f: &dyn Fn(&Tensor) -> Tensor| f(&halved(x));

    let sum = |x: &Tensor, residual: &Tensor| {
        ops::normalised_sum(Input { x, affine: Some(&affine) }, Some(residual.into()), true).unwrap()
    };
    let y = sum(&x, &residual);
    is_rounded("normalised_sum", &halves(&x, &|x| sum(x, &halved(&residual))), &y);
    assert!(
        values(&ops::batch_stats(&halved(&x), EPS, None).unwrap().var)
            == values(&ops::batch_stats(&x, EPS, None).unwrap().var)
    );

    let backward = |dy: &Tensor, x: &Tensor, y: &Tensor| {
        ops::batch_norm_backward(dy, x, Some(y), &gamma, &beta, &stats, true, true, None).unwrap()
    };
    let (exact, got) = (backward(&dy, &x, &y), backward(&halved(&dy), &halved(&x), &halved(&y)));
    is_rounded("dx", &got.dx, &exact.dx);
    is_rounded("dresidual", &got.dresidual.unwrap(), &exact.dresidual.unwrap());
    assert!(values(&got.dgamma) == values(&exact.dgamma) && values(&got.dbeta) == values(&exact.dbeta));

    let add = |dy: &Tensor, x: &Tensor, into: Tensor| {
        ops::batch_norm_backward_add(dy, x, &gamma, &beta, &stats, &into, None).unwrap();
        into
    };
    let exact = add(&dy, &x, residual.copy().unwrap());
    is_rounded("batch_norm_backward_add", &add(&halved(&dy), &halved(&x), halved(&residual)), &exact);

    let pool = |x: &Tensor| ops::max_pool_forward(Input { x, affine: Some(&affine) }, 3, 2, 1).unwrap();
    let ((exact, index), (got, same_index)) = (pool(&x), pool(&halved(&x)));
    is_rounded("max_pool_forward", &got, &exact);
    assert_eq!(
        index.flatten_all().unwrap().to_vec1::<u8>().unwrap(),
        same_index.flatten_all().unwrap().to_vec1::<u8>().unwrap()
    );
    let dpool = rounded(&random(exact.dims(), 9));
    let back = |dy: &Tensor| ops::max_pool_backward(dy, &index, 3, 2, 1, (9, 8)).unwrap();
    is_rounded("max_pool_backward", &back(&halved(&dpool)), &back(&dpool));
    let mean = |x: &Tensor| ops::avg_pool_forward(x, 2).unwrap();
    is_rounded("avg_pool_forward", &mean(&halved(&x)), &mean(&x));
    let dmean = mean(&x);
    let back = |dy: &Tensor| ops::avg_pool_backward(dy, 2, (9, 8)).unwrap();
    is_rounded("avg_pool_backward", &back(&halved(&dmean)), &back(&rounded(&dmean)));
}
