//! Known values, independence of the number of threads, and wrong arguments.
//!
//! The constants are PyTorch 2's. Above each stands the Python that printed it, after:
//!
//! ```python
//! import torch, torch.nn.functional as F
//! def wave(*s): return (((torch.arange(torch.tensor(s).prod().item()) * 7 + 3) % 11 - 5) / 4).reshape(s)
//! def first(t): return t.permute(0, 3, 1, 2)  # channels first
//! def last(t): return t.permute(0, 2, 3, 1)   # channels last
//! gamma, beta = torch.tensor([1.5, -0.5]), torch.tensor([0.25, 0.5])
//! ```

#![allow(clippy::excessive_precision)] // nine digits, as printed

mod common;

use candle_core::{DType, Result, Tensor};
use common::{assert_close, halved, random, tensor, values};
use ops::{BatchStats, Conv, Input, Pool, Step, Weights};

/// A few roundings.
const ROUNDING: f32 = 1e-6;

/// `wave` of the module's documentation: multiples of a quarter, with ties.
fn wave(shape: &[usize]) -> Tensor {
    tensor(&wave_values(shape.iter().product()), shape)
}

fn wave_values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + 3) % 11) as f32 / 4.0 - 1.25).collect()
}

fn gamma() -> Tensor {
    tensor(&[1.5f32, -0.5], &[2])
}

fn beta() -> Tensor {
    tensor(&[0.25f32, 0.5], &[2])
}

#[test]
fn conv2d() {
    let (x, w) = (wave(&[1, 4, 5, 2]), wave(&[3, 3, 3, 2]));
    // last(F.conv2d(first(wave(1, 4, 5, 2)), first(wave(3, 3, 3, 2)), None, 2, 1))
    let expected = [
        -2.0625, 0.8125, 0.9375, 2.25, 1.4375, 2.0, 2.125, 0.6875, -0.75, 0.0, 0.0, 1.375, 0.375, -0.4375, -2.625,
        -4.25, -2.125, -2.0625,
    ];
    let y = ops::conv2d_forward(&x, &w, Conv::new(2, 1)).unwrap();
    assert_eq!(y.dims(), [1, 2, 3, 3]);
    assert_eq!(values(&y), expected);

    let (bias, residual) = (tensor(&[0.5f32, -1.0, 0.0], &[3]), wave(&[1, 2, 3, 3]));
    // F.relu(that + torch.tensor([0.5, -1, 0]) + wave(1, 2, 3, 3))
    let expected =
        [0.0, 1.0625, 1.1875, 2.0, 1.4375, 2.0, 1.625, 0.4375, 0.0, 0.0, 0.0, 0.875, 2.125, 0.0, 0.0, 0.0, 0.0, 0.0];
    let prepared = Weights::new(&w, Conv::new(2, 1), DType::F32).unwrap();
    let y = ops::conv2d_bias_act(&x, &prepared, Some(&bias), Some(&residual), true).unwrap();
    assert_eq!(values(&y), expected);
}

#[test]
fn max_pool_with_padding() {
    let x = wave(&[1, 4, 5, 2]);
    // y, i = F.max_pool2d(first(wave(1, 4, 5, 2)), 3, 2, 1, return_indices=True); last(y), last(i)
    let expected = [1.25, 1.25, 1.25, 1.0, 0.75, 0.75, 1.25, 1.25, 1.25, 1.25, 1.0, 1.0];
    let pixels = [6, 0, 6, 7, 9, 3, 6, 11, 6, 11, 13, 18];
    let (y, index) = ops::max_pool_forward(&x, 3, 2, 1).unwrap();
    assert_eq!(y.dims(), [1, 2, 3, 2]);
    assert_eq!(values(&y), expected);
    // PyTorch counts pixels of the map, we count taps of the window.
    let taps = index.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let chosen = taps.iter().enumerate().map(|(at, tap)| {
        let (oy, ox, tap) = (at / 6, at / 2 % 3, usize::from(*tap));
        (oy * 2 + tap / 3 - 1) * 5 + (ox * 2 + tap % 3 - 1)
    });
    assert_eq!(chosen.collect::<Vec<_>>(), pixels);

    // x = wave(1, 4, 5, 2).requires_grad_(); (last(F.max_pool2d(first(x), 3, 2, 1)) * wave(1, 2, 3, 2)).sum().backward()
    // [(i, g) for i, g in enumerate(x.grad.flatten().tolist()) if g]
    let expected = [(1, 1.25), (12, -1.5), (15, -0.75), (18, 1.0), (23, -0.5), (26, 0.5), (37, -0.5)];
    let dx = ops::max_pool_backward(&wave(&[1, 2, 3, 2]), &index, 3, 2, 1, (4, 5)).unwrap();
    let nonzero = values(&dx).into_iter().enumerate().filter(|(_, g)| *g != 0.0);
    assert_eq!(nonzero.collect::<Vec<_>>(), expected);
}

#[test]
fn max_pool_shows_what_is_not_a_number() {
    let x = tensor(&[1.0, f32::NAN, 3.0, f32::NEG_INFINITY], &[1, 2, 2, 1]);
    let (y, index) = ops::max_pool_forward(&x, 2, 2, 0).unwrap();
    assert!(values(&y)[0].is_nan());
    assert_eq!(index.flatten_all().unwrap().to_vec1::<u8>().unwrap(), [1]);
    assert!(values(&ops::global_pool_forward(&x, Pool::Max).unwrap())[0].is_nan());
    let lowest = tensor(&[f32::NEG_INFINITY; 4], &[1, 2, 2, 1]);
    assert_eq!(values(&ops::max_pool_forward(&lowest, 3, 2, 1).unwrap().0), [f32::NEG_INFINITY]);
}

#[test]
fn batch_norm_in_training() {
    let x = wave(&[2, 2, 3, 2]);
    // x = first(wave(2, 2, 3, 2)); last(F.batch_norm(x, None, None, gamma, beta, True, 0.1, 1e-5))
    let expected = [
        -0.643517494,
        -0.188571721,
        0.818602085,
        1.01329899,
        2.28072166,
        0.562597454,
        -1.61826396,
        0.111895949,
        -0.156144321,
        1.3137666,
        1.30597532,
        0.863065124,
        2.76809502,
        0.412363619,
        -1.13089073,
        -0.0383378863,
        0.331228882,
        1.16353273,
        1.79334855,
        0.712831259,
        -2.10563707,
        0.262129784,
        -0.643517494,
        -0.188571721,
    ];
    let (y, stats) = ops::batch_norm_forward(&x, &gamma(), &beta(), None, false, 1e-5).unwrap();
    assert_close("y", &values(&y), &expected, ROUNDING);
    // x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False), (x.var((0, 2, 3), unbiased=False) + 1e-5).rsqrt()
    assert_close("mean", &values(&stats.mean), &[-0.0416666679, 0.104166664], ROUNDING);
    assert_close("var", &values(&stats.var), &[0.592013896, 0.692274332], ROUNDING);
    assert_close("inv_std", &values(&stats.inv_std), &[1.29966187, 1.20187068], ROUNDING);
}

#[test]
fn batch_norm_with_residual_and_relu() {
    let (x, shape) = (wave(&[2, 2, 3, 2]), [2, 2, 3, 2]);
    let (mut residual, mut dy) = (wave_values(24), wave_values(24));
    residual.reverse();
    dy.rotate_right(5);
    let (residual, dy) = (tensor(&residual, &shape), tensor(&dy, &shape));
    // x, r = wave(2, 2, 3, 2).requires_grad_(), wave(24).flip(0).reshape(2, 2, 3, 2).requires_grad_()
    // gamma.requires_grad_(), beta.requires_grad_()
    // y = F.relu(last(F.batch_norm(first(x), None, None, gamma, beta, True, 0.1, 1e-5)) + r)
    // y.backward(wave(24).roll(5).reshape(2, 2, 3, 2)); y, x.grad, r.grad, gamma.grad, beta.grad
    let expected_y = [
        0.606482506,
        0.0,
        1.31860209,
        0.0,
        2.03072166,
        1.31259751,
        0.0,
        0.111895949,
        0.843855679,
        0.563766599,
        1.55597532,
        2.11306524,
        2.26809502,
        0.912363648,
        0.0,
        0.0,
        1.08122885,
        0.163532734,
        1.79334855,
        1.71283126,
        0.0,
        0.512129784,
        0.606482506,
        0.0,
    ];
    let expected_dx = [
        -0.11005906,
        -0.139870867,
        0.668177426,
        0.104267366,
        1.44641387,
        0.313183218,
        0.833236217,
        -0.229070127,
        -1.31276643,
        -0.435633421,
        -0.534530044,
        0.674685419,
        0.243706465,
        0.132432088,
        0.605275154,
        -0.109353572,
        -1.05335438,
        -0.616384506,
        -0.275117874,
        0.493934304,
        1.0611974,
        -0.0483190231,
        -1.57217884,
        -0.139870867,
    ];
    let expected_dresidual = [
        -0.25, 0.0, 0.5, 0.0, 1.25, -0.5, 0.0, 0.25, -0.75, 1.0, 0.0, -1.0, 0.75, -0.25, 0.0, 0.0, -0.5, 1.25, 0.25,
        -0.75, 0.0, 0.0, -1.0, 0.0,
    ];
    let (y, stats) = ops::batch_norm_forward(&x, &gamma(), &beta(), Some(&residual), true, 1e-5).unwrap();
    assert_close("y", &values(&y), &expected_y, ROUNDING);
    let grads = ops::batch_norm_backward(&dy, &x, Some(&y), &gamma(), &beta(), &stats, true, true, None).unwrap();
    assert_close("dx", &values(&grads.dx), &expected_dx, ROUNDING);
    assert_eq!(values(&grads.dresidual.unwrap()), expected_dresidual);
    assert_close("dgamma", &values(&grads.dgamma), &[4.31866837, -2.02815676], ROUNDING);
    assert_eq!(values(&grads.dbeta), [0.25, 0.0]);
}

#[test]
fn batch_norm_in_evaluation() {
    let x = wave(&[2, 2, 3, 2]);
    let (mean, var) = (tensor(&[0.1f32, -0.2], &[2]), tensor(&[0.5f32, 2.0], &[2]));
    // mean, var = torch.tensor([0.1, -0.2]), torch.tensor([0.5, 2])
    // last(F.batch_norm(first(wave(2, 2, 3, 2)), mean, var, gamma, beta, False, 0.1, 1e-5))
    let expected = [
        -1.02277946,
        -0.0126511231,
        0.568194866,
        0.694453835,
        2.1591692,
        0.42928949,
        -2.08342886,
        0.164125115,
        -0.492454648,
        0.871230125,
        1.09851956,
        0.60606575,
        2.68949389,
        0.340901375,
        -1.55310416,
        0.0757369995,
        0.0378700942,
        0.78284198,
        1.62884438,
        0.517677605,
        -2.6137538,
        0.25251323,
        -1.02277946,
        -0.0126511231,
    ];
    let norm = |relu| {
        let norm = BatchStats::running(&mean, &var, 1e-5)?.affine(&gamma(), &beta(), relu)?;
        ops::normalised_sum(Input { x: &x, affine: Some(&norm) }, None, false)
    };
    assert_close("y", &values(&norm(false).unwrap()), &expected, ROUNDING);
    assert_close("relu", &values(&norm(true).unwrap()), &expected.map(|y| y.max(0.0)), ROUNDING);
}

/// A mean a thousand deviations from zero leaves the variance its digits.
#[test]
fn batch_norm_far_from_zero() {
    let x = wave(&[2, 2, 3, 2]);
    let one = tensor(&[1f32, 1.0], &[2]);
    let stats = |x: &Tensor| ops::batch_norm_forward(x, &one, &one, None, false, 1e-5).unwrap().1;
    let (near, far) = (stats(&x), stats(&(x + 1024.0).unwrap()));
    assert_eq!(values(&far.var), values(&near.var));
}

#[test]
fn bce_of_certain_logits() {
    let logits = tensor(&[100f32, -100.0, 100.0, -100.0, 0.0, 2.5], &[1, 6]);
    let targets = tensor(&[1f32, 0.0, 0.0, 1.0, 1.0, 0.25], &[1, 6]);
    let one = |i| {
        let (z, t) = (logits.narrow(1, i, 1).unwrap(), targets.narrow(1, i, 1).unwrap());
        ops::bce_with_logits(&z, &t).unwrap().0.to_scalar::<f32>().unwrap()
    };
    // z = torch.tensor([[100, -100, 100, -100, 0, 2.5]]).requires_grad_(); t = torch.tensor([[1, 0, 0, 1, 1, 0.25]])
    // F.binary_cross_entropy_with_logits(z, t, reduction="none")
    // The first two are exp(-100), which PyTorch gives as 3.92e-44 and 0: below the least normal number nothing is exact.
    assert!((0..2).all(|i| (0.0..1e-40).contains(&one(i))));
    assert_eq!([one(2), one(3), one(4)], [100.0, 100.0, 0.693147182]);
    assert_close("z = 2.5", &[one(5)], &[1.95388973], ROUNDING);

    // l = F.binary_cross_entropy_with_logits(z, t); l.backward(); l, z.grad
    let expected = [0.0, 0.0, 0.166666672, -0.166666672, -0.0833333358, 0.112356968];
    let (loss, grad) = ops::bce_with_logits(&logits, &targets).unwrap();
    assert_close("loss", &values(&loss), &[33.7745056], ROUNDING);
    assert_close("gradient", &values(&grad), &expected, ROUNDING);
}

/// Unknown targets leave loss and gradient as if their logits were not there; with none known both are 0.
#[test]
fn bce_of_unknown_targets() {
    assert_eq!([None, Some(false), Some(true)].map(ops::target), [-1.0, 0.0, 1.0]);
    let (n, c) = (40, 15);
    let logits: Vec<f32> = values(&wave(&[n, c])).iter().map(|z| 3.0 * z).collect();
    let targets: Vec<f32> =
        (0..n * c).map(|i| ops::target([Some(true), None, Some(false), None, Some(false)][i * 7 % 5])).collect();
    let known: Vec<usize> = (0..n * c).filter(|&i| targets[i] >= 0.0).collect();
    let (loss, grad) = ops::bce_with_logits(&tensor(&logits, &[n, c]), &tensor(&targets, &[n, c])).unwrap();
    let pick = |all: &[f32]| tensor(&known.iter().map(|&i| all[i]).collect::<Vec<_>>(), &[1, known.len()]);
    let (expected, slopes) = ops::bce_with_logits(&pick(&logits), &pick(&targets)).unwrap();
    assert_close("loss", &values(&loss), &values(&expected), ROUNDING);
    let grad = values(&grad);
    assert_eq!(values(&pick(&grad)), values(&slopes));
    assert!((0..n * c).all(|i| targets[i] >= 0.0 || grad[i] == 0.0));

    let nothing = tensor(&vec![-1f32; n * c], &[n, c]);
    let (loss, grad) = ops::bce_with_logits(&tensor(&logits, &[n, c]), &nothing).unwrap();
    assert_eq!((values(&loss), values(&grad)), (vec![0.0], vec![0.0; n * c]));
}

#[test]
fn lse_pool_of_large_activations() {
    let x = tensor(&[300f32, -300.0, 299.9, -299.9, 299.7, -299.7, 100.0, -310.0], &[1, 2, 2, 2]);
    // x = torch.tensor([300, -300, 299.9, -299.9, 299.7, -299.7, 100, -310]).reshape(1, 2, 2, 2).requires_grad_()
    // y = (torch.logsumexp(10 * x.double(), (1, 2)) - torch.tensor(4.).double().log()) / 10; y
    let pool = Pool::Lse { r: 10.0 };
    let y = ops::global_pool_forward(&x, pool).unwrap();
    assert_close("y", &values(&y), &[299.896271, -299.821654], ROUNDING);

    // (y * torch.tensor([[1, -2]])).sum().backward(); x.grad
    let expected =
        [0.705392659, -0.0840281993, 0.259483606, -0.228426278, 0.0351237208, -1.68754554, 0.0, -2.80259693e-45];
    let grad = ops::global_pool_backward(&x, &y, &tensor(&[1f32, -2.0], &[1, 2]), pool).unwrap();
    // A unit in the last place of 300 is 3e-5, and r multiplies it by 10.
    assert_close("gradient", &values(&grad), &expected, 3e-4);
}

#[test]
fn pools_of_whole_maps() {
    let x = tensor(&[1f32, -4.0, 2.0, 0.0, 3.0, -2.0], &[1, 1, 3, 2]);
    assert_eq!(values(&ops::global_pool_forward(&x, Pool::Max).unwrap()), [3.0, 0.0]);
    assert_eq!(values(&ops::global_pool_forward(&x, Pool::Avg).unwrap()), [2.0, -2.0]);
    // A sharp one is the maximum, less log(3) / r.
    let sharp = values(&ops::global_pool_forward(&x, Pool::Lse { r: 1e3 }).unwrap());
    assert_close("lse", &sharp, &[3.0 - 3f32.ln() / 1e3, -(3f32.ln() / 1e3)], ROUNDING);
}

/// Three gradients of four parameters.
const GRADIENTS: [[f32; 4]; 3] = [[0.5, -1.0, 0.25, 2.0], [-0.25, 0.5, 0.0, 1.0], [1.0, 0.0, -0.75, -0.125]];

// w = torch.nn.Parameter(torch.tensor([1, -2, 0.5, 0]))
// o = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01)
// for g in ([0.5, -1, 0.25, 2], [-0.25, 0.5, 0, 1], [1, 0, -0.75, -0.125]): w.grad = torch.tensor(g); o.step(); print(w)
#[test]
fn sgd() {
    let expected = [
        [0.949000001, -1.898, 0.4745, -0.200000003],
        [0.927151024, -1.85430205, 0.451075494, -0.479799986],
        [0.806559801, -1.81311953, 0.504542351, -0.718640208],
    ];
    let (param, momentum) = (tensor(&[1f32, -2.0, 0.5, 0.0], &[4]), tensor(&[0f32; 4], &[4]));
    for (step, (gradient, expected)) in GRADIENTS.iter().zip(&expected).enumerate() {
        sgd_step(&param, &tensor(gradient, &[4]), &momentum, [0.1, 0.9, 0.01]).unwrap();
        assert_close(&format!("step {step}"), &values(&param), expected, ROUNDING);
    }
    // o.state[w]["momentum_buffer"]
    assert_close("momentum", &values(&momentum), &[1.20591247, -0.411825001, -0.534668744, 2.38840199], ROUNDING);
}

// As for `sgd`, with
// o = torch.optim.AdamW([w], lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
#[test]
fn adamw() {
    let expected = [
        [0.989000022, -1.98800004, 0.489500016, -0.00999999978],
        [0.985347688, -1.98334873, 0.482309937, -0.0193117969],
        [0.977781236, -1.9793067, 0.486252129, -0.0261301361],
    ];
    let param = tensor(&[1f32, -2.0, 0.5, 0.0], &[4]);
    let (m, v) = (tensor(&[0f32; 4], &[4]), tensor(&[0f32; 4], &[4]));
    for (step, (gradient, expected)) in (1..).zip(GRADIENTS.iter().zip(&expected)) {
        adamw_step(&param, &tensor(gradient, &[4]), &m, &v, [0.01, 0.1], step).unwrap();
        assert_close(&format!("step {step}"), &values(&param), expected, ROUNDING);
    }
    // o.state[w]["exp_avg"], o.state[w]["exp_avg_sq"]
    assert_close("m", &values(&m), &[0.118000001, -0.0359999985, -0.0547499992, 0.239500001], ROUNDING);
    assert_close("v", &values(&v), &[0.00131193781, 0.00124775106, 0.000624875072, 0.00500662904], ROUNDING);
}

/// The input may be a contiguous part of a larger tensor.
#[test]
fn parts_of_tensors() {
    let whole = random(&[3, 5, 4, 2], 1);
    let part = whole.narrow(0, 1, 2).unwrap();
    let copy = tensor(&values(&part), part.dims());
    let w = random(&[3, 3, 3, 2], 2);
    let same =
        |f: &dyn Fn(&Tensor) -> Result<Tensor>| assert_eq!(values(&f(&part).unwrap()), values(&f(&copy).unwrap()));
    same(&|x| ops::conv2d_forward(x, &w, Conv::new(2, 1)));
    same(&|x| Ok(ops::batch_norm_forward(x, &gamma(), &beta(), Some(x), true, 1e-5)?.0));
    same(&|x| Ok(ops::max_pool_forward(x, 3, 2, 1)?.0));
    same(&|x| ops::avg_pool_forward(x, 2));
    same(&|x| ops::global_pool_forward(x, Pool::Lse { r: 10.0 }));
    same(&|x| Ok(ops::bce_with_logits(x, &copy)?.1));

    // In place, the rest of the larger tensor stays as it was.
    let before = values(&whole);
    sgd_step(&part, &copy, &zeros(&[2, 5, 4, 2]), [-1.0, 0.0, 0.0]).unwrap();
    let doubled = |(i, v): (usize, &f32)| if (40..120).contains(&i) { 2.0 * v } else { *v };
    assert_eq!(values(&whole), before.iter().enumerate().map(doubled).collect::<Vec<_>>());
}

#[test]
fn batches_of_none() {
    let (x, y, w) = (random(&[0, 5, 4, 2], 1), random(&[0, 3, 2, 3], 1), random(&[3, 3, 3, 2], 2));
    let is = |result: Result<Tensor>, dims: &[usize]| assert_eq!(result.unwrap().dims(), dims);
    is(ops::conv2d_forward(&x, &w, Conv::new(2, 1)), &[0, 3, 2, 3]);
    is(ops::conv2d_input_grad(&y, &w, Conv::new(2, 1), (5, 4), None), &[0, 5, 4, 2]);
    assert_eq!(values(&ops::conv2d_weight_grad(&x, &y, Conv::new(2, 1), (3, 3)).unwrap()), [0.0; 54]);
    is(ops::max_pool_forward(&x, 3, 2, 1).map(|(y, _)| y), &[0, 3, 2, 2]);
    is(ops::avg_pool_forward(&x, 2), &[0, 2, 2, 2]);
    is(ops::avg_pool_backward(&random(&[0, 2, 2, 2], 3), 2, (5, 4)), &[0, 5, 4, 2]);
    is(ops::global_pool_forward(&x, Pool::Avg), &[0, 2]);
}

fn sgd_step(param: &Tensor, grad: &Tensor, momentum: &Tensor, [lr, mu, wd]: [f64; 3]) -> Result<()> {
    ops::sgd_steps(&[Step { param, grad, first: momentum, second: None, copy: None }], lr, mu, wd)
}

fn adamw_step(param: &Tensor, grad: &Tensor, m: &Tensor, v: &Tensor, [lr, wd]: [f64; 2], step: u64) -> Result<()> {
    let steps = [Step { param, grad, first: m, second: Some(v), copy: None }];
    ops::adamw_steps(&steps, lr, 0.9, 0.999, 1e-8, wd, step)
}

/// Runs `f` with one thread and with three and asserts that it gives the same bits.
#[track_caller]
fn same_bits(what: &str, f: impl Fn() -> Vec<Tensor> + Sync) {
    let bits = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let outputs = pool.install(&f);
        outputs.iter().map(|t| values(t).into_iter().map(f32::to_bits).collect()).collect::<Vec<Vec<u32>>>()
    };
    // No message of thousands of numbers.
    assert!(bits(1) == bits(3), "{what} depends on the number of threads");
}

/// Sizes beyond one parallel task each.
#[test]
fn thread_counts() {
    let shape = [3, 33, 31, 48];
    let (x, residual) = (random(&shape, 1), random(&shape, 2));
    let (gamma, beta) = (random(&[48], 3), random(&[48], 4));
    same_bits("batch_norm", || {
        let (y, stats) = ops::batch_norm_forward(&x, &gamma, &beta, Some(&residual), true, 1e-5).unwrap();
        let grads = ops::batch_norm_backward(&residual, &x, Some(&y), &gamma, &beta, &stats, true, true, None).unwrap();
        let BatchStats { mean, var, inv_std } = stats;
        vec![y, mean, var, inv_std, grads.dx, grads.dgamma, grads.dbeta, grads.dresidual.unwrap()]
    });
    same_bits("max_pool", || {
        let (y, index) = ops::max_pool_forward(&x, 3, 2, 1).unwrap();
        let dx = ops::max_pool_backward(&y, &index, 3, 2, 1, (33, 31)).unwrap();
        vec![y, index.to_dtype(DType::F32).unwrap(), dx]
    });
    same_bits("avg_pool", || {
        let y = ops::avg_pool_forward(&x, 2).unwrap();
        let dx = ops::avg_pool_backward(&y, 2, (33, 31)).unwrap();
        vec![y, dx]
    });
    for pool in [Pool::Max, Pool::Avg, Pool::Lse { r: 10.0 }] {
        same_bits("global_pool", || {
            let y = ops::global_pool_forward(&x, pool).unwrap();
            let dx = ops::global_pool_backward(&x, &y, &y, pool).unwrap();
            vec![y, dx]
        });
    }
    same_bits("convolution", || {
        let w = random(&[24, 3, 3, 48], 5);
        let y = ops::conv2d_forward(&x, &w, Conv::new(2, 1)).unwrap();
        let dx = ops::conv2d_input_grad(&y, &w, Conv::new(2, 1), (33, 31), None).unwrap();
        let dw = ops::conv2d_weight_grad(&x, &y, Conv::new(2, 1), (3, 3)).unwrap();
        vec![y, dx, dw]
    });
    same_bits("optimisers", || {
        let copy = |t: &Tensor| tensor(&values(t), &shape);
        let (param, momentum) = (copy(&x), copy(&residual));
        sgd_step(&param, &residual, &momentum, [0.1, 0.9, 0.01]).unwrap();
        let (adam, m, v) = (copy(&x), copy(&residual), copy(&x.sqr().unwrap()));
        adamw_step(&adam, &residual, &m, &v, [0.01, 0.1], 7).unwrap();
        vec![param, momentum, adam, m, v]
    });
}

/// Asserts that an operator refuses, in these words.
#[track_caller]
fn refuses<T>(result: Result<T>, expected: &str) {
    let Err(error) = result else { panic!("accepted what it should refuse: {expected}") };
    // Candle may add a backtrace in further lines.
    assert_eq!(error.to_string().lines().next(), Some(expected));
}

/// Zeros.
fn zeros(shape: &[usize]) -> Tensor {
    tensor(&vec![0f32; shape.iter().product()], shape)
}

/// The same shape with other strides.
fn strided(shape: [usize; 4]) -> Tensor {
    let [a, b, c, d] = shape;
    zeros(&[a, c, b, d]).transpose(1, 2).unwrap()
}

/// The same shape in doubles.
fn doubles(shape: &[usize]) -> Tensor {
    tensor(&vec![0f64; shape.iter().product()], shape)
}

#[test]
fn convolution_refuses() {
    let (x, w, dy) = (zeros(&[2, 5, 4, 3]), zeros(&[6, 3, 3, 3]), zeros(&[2, 3, 2, 6]));
    let forward = |x: &Tensor, w: &Tensor| ops::conv2d_forward(x, w, Conv::new(2, 1));
    refuses(forward(&zeros(&[5, 4, 3]), &w), "conv2d_forward: `x` must have shape [N, H, W, Ci], got [5, 4, 3]");
    refuses(forward(&x, &zeros(&[6, 3])), "conv2d_forward: `w` must have shape [Co, kh, kw, Ci], got [6, 3]");
    refuses(
        forward(&x, &zeros(&[6, 3, 3, 2])),
        "conv2d_forward: `w` must have shape [Co, kh, kw, 3] without zeros, got [6, 3, 3, 2]",
    );
    refuses(
        forward(&x, &zeros(&[6, 0, 3, 3])),
        "conv2d_forward: `w` must have shape [Co, kh, kw, 3] without zeros, got [6, 0, 3, 3]",
    );
    refuses(forward(&doubles(&[2, 5, 4, 3]), &w), "conv2d_forward: `x` must be F32, got F64");
    refuses(
        forward(&strided([2, 5, 4, 3]), &w),
        "conv2d_forward: `x` must be contiguous, got shape [2, 5, 4, 3] with strides [60, 3, 15, 1]",
    );
    refuses(ops::conv2d_forward(&x, &w, Conv::new(0, 1)), "conv2d_forward: `stride` must be at least 1, got 0");
    refuses(
        ops::conv2d_forward(&zeros(&[2, 5, 2, 3]), &w, Conv::new(1, 0)),
        "conv2d_forward: `width` must be at least 3 (kernel 3, padding 0), got 2",
    );
    refuses(
        ops::conv2d_forward(&zeros(&[2, 0, 4, 3]), &w, Conv::new(1, 1)),
        "conv2d_forward: `height` must be at least 1 (kernel 3, padding 1), got 0",
    );
    let most = usize::MAX;
    refuses(
        ops::conv2d_forward(&x, &w, Conv::new(1, most)),
        &format!("conv2d_forward: `padded x` must be small enough to be stored, got [2, {most}, {most}, 3]"),
    );

    let prepared = Weights::new(&w, Conv::new(2, 1), DType::F32).unwrap();
    let bias_act =
        |bias: &Tensor, residual: &Tensor| ops::conv2d_bias_act(&x, &prepared, Some(bias), Some(residual), true);
    refuses(bias_act(&zeros(&[5]), &dy), "conv2d_bias_act: `bias` must have shape [6], got [5]");
    refuses(bias_act(&zeros(&[6]), &x), "conv2d_bias_act: `residual` must have shape [2, 3, 2, 6], got [2, 5, 4, 3]");
    refuses(bias_act(&doubles(&[6]), &dy), "conv2d_bias_act: `bias` must be F32, got F64");
    refuses(
        ops::conv2d_bias_act(&halved(&x), &prepared, None, None, true),
        "conv2d_bias_act: `x` must be F32, got BF16",
    );
    refuses(Weights::new(&w, Conv::new(2, 1), DType::F64), "Weights::new: `activations` must be F32, got F64");

    refuses(
        ops::conv2d_input_grad(&dy, &w, Conv::new(2, 1), (7, 4), None),
        "conv2d_input_grad: `dy` must have shape [2, 4, 2, 6], got [2, 3, 2, 6]",
    );
    refuses(
        ops::conv2d_input_grad(&dy, &w, Conv::new(2, 1), (most, 4), None),
        &format!("conv2d_input_grad: `padded x` must be small enough to be stored, got [2, {most}, 6, 3]"),
    );
    refuses(
        ops::conv2d_weight_grad(&x, &dy, Conv::new(2, 1), (5, 3)),
        "conv2d_weight_grad: `dy` must have shape [2, 2, 2, 6], got [2, 3, 2, 6]",
    );
    refuses(
        ops::conv2d_weight_grad(&x, &strided([2, 3, 2, 6]), Conv::new(2, 1), (3, 3)),
        "conv2d_weight_grad: `dy` must be contiguous, got shape [2, 3, 2, 6] with strides [36, 6, 18, 1]",
    );
}

#[test]
fn batch_norm_refuses() {
    let (x, vector) = (zeros(&[2, 5, 4, 3]), zeros(&[3]));
    let forward = |x: &Tensor, gamma: &Tensor, beta: &Tensor, residual: Option<&Tensor>| {
        ops::batch_norm_forward(x, gamma, beta, residual, true, 1e-5)
    };
    refuses(
        forward(&zeros(&[0, 5, 4, 3]), &vector, &vector, None),
        "batch_norm_forward: `x` must have shape [..., C], at least one pixel and one channel, got [0, 5, 4, 3]",
    );
    refuses(
        forward(&zeros(&[]), &vector, &vector, None),
        "batch_norm_forward: `x` must have shape [..., C], at least one pixel and one channel, got []",
    );
    refuses(forward(&x, &zeros(&[4]), &vector, None), "batch_norm_forward: `gamma` must have shape [3], got [4]");
    refuses(forward(&x, &vector, &zeros(&[1, 3]), None), "batch_norm_forward: `beta` must have shape [3], got [1, 3]");
    refuses(
        forward(&x, &vector, &vector, Some(&zeros(&[2, 5, 4, 1]))),
        "batch_norm_forward: `residual` must have shape [2, 5, 4, 3], got [2, 5, 4, 1]",
    );
    refuses(
        forward(&x, &vector, &vector, Some(&strided([2, 5, 4, 3]))),
        "batch_norm_forward: `residual` must be contiguous, got shape [2, 5, 4, 3] with strides [60, 3, 15, 1]",
    );
    refuses(forward(&x, &vector, &doubles(&[3]), None), "batch_norm_forward: `beta` must be F32, got F64");

    let (y, stats) = forward(&x, &vector, &vector, None).unwrap();
    let backward = |dy: &Tensor, y: &Tensor, stats: &BatchStats| {
        ops::batch_norm_backward(dy, &x, Some(y), &vector, &vector, stats, false, true, None)
    };
    refuses(
        backward(&zeros(&[2, 5, 4]), &y, &stats),
        "batch_norm_backward: `dy` must have shape [2, 5, 4, 3], got [2, 5, 4]",
    );
    refuses(
        backward(&x, &zeros(&[1, 5, 4, 3]), &stats),
        "batch_norm_backward: `y` must have shape [2, 5, 4, 3], got [1, 5, 4, 3]",
    );
    refuses(
        backward(&x, &y, &BatchStats { inv_std: zeros(&[2]), ..stats.clone() }),
        "batch_norm_backward: `inv_std` must have shape [3], got [2]",
    );
    refuses(backward(&doubles(&[2, 5, 4, 3]), &y, &stats), "batch_norm_backward: `dy` must be F32, got F64");
}

#[test]
fn pools_refuse() {
    let x = zeros(&[2, 5, 4, 3]);
    let max = |k, stride, padding| ops::max_pool_forward(&x, k, stride, padding);
    let most = usize::MAX;
    refuses(max(0, 1, 0), "max_pool_forward: `kernel` must be 1 to 16, got 0");
    refuses(max(17, 1, 8), "max_pool_forward: `kernel` must be 1 to 16, got 17");
    refuses(max(3, 0, 1), "max_pool_forward: `stride` must be at least 1, got 0");
    refuses(max(3, 2, 2), "max_pool_forward: `padding` must be at most half the kernel 3, got 2");
    refuses(max(3, 2, most), &format!("max_pool_forward: `padding` must be at most half the kernel 3, got {most}"));
    refuses(max(5, 1, 0), "max_pool_forward: `width` must be at least 5 (kernel 5, padding 0), got 4");
    refuses(
        ops::max_pool_forward(&zeros(&[2, 5, 4, 0]), 3, 2, 1),
        "max_pool_forward: `channels` must be at least 1, got 0",
    );
    refuses(
        ops::max_pool_forward(&zeros(&[5, 4, 3]), 3, 2, 1),
        "max_pool_forward: `x` must have shape [N, H, W, C], no size 0, got [5, 4, 3]",
    );
    refuses(
        ops::max_pool_forward(&strided([2, 5, 4, 3]), 3, 2, 1),
        "max_pool_forward: `x` must be contiguous, got shape [2, 5, 4, 3] with strides [60, 3, 15, 1]",
    );
    refuses(ops::max_pool_forward(&doubles(&[2, 5, 4, 3]), 3, 2, 1), "max_pool_forward: `x` must be F32, got F64");

    let (y, index) = max(3, 2, 1).unwrap();
    let backward = |index: &Tensor, size| ops::max_pool_backward(&y, index, 3, 2, 1, size);
    refuses(backward(&index, (7, 4)), "max_pool_backward: `dy` must have shape [2, 4, 2, 3], got [2, 3, 2, 3]");
    refuses(
        backward(&index.narrow(0, 0, 1).unwrap(), (5, 4)),
        "max_pool_backward: `index` must have shape [2, 3, 2, 3], got [1, 3, 2, 3]",
    );
    refuses(backward(&y, (5, 4)), "max_pool_backward: `index` must be U8, got F32");
    refuses(
        backward(&index, (most, 4)),
        &format!("max_pool_backward: `x` must be small enough to be stored, got [2, {most}, 4, 3]"),
    );

    refuses(ops::avg_pool_forward(&x, 0), "avg_pool_forward: `kernel` must be 1 to 16, got 0");
    refuses(ops::avg_pool_forward(&x, 5), "avg_pool_forward: `width` must be at least 5 (kernel 5, padding 0), got 4");
    refuses(
        ops::avg_pool_backward(&y, 2, (5, 4)),
        "avg_pool_backward: `dy` must have shape [2, 2, 2, 3], got [2, 3, 2, 3]",
    );

    refuses(
        ops::global_pool_forward(&zeros(&[2, 0, 4, 3]), Pool::Max),
        "global_pool_forward: `x` must have shape [N, H, W, C], no size 0, got [2, 0, 4, 3]",
    );
    for (r, got) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let expected = format!("global_pool_forward: `r` must be finite and above 0, got {got}");
        refuses(ops::global_pool_forward(&x, Pool::Lse { r }), &expected);
    }
    refuses(
        ops::global_pool_forward(&zeros(&[2, 3]), Pool::Avg),
        "global_pool_forward: `x` must have shape [N, H, W, C], no size 0, got [2, 3]",
    );
    refuses(
        ops::global_pool_forward(&doubles(&[2, 5, 4, 3]), Pool::Avg),
        "global_pool_forward: `x` must be F32, got F64",
    );
}

#[test]
fn bce_refuses() {
    let logits = zeros(&[2, 3]);
    refuses(
        ops::bce_with_logits(&logits, &zeros(&[3, 2])),
        "bce_with_logits: `targets` must have shape [2, 3], got [3, 2]",
    );
    refuses(
        ops::bce_with_logits(&zeros(&[0, 3]), &zeros(&[0, 3])),
        "bce_with_logits: `logits` must have shape [N, C], no size 0, got [0, 3]",
    );
    refuses(ops::bce_with_logits(&logits, &doubles(&[2, 3])), "bce_with_logits: `targets` must be F32, got F64");
    refuses(
        ops::bce_with_logits(&zeros(&[3, 2]).t().unwrap(), &logits),
        "bce_with_logits: `logits` must be contiguous, got shape [2, 3] with strides [1, 2]",
    );
}

#[test]
fn steps_in_place_refuse() {
    let ([p, g, m, v], short) = ([0; 4].map(|_| zeros(&[2, 3])), zeros(&[3]));
    let turned = zeros(&[3, 2]).t().unwrap();
    let sgd = |p: &Tensor, g: &Tensor, m: &Tensor| sgd_step(p, g, m, [0.1, 0.9, 0.0]);
    let adamw = |g: &Tensor, m: &Tensor, v: &Tensor| adamw_step(&p, g, m, v, [0.1, 0.0], 1);
    refuses(sgd(&p, &short, &m), "sgd_steps: `grad` must have shape [2, 3], got [3]");
    refuses(sgd(&p, &g, &short), "sgd_steps: `first` must have shape [2, 3], got [3]");
    refuses(adamw(&short, &m, &v), "adamw_steps: `grad` must have shape [2, 3], got [3]");
    refuses(adamw(&g, &short, &v), "adamw_steps: `first` must have shape [2, 3], got [3]");
    refuses(adamw(&g, &m, &short), "adamw_steps: `second` must have shape [2, 3], got [3]");
    refuses(sgd(&p, &doubles(&[2, 3]), &m), "sgd_steps: `grad` must be F32, got F64");
    refuses(sgd(&p, &turned, &m), "sgd_steps: `grad` must be contiguous, got shape [2, 3] with strides [1, 2]");
    for result in [sgd(&p, &g, &p), sgd(&p, &m, &m), adamw(&m, &m, &v)] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("shares storage with"), "{error}");
    }
}
