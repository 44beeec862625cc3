//! What a recipe may add to a training step: weighted cross-entropies, clipping, averages.
//!
//! The constants are those of PyTorch 2.15, torchvision 0.29 and timm 1.0.31; above each stands the Python that printed it.

#![allow(clippy::excessive_precision)] // nine digits, as printed

mod common;

use candle_core::DType;
use common::{assert_close, noise, random, tensor, values};
use ops::{ClassWeights, Focus};

const ROUNDING: f32 = 2e-6;

fn focal(smoothing: f64) -> Focus {
    let weights = ClassWeights::Fixed([0.25, 0.75]);
    Focus { weights, gamma_positive: 2.0, gamma_negative: 2.0, smoothing, ..Focus::NONE }
}

fn asymmetric(smoothing: f64) -> Focus {
    Focus { gamma_positive: 1.0, gamma_negative: 4.0, shift: 0.05, smoothing, ..Focus::NONE }
}

fn weighted(smoothing: f64) -> Focus {
    Focus { weights: ClassWeights::Counted, smoothing, ..Focus::NONE }
}

/// ```python
/// z = torch.tensor([4., -4, 2.5, -2.5, 0, -3.5]).requires_grad_(); y = torch.tensor([1., 0, 0, 1, 1, 0])
/// t = y * (1 - s) + s / 2
/// sigmoid_focal_loss(z, t, reduction="mean")
/// AsymmetricLossMultiLabel(4, 1, .05, smoothing=s, reduction="mean")(z[None], y[None])
/// F.binary_cross_entropy_with_logits(z, t, torch.where(y == 1, 6 / 3, 6 / 3))
/// ```
#[test]
fn losses_are_pytorchs() {
    let logits = tensor(&[4f32, -4.0, 2.5, -2.5, 0.0, -3.5], &[2, 3]);
    let targets = tensor(&[1f32, 0.0, 0.0, 1.0, 1.0, 0.0], &[2, 3]);
    for (name, focus, loss, grad) in [
        (
            "focal",
            focal(0.0),
            0.374302864,
            [-7.22941422e-07, 2.16881494e-06, 0.140425384, -0.0468084626, -0.0124286171, 9.35127628e-06],
        ),
        (
            "asymmetric",
            asymmetric(0.0),
            0.656720102,
            [-0.000107347107, 0.0, 0.118905559, -0.17247133, -0.0705478042, 0.0],
        ),
        (
            "weighted",
            weighted(0.0),
            1.97232568,
            [-0.00599541282, 0.00599540351, 0.308047265, -0.308047265, -0.166666672, 0.00977074355],
        ),
        (
            "focal, smoothed",
            focal(0.2),
            0.283681363,
            [-1.39303229e-05, 3.25037254e-05, 0.0933113396, -0.0399905816, -0.0119314715, 0.000123309481],
        ),
        (
            "asymmetric, smoothed",
            asymmetric(0.2),
            0.487557203,
            [-0.000357604906, -3.88500757e-06, 0.069889009, -0.135330111, -0.0510165319, -4.03184868e-06],
        ),
        (
            "weighted, smoothed",
            weighted(0.2),
            2.18899226,
            [0.0273379087, -0.0273379311, 0.274713933, -0.274713963, -0.13333334, -0.0235625897],
        ),
    ] {
        let (got, slopes) = ops::focused_bce_with_logits(&logits, &targets, &focus).unwrap();
        assert_close(name, &values(&got), &[loss], ROUNDING);
        assert_close(name, &values(&slopes), &grad, ROUNDING);
    }
}

/// Without weights, exponents and shift it is the plain cross-entropy.
#[test]
fn nothing_is_the_plain_loss() {
    let logits = random(&[7, 15], 1);
    let targets: Vec<f32> = (0..105).map(|i| [1.0, 0.0, -1.0, 0.0][i * 7 % 4]).collect();
    let targets = tensor(&targets, &[7, 15]);
    let (loss, grad) = ops::focused_bce_with_logits(&logits, &targets, &Focus::NONE).unwrap();
    let (expected, slopes) = ops::bce_with_logits(&logits, &targets).unwrap();
    assert_close("loss", &values(&loss), &values(&expected), ROUNDING);
    assert_close("gradient", &values(&grad), &values(&slopes), ROUNDING);
}

/// Unknown targets leave loss, gradient and class weights as if their logits were not there; with none known, or none of a
/// class, nothing is infinite.
#[test]
fn unknown_targets() {
    let (n, c) = (40, 15);
    let logits: Vec<f32> = noise(n * c, 2).iter().map(|z| 5.0 * z).collect();
    let targets: Vec<f32> = (0..n * c).map(|i| [1.0, -1.0, 0.0, -1.0, 0.0][i * 7 % 5]).collect();
    let known: Vec<usize> = (0..n * c).filter(|&i| targets[i] >= 0.0).collect();
    let pick = |all: &[f32]| tensor(&known.iter().map(|&i| all[i]).collect::<Vec<_>>(), &[1, known.len()]);
    for focus in [focal(0.1), asymmetric(0.1), weighted(0.1), weighted(0.0)] {
        let of = |z: &[f32], t: &[f32]| {
            let (z, t) = (tensor(z, &[n, c]), tensor(t, &[n, c]));
            let (loss, grad) = ops::focused_bce_with_logits(&z, &t, &focus).unwrap();
            (values(&loss), values(&grad))
        };
        let (loss, grad) = of(&logits, &targets);
        let (expected, slopes) = ops::focused_bce_with_logits(&pick(&logits), &pick(&targets), &focus).unwrap();
        assert_close("loss", &loss, &values(&expected), ROUNDING);
        assert_close("gradient", &values(&pick(&grad)), &values(&slopes), ROUNDING);
        assert!((0..n * c).all(|i| targets[i] >= 0.0 || grad[i] == 0.0));
        assert_eq!(of(&logits, &vec![-1.0; n * c]), (vec![0.0], vec![0.0; n * c]));
        let (loss, grad) = of(&logits, &vec![0.0; n * c]);
        assert!(loss[0] > 0.0 && grad.iter().all(|slope| slope.is_finite()));
    }
}

/// No logit overflows, and the derivative is that of the loss.
#[test]
fn slopes_are_derivatives() {
    let shifted = Focus { shift: 0.2, ..focal(0.0) };
    let fraction = Focus { gamma_negative: 0.5, ..Focus::NONE };
    for focus in [focal(0.0), focal(0.3), asymmetric(0.0), asymmetric(0.3), weighted(0.2), shifted, fraction] {
        let weights = focus.weights([1, 3]);
        for y in [0.0, 1.0] {
            for z in [-300.0, -30.0, -3.1, -0.4, 0.7, 5.2, 30.0, 300.0] {
                let (loss, slope) = focus.term(weights, z, y);
                assert!(loss.is_finite() && slope.is_finite(), "{focus:?} {z} {y}: {loss} {slope}");
                let h = 1e-5;
                let expected = (focus.term(weights, z + h, y).0 - focus.term(weights, z - h, y).0) / (2.0 * h);
                assert!(
                    (slope - expected).abs() < 1e-6 * expected.abs().max(1.0),
                    "{focus:?} {z} {y}: {slope} {expected}"
                );
            }
        }
    }
    let (z, y) = (tensor(&[-300f32, 300.0, -88.5, 88.5], &[1, 4]), tensor(&[1f32, 0.0, 0.0, 1.0], &[1, 4]));
    for focus in [focal(0.0), asymmetric(0.0), weighted(0.1)] {
        let (loss, grad) = ops::focused_bce_with_logits(&z, &y, &focus).unwrap();
        assert!(values(&loss)[0].is_finite() && values(&grad).iter().all(|slope| slope.is_finite()), "{focus:?}");
    }
}

#[test]
fn losses_refuse() {
    let error = ops::focused_bce_with_logits(&random(&[2, 3], 1), &random(&[3, 2], 1), &Focus::NONE).unwrap_err();
    assert!(error.to_string().contains("`targets` must have shape [2, 3], got [3, 2]"), "{error}");
}

/// ```python
/// for p, g in zip(ps, [torch.tensor([3., -4.]), torch.tensor([[12.]])]): p.grad = g
/// torch.nn.utils.clip_grad_norm_(ps, 6.5); [p.grad for p in ps]
/// ```
#[test]
fn clipping_is_pytorchs() {
    let clipped = |most: f64| {
        let grads = [tensor(&[3f32, -4.0], &[2]), tensor(&[12f32], &[1, 1])];
        ops::clip_by_norm(&grads, most).unwrap();
        grads.iter().flat_map(values).collect::<Vec<_>>()
    };
    assert_close("clipped", &clipped(6.5), &[1.4999998807907104, -1.9999998807907104, 5.999999523162842], 1e-6);
    assert_eq!(clipped(13.1), [3.0, -4.0, 12.0]);
}

/// More tensors than one launch takes, more elements than one task, against the definition in f64.
#[test]
fn norms_of_many_tensors() {
    let make = || {
        let mut grads: Vec<_> = (0..70).map(|seed| random(&[seed as usize % 5 + 1, 37], seed)).collect();
        grads.push(random(&[3, 70_000], 99));
        grads
    };
    let grads = make();
    let all: Vec<f32> = grads.iter().flat_map(values).collect();
    let norm = all.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    if grads[0].device().is_cpu() {
        assert!((ops::norm(&grads).unwrap() / norm - 1.0).abs() < 1e-12);
    }
    ops::clip_by_norm(&grads, 2.0).unwrap();
    let got: Vec<f32> = grads.iter().flat_map(values).collect();
    let expected: Vec<f32> = all.iter().map(|&g| (f64::from(g) * 2.0 / (norm + 1e-6)) as f32).collect();
    assert_close("clipped", &got, &expected, 1e-6);
    let whole = make();
    ops::clip_by_norm(&whole, norm + 1.0).unwrap();
    assert_eq!(whole.iter().flat_map(values).collect::<Vec<_>>(), all);

    let half = make()[0].to_dtype(DType::BF16).unwrap();
    let halves = [half.clone()];
    if half.device().is_cuda() {
        let before = values(&half);
        ops::clip_by_norm(&halves, 0.1).unwrap();
        let norm = before.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let expected: Vec<f32> = before.iter().map(|&g| (f64::from(g) * 0.1 / norm) as f32).collect();
        assert_close("bf16", &values(&half), &expected, 4e-3);
    } else {
        assert!(ops::clip_by_norm(&halves, 0.1).unwrap_err().to_string().contains("`gradient` must be F32, got BF16"));
    }
}

/// ```python
/// torch.tensor([1., -2., .5]).lerp_(torch.tensor([3., .25, -1.]), weight=1 - decay)
/// ```
#[test]
fn averages_are_pytorchs() {
    for (decay, expected) in [
        (0.9, [1.20000005, -1.77499998, 0.349999994]),
        (0.3, [2.4000001, -0.425000012, -0.549999952]),
        (0.0, [3.0, 0.25, -1.0]),
    ] {
        let (average, value) = (tensor(&[1f32, -2.0, 0.5], &[3]), tensor(&[3f32, 0.25, -1.0], &[3]));
        ops::average_steps(&[(&average, &value)], decay).unwrap();
        assert_close(&format!("{decay}"), &values(&average), &expected, 1e-7);
        assert_eq!(values(&value), [3.0, 0.25, -1.0]);
    }
    // More tensors than one launch takes.
    let pairs: Vec<_> = (0..140)
        .map(|seed| (random(&[seed as usize % 3 + 1, 5000], seed), random(&[seed as usize % 3 + 1, 5000], seed + 500)))
        .collect();
    let expected: Vec<Vec<f32>> =
        pairs.iter().map(|(a, v)| values(a).iter().zip(values(v)).map(|(a, v)| a + 0.1 * (v - a)).collect()).collect();
    ops::average_steps(&pairs.iter().map(|(a, v)| (a, v)).collect::<Vec<_>>(), 0.9).unwrap();
    for ((average, _), expected) in pairs.iter().zip(expected) {
        assert_close("average", &values(average), &expected, 1e-6);
    }
    let error = ops::average_steps(&[(&random(&[2], 1), &random(&[3], 1))], 0.9).unwrap_err().to_string();
    assert!(error.contains("`value` must have shape [2], got [3]"), "{error}");
}
