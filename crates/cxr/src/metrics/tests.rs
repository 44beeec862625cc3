use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// `fixture/make.py` asks scikit-learn.
#[test]
fn scikit_learn_agrees() {
    let fixture: Value = serde_json::from_str(include_str!("fixture/cases.json")).unwrap();
    for case in fixture["cases"].as_array().unwrap() {
        let name = &case["name"];
        let scores: Vec<f32> = numbers(&case["scores"]).iter().map(|&score| score as f32).collect();
        let positives: Vec<bool> =
            case["positives"].as_array().unwrap().iter().map(|positive| positive.as_bool().unwrap()).collect();
        let weights: Vec<u32> = numbers(&case["weights"]).iter().map(|&weight| weight as u32).collect();
        let ranking = Ranking::new(&scores, &positives).unwrap();
        let got = ranking.weighted(&weights);
        for (got, metric) in [(got.auroc, "auroc"), (got.average_precision, "average_precision")] {
            match (got, case[metric].as_f64()) {
                (Some(got), Some(expected)) => {
                    assert!(close(got, expected), "{name}, {metric}: {got} {expected}")
                }
                (got, expected) => assert_eq!(got, expected, "{name}, {metric}"),
            }
        }
        for (curve, name) in [(ranking.roc_curve(), "roc"), (ranking.pr_curve(), "pr")] {
            if let [x, y] = case[name].as_array().map_or(&[][..], |axes| axes) {
                let expected: Vec<(f64, f64)> = numbers(x).into_iter().zip(numbers(y)).collect();
                let got = curve.unwrap();
                assert_eq!(got.len(), expected.len());
                for (got, expected) in got.iter().zip(&expected) {
                    assert!(close(got.0, expected.0) && close(got.1, expected.1));
                }
            }
        }
    }
    let quantiles = &fixture["quantiles"];
    let values = numbers(&quantiles["values"]);
    for (q, expected) in numbers(&quantiles["q"]).into_iter().zip(numbers(&quantiles["expected"])) {
        assert!(close(quantile(&values, q), expected));
    }
}

#[test]
fn undefined_is_none() {
    assert_eq!(auroc(&[0.1, f32::NAN], &[true, false]), None);
    assert_eq!(auroc(&[], &[]), None);
    assert_eq!(average_precision(&[0.1, 0.2], &[true, true]), None);
    assert_eq!(auroc(&[f32::INFINITY, f32::NEG_INFINITY], &[true, false]), Some(1.0));
    let mean = Mean::of([Some(0.5), None, Some(0.75)]);
    assert_eq!((mean.value, mean.defined), (Some(0.625), 2));
    assert_eq!(Mean::of([None]).value, None);
}

proptest! {
    /// The definition itself: all pairs.
    #[test]
    fn auroc_counts_pairs(data in prop::collection::vec((-4_i8..4, any::<bool>()), 0..60)) {
        let scores: Vec<f32> = data.iter().map(|&(score, _)| f32::from(score) / 3.0).collect();
        let positives: Vec<bool> = data.iter().map(|&(_, positive)| positive).collect();
        let (mut right, mut pairs) = (0.0, 0);
        for (&score, _) in scores.iter().zip(&positives).filter(|&(_, &positive)| positive) {
            for (&other, _) in scores.iter().zip(&positives).filter(|&(_, &positive)| !positive) {
                pairs += 1;
                right += if score > other { 1.0 } else if score == other { 0.5 } else { 0.0 };
            }
        }
        let expected = (pairs > 0).then(|| right / f64::from(pairs));
        match (auroc(&scores, &positives), expected) {
            (Some(got), Some(expected)) => prop_assert!(close(got, expected)),
            (got, expected) => prop_assert_eq!(got, expected),
        }
    }

    /// A weight of w is the image w times; the order of the images does not matter.
    #[test]
    fn weights_repeat_images(data in prop::collection::vec((-4_i8..4, any::<bool>(), 0_u32..4), 0..60)) {
        let score = |&(score, positive, _): &(i8, bool, u32)| (f32::from(score), positive);
        let (scores, positives): (Vec<f32>, Vec<bool>) = data.iter().map(score).unzip();
        let weights: Vec<u32> = data.iter().map(|&(_, _, weight)| weight).collect();
        let (mut repeated, mut truth): (Vec<f32>, Vec<bool>) = data
            .iter()
            .flat_map(|image| std::iter::repeat_n(score(image), image.2 as usize))
            .unzip();
        repeated.reverse();
        truth.reverse();
        prop_assert_eq!(
            Ranking::new(&scores, &positives).unwrap().weighted(&weights),
            Ranking::new(&repeated, &truth).unwrap().unweighted()
        );
    }
}

/// `n` images of `n / 3` patients, two models of different skill; finding 0 common, finding 1 on one image.
fn cohort(n: usize) -> ([Vec<[f32; OUTPUTS]>; 2], Vec<Labels>, Vec<u32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut labels = vec![Labels::default(); n];
    for labels in &mut labels {
        if rng.random_bool(0.3) {
            labels.insert(Finding::ALL[0]);
        }
    }
    labels[n / 2].insert(Finding::ALL[1]);
    let mut model = |skill: f32| -> Vec<[f32; OUTPUTS]> {
        labels.iter().map(|labels| labels.targets().map(|t| skill * t + rng.random::<f32>())).collect()
    };
    let models = [model(0.5), model(0.1)];
    let patients = (0..n as u32).map(|image| 1000 - image / 3).collect();
    (models, labels, patients)
}

#[test]
fn bootstrap_is_paired_and_honest() {
    let (models, labels, patients) = cohort(300);
    let plan = Bootstrap { draws: 300, confidence: 0.95, seed: 7 };
    let logits = [models[0].as_slice(), &models[1], &models[0]];
    let run = plan.run(&logits, &labels, &patients);

    let skilled = run.estimate(0, Metric::Auroc, Target::Output(0));
    let truth: Vec<bool> = labels.iter().map(|l| l.contains(Finding::ALL[0])).collect();
    let scores: Vec<f32> = models[0].iter().map(|row| row[0]).collect();
    assert_eq!(skilled.value, auroc(&scores, &truth));
    assert!(skilled.low < skilled.value && skilled.value < skilled.high);

    // The same model twice: no difference in any draw.
    let same = run.difference(0, 2, Metric::Auroc, Target::Mean);
    assert_eq!((same.value, same.low, same.high), (Some(0.0), Some(0.0), Some(0.0)));
    let better = run.difference(0, 1, Metric::Auroc, Target::Output(0));
    assert!(better.low > Some(0.0));

    // One positive image: a value, but no interval. None: nothing.
    let lonely = run.estimate(0, Metric::Auroc, Target::Output(1));
    assert!(lonely.value.is_some() && lonely.low.is_none() && lonely.high.is_none());
    assert_eq!(run.estimate(0, Metric::Auroc, Target::Output(2)), Estimate::default());
    assert_eq!(run.defined(0, Metric::Auroc), 2);
    assert_eq!(run.estimate(0, Metric::Auroc, Target::Mean).value, mean_auroc(&models[0], &labels).value);
}

#[test]
fn bootstrap_ignores_threads_and_company() {
    let (models, labels, patients) = cohort(120);
    let plan = Bootstrap { draws: 50, confidence: 0.9, seed: 3 };
    let run = |threads, logits: &[&[[f32; OUTPUTS]]]| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| plan.run(logits, &labels, &patients))
            .estimate(0, Metric::AveragePrecision, Target::Mean)
    };
    let alone = run(1, &[&models[0]]);
    assert_eq!(alone, run(3, &[&models[0], &models[1]]));
    assert_ne!(alone, Estimate::default());
}

#[test]
fn bootstrap_draws_patients() {
    // Three images per patient, one of them positive: every draw of patients has as many of each, so never undefined;
    // two patients only, so there are three different draws.
    let patients = [1, 1, 1, 2, 2, 2];
    let mut labels = [Labels::default(); 6];
    labels[0].insert(Finding::ALL[0]);
    labels[3].insert(Finding::ALL[0]);
    let logits: Vec<[f32; OUTPUTS]> = [3.0, 1.0, 2.0, 0.0, 1.0, 2.0].map(|score| [score; OUTPUTS]).to_vec();
    let plan = Bootstrap { draws: 200, confidence: 1.0, seed: 1 };
    let run = plan.run(&[&logits], &labels, &patients);
    let estimate = run.estimate(0, Metric::Auroc, Target::Output(0));
    assert_eq!((estimate.value, estimate.low, estimate.high), (Some(0.5), Some(0.0), Some(1.0)));
}

#[test]
fn means_are_over_patients_too() {
    let plan = Bootstrap { draws: 200, confidence: 0.95, seed: 1 };
    // Two patients of 50 equal boxes each: the interval spans both patients, however many boxes.
    let values: Vec<f64> = (0..100).map(|i| f64::from(i / 50)).collect();
    let patients: Vec<u32> = (0..100).map(|i| i / 50).collect();
    let mean = plan.mean(&values, &patients);
    assert_eq!((mean.value, mean.low, mean.high), (Some(0.5), Some(0.0), Some(1.0)));
    assert_eq!(plan.mean(&[], &[]), Estimate::default());
}
