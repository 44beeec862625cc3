use proptest::prelude::*;
use serde_json::Value;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::bootstrap::quantile;
use super::calibration::{Bin, brier, expected_calibration_error, reliability, sigmoid, temperature};
use super::decision::{Confusion, Criterion, threshold};
use super::delong::{Components, Difference};
use super::*;
use crate::{Finding, Labels, OUTPUTS};

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
        let weights: Vec<u16> = numbers(&case["weights"]).iter().map(|&weight| weight as u16).collect();
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
                let same = |a: (f64, f64), b: (f64, f64)| close(a.0, b.0) && close(a.1, b.1);
                // Our points are scikit-learn's, without those inside of horizontal (ROC) or falling (PR) stretches.
                assert!(got.iter().all(|&point| expected.iter().any(|&other| same(point, other))));
                let rises =
                    |pair: &&[(f64, f64)]| if name == "roc" { pair[1].1 > pair[0].1 } else { pair[1].0 > pair[0].0 };
                for pair in expected.windows(2).filter(rises) {
                    assert!(pair.iter().all(|&point| got.iter().any(|&other| same(point, other))), "{name}");
                }
                assert!(same(got[got.len() - 1], expected[expected.len() - 1]));
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
    fn weights_repeat_images(data in prop::collection::vec((-4_i8..4, any::<bool>(), 0_u16..4), 0..60)) {
        let score = |&(score, positive, _): &(i8, bool, u16)| (f32::from(score), positive);
        let (scores, positives): (Vec<f32>, Vec<bool>) = data.iter().map(score).unzip();
        let weights: Vec<u16> = data.iter().map(|&(_, _, weight)| weight).collect();
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
            labels.set(Finding::ALL[0], Some(true));
        }
    }
    labels[n / 2].set(Finding::ALL[1], Some(true));
    let mut model = |skill: f32| -> Vec<[f32; OUTPUTS]> {
        labels
            .iter()
            .map(|labels| labels.outputs().map(|t| skill * f32::from(u8::from(t == Some(true))) + rng.random::<f32>()))
            .collect()
    };
    let models = [model(0.5), model(0.1)];
    let patients = (0..n as u32).map(|image| 1000 - image / 3).collect();
    (models, labels, patients)
}

fn flags(value: &Value) -> Vec<bool> {
    value.as_array().unwrap().iter().map(|flag| flag.as_bool().unwrap()).collect()
}

/// `fixture/make.py` asks scikit-learn.
#[test]
fn scikit_learn_decides_alike() {
    let fixture: Value = serde_json::from_str(include_str!("fixture/cases.json")).unwrap();
    for case in fixture["decisions"].as_array().unwrap() {
        let scores: Vec<f32> = numbers(&case["scores"]).iter().map(|&score| score as f32).collect();
        let positives = flags(&case["positives"]);
        for criterion in Criterion::ALL {
            let expected = case[criterion.to_string().as_str()].as_f64().unwrap() as f32;
            assert_eq!(threshold(&scores, &positives, criterion), Some(expected), "{} {criterion:?}", case["name"]);
        }
        let test = &case["test"];
        let at = case["youden"].as_f64().unwrap() as f32;
        let got = Confusion::at(at, &scores, &flags(&test["positives"]));
        let counts = [
            (got.true_positives, "tp"),
            (got.false_positives, "fp"),
            (got.false_negatives, "fn"),
            (got.true_negatives, "tn"),
        ];
        for (count, name) in counts {
            assert_eq!(count, test[name].as_u64().unwrap());
        }
        let shares = [
            (got.sensitivity(), "sensitivity"),
            (got.specificity(), "specificity"),
            (got.precision(), "precision"),
            (got.f1(), "f1"),
        ];
        for (share, name) in shares {
            assert!(close(share.unwrap(), test[name].as_f64().unwrap()), "{name}");
        }
    }
    assert_eq!(threshold(&[1.0, 2.0], &[true, true], Criterion::F1), None);
    assert_eq!(threshold(&[1.0, f32::NAN], &[true, false], Criterion::F1), None);
    let none = Confusion { false_positives: 3, ..Confusion::default() };
    assert_eq!((none.sensitivity(), none.youden(), none.f1()), (None, None, Some(0.0)));
}

/// `fixture/make.py` asks scikit-learn, NumPy and SciPy.
#[test]
fn calibration_is_measured_alike() {
    let fixture: Value = serde_json::from_str(include_str!("fixture/cases.json")).unwrap();
    for case in fixture["calibrations"].as_array().unwrap() {
        let logits = numbers(&case["logits"]);
        let positives = flags(&case["positives"]);
        let probabilities: Vec<f64> = logits.iter().map(|&logit| sigmoid(logit)).collect();
        let expected = |name: &str| case[name].as_f64().unwrap();
        assert!(close(brier(&probabilities, &positives).unwrap(), expected("brier")));
        assert!(close(expected_calibration_error(&probabilities, &positives).unwrap(), expected("ece")));
        let got = temperature(&logits, &positives).unwrap();
        assert!((got / expected("temperature") - 1.0).abs() < 1e-6, "{got}");
        for (bin, expected) in
            reliability(&probabilities, &positives, 5).iter().zip(case["reliability"].as_array().unwrap())
        {
            let expected = numbers(expected);
            assert_eq!(bin.images as f64, expected[0]);
            assert!(close(bin.probability, expected[1]) && close(bin.positive, expected[2]));
        }
    }
    assert_eq!((brier(&[], &[]), expected_calibration_error(&[], &[])), (None, None));
    assert_eq!(reliability(&[0.2], &[true], 10), [Bin { images: 1, probability: 0.2, positive: 1.0 }]);
    // The edges 0 and 1, and a bin's upper edge.
    assert_eq!(expected_calibration_error(&[0.0, 1.0, 0.2], &[false, true, false]), Some(0.2 / 3.0));
    // Nothing to find: apart, one class, worse than chance.
    assert_eq!(temperature(&[1.0, -1.0], &[true, false]), None);
    assert_eq!(temperature(&[1.0, 2.0], &[true, true]), None);
    assert_eq!(temperature(&[1.0, -1.0, 0.5], &[false, true, false]), None);
}

/// The reference implementation's example, and the data of the paper itself; see `fixture/delong.json`.
#[test]
fn delong_is_the_published_one() {
    let fixture: Value = serde_json::from_str(include_str!("fixture/delong.json")).unwrap();
    let scores = |values: Vec<f64>| -> Vec<f32> { values.into_iter().map(|value| value as f32).collect() };
    let check = |first: &[f32], second: &[f32], positives: &[bool], expected: &Value| {
        let [a, b] = [first, second].map(|scores| Components::new(scores, positives).unwrap());
        let patients: Vec<u32> = (0..positives.len() as u32).collect();
        let got = Difference::new(&a, &b, &patients).unwrap();
        let near = |got: f64, expected: &Value| assert!((got - expected.as_f64().unwrap()).abs() < 1e-10, "{got}");
        near(got.z().unwrap(), &expected["z"]);
        near(got.p_value().unwrap(), &expected["p"]);
        let (low, high) = got.interval(0.95);
        near(low, &expected["interval"][0]);
        near(high, &expected["interval"][1]);
    };
    let asah = &fixture["asah"];
    let positives: Vec<bool> = numbers(&asah["poor"]).iter().map(|&poor| poor == 1.0).collect();
    let [wfns, s100b] = ["wfns", "s100b"].map(|name| scores(numbers(&asah[name])));
    for (scores, expected) in [&wfns, &s100b].into_iter().zip(numbers(&asah["auroc"])) {
        assert!(close(auroc(scores, &positives).unwrap(), expected));
    }
    check(&wfns, &s100b, &positives, asah);

    let ovarian = &fixture["ovarian"];
    let records: Vec<Vec<f64>> = ovarian["records"].as_array().unwrap().iter().map(numbers).collect();
    let positives: Vec<bool> = records.iter().map(|record| record[3] == 1.0).collect();
    let column = |column: usize| scores(records.iter().map(|record| record[column]).collect());
    for (test, expected) in numbers(&ovarian["auroc"]).into_iter().enumerate() {
        assert!(close(auroc(&column(test), &positives).unwrap(), expected));
    }
    for expected in ovarian["against_kg"].as_array().unwrap() {
        check(&column(expected["first"].as_u64().unwrap() as usize), &column(2), &positives, expected);
    }
}

#[test]
fn delong_knows_patients() {
    let (models, labels, patients) = cohort(600);
    let truth: Vec<bool> = labels.iter().map(|labels| labels.contains(Finding::ALL[0])).collect();
    let components = |model: usize, copies: usize| {
        let scores: Vec<f32> = models[model].iter().map(|row| row[0]).collect();
        Components::new(&scores.repeat(copies), &truth.repeat(copies)).unwrap()
    };
    let alone: Vec<u32> = (0..600).collect();
    let once = Difference::new(&components(0, 1), &components(1, 1), &alone).unwrap();
    // Every image twice: the same patients, no more certainty; taken for others, it would seem so.
    let twice = |patients: &[u32]| Difference::new(&components(0, 2), &components(1, 2), patients).unwrap();
    assert!((twice(&alone.repeat(2)).standard_error / once.standard_error - 1.0).abs() < 1e-9);
    let fooled = twice(&(0..1200).collect::<Vec<u32>>()).standard_error / once.standard_error;
    assert!((fooled - f64::sqrt(0.5)).abs() < 0.01, "{fooled}");
    // The bootstrap agrees.
    let resamples = Bootstrap { draws: 2000, seed: 4 }.resample(&patients);
    let images: Vec<u32> = (0..600).collect();
    let [a, b] = [0, 1].map(|model| {
        let [auroc, _] = resamples.ranking(&Ranking::of_output(&models[model], &labels, 0).unwrap(), &images);
        auroc
    });
    let estimate = a.minus(&b).estimate(0.95);
    let got = Difference::new(&components(0, 1), &components(1, 1), &patients).unwrap();
    let (low, high) = got.interval(0.95);
    assert!(close(got.value, estimate.value.unwrap()));
    assert!((low - estimate.low.unwrap()).abs() < 0.01 && (high - estimate.high.unwrap()).abs() < 0.01);
    // A mean over one pair is that pair; equal models do not differ, and have no z.
    let (a, b) = (components(0, 1), components(1, 1));
    assert_eq!(Difference::of_means(&[(&a, &b)], &patients), Some(got));
    let same = Difference::new(&a, &a, &patients).unwrap();
    assert_eq!((same.value, same.z(), same.p_value()), (0.0, None, None));
    assert_eq!(Difference::of_means(&[], &patients), None);
    assert_eq!(Components::new(&[1.0, 2.0], &[true, true]), None);
}

/// Obuchowski, Biometrics 53:567, 1997, step by step: clusters with positives, with negatives, and with both.
#[test]
fn clusters_have_the_published_factors() {
    let patients = [1, 1, 2, 2, 3, 4, 4, 5];
    let truth = [true, false, true, true, false, false, true, false];
    let scores: [[f32; 8]; 2] = [[0.9, 0.3, 0.8, 0.2, 0.5, 0.4, 0.7, 0.1], [0.6, 0.5, 0.9, 0.4, 0.3, 0.8, 0.7, 0.2]];
    // The share of the other class that is on the right side.
    let component = |scores: &[f32; 8], image: usize| {
        let others: Vec<usize> = (0..8).filter(|&other| truth[other] != truth[image]).collect();
        let right = |&&other: &&usize| (scores[image] > scores[other]) == truth[image];
        others.iter().filter(right).count() as f64 / others.len() as f64
    };
    let change = |image: usize| component(&scores[0], image) - component(&scores[1], image);
    let of_class = |class: bool| (0..8).filter(move |&image| truth[image] == class);
    let difference = of_class(true).map(change).sum::<f64>() / 4.0;
    let sum = |patient: u32, class: bool| -> f64 {
        of_class(class).filter(|&image| patients[image] == patient).map(|image| change(image) - difference).sum()
    };
    // Positives in patients 1, 2 and 4; negatives in 1, 3, 4 and 5; five patients; four images of each class.
    let s10 = 3.0 / 2.0 * (1..=5).map(|patient| sum(patient, true).powi(2)).sum::<f64>() / 4.0;
    let s01 = 4.0 / 3.0 * (1..=5).map(|patient| sum(patient, false).powi(2)).sum::<f64>() / 4.0;
    let s11 = 5.0 / 4.0 * (1..=5).map(|patient| sum(patient, true) * sum(patient, false)).sum::<f64>();
    let variance = s10 / 4.0 + s01 / 4.0 + 2.0 * s11 / 16.0;
    let [a, b] = scores.map(|scores| Components::new(&scores, &truth).unwrap());
    let got = Difference::new(&a, &b, &patients).unwrap();
    assert!(close(got.value, difference) && s11 != 0.0);
    assert!((got.standard_error - variance.sqrt()).abs() < 1e-12, "{got:?}, expected {}", variance.sqrt());
}

/// The cohort's rankings: `[model][output]`.
fn rank(resamples: &Resamples, logits: &[[f32; OUTPUTS]], labels: &[Labels], output: usize) -> [Sampled; 2] {
    let images: Vec<u32> = (0..labels.len() as u32).collect();
    resamples.ranking(&Ranking::of_output(logits, labels, output).unwrap(), &images)
}

#[test]
fn bootstrap_is_paired_and_honest() {
    let (models, labels, patients) = cohort(300);
    let resamples = Bootstrap { draws: 300, seed: 7 }.resample(&patients);
    let [skilled, _] = rank(&resamples, &models[0], &labels, 0);
    let [unskilled, _] = rank(&resamples, &models[1], &labels, 0);
    let truth: Vec<bool> = labels.iter().map(|l| l.contains(Finding::ALL[0])).collect();
    let scores: Vec<f32> = models[0].iter().map(|row| row[0]).collect();
    let estimate = skilled.estimate(0.95);
    assert_eq!(estimate.value, auroc(&scores, &truth));
    assert!(estimate.low < estimate.value && estimate.value < estimate.high);

    // The same model twice: no difference in any draw.
    let same = skilled.minus(&skilled).estimate(0.95);
    assert_eq!((same.value, same.low, same.high), (Some(0.0), Some(0.0), Some(0.0)));
    assert!(skilled.minus(&unskilled).estimate(0.95).low > Some(0.0));

    // One positive image: a value, but no interval. None: nothing.
    let [lonely, _] = rank(&resamples, &models[0], &labels, 1);
    let estimate = lonely.estimate(0.95);
    assert!(estimate.value.is_some() && estimate.low.is_none() && estimate.high.is_none());
    let [nothing, _] = rank(&resamples, &models[0], &labels, 2);
    assert_eq!(nothing.estimate(0.95), Estimate::default());
}

/// A mean over the same findings on every draw, whatever findings a draw happens to lack.
#[test]
fn means_keep_their_findings() {
    let (models, labels, patients) = cohort(300);
    let images: Vec<u32> = (0..300).collect();
    let bootstrap = Bootstrap { draws: 300, seed: 7 };
    let resamples = bootstrap.resample_findings(&patients, &labels, &images);
    let [common, lonely, nothing] = [0, 1, 2].map(|output| rank(&resamples, &models[0], &labels, output)[0].clone());
    let mean = Sampled::mean([&common, &lonely, &nothing]);
    assert_eq!(mean.value, mean_auroc(&models[0], &labels).value);
    let estimate = mean.estimate(0.95);
    assert!(estimate.low < estimate.value && estimate.value < estimate.high);

    // The patient with the lonely finding is absent from about 37 % of the draws: so many are drawn again. The finding
    // itself has no interval; the first draws are those of a bootstrap that knows no findings.
    let absent = lonely.draws.iter().filter(|draw| draw.is_nan()).count();
    assert_eq!((estimate.undefined, lonely.estimate(0.95).undefined), (absent, absent));
    assert!((85..140).contains(&absent) && lonely.estimate(0.95).low.is_none(), "{absent}");
    let [plain, _] = rank(&bootstrap.resample(&patients), &models[0], &labels, 0);
    assert_eq!(plain.draws, common.draws);
    for (draw, &value) in mean.draws.iter().enumerate() {
        let again = lonely.repeated.iter().position(|&(repeated, _)| repeated as usize == draw);
        let (a, b) = match again {
            Some(index) => (common.repeated[index].1, lonely.repeated[index].1),
            None => (common.draws[draw], lonely.draws[draw]),
        };
        assert!(close(value, (a + b) / 2.0), "draw {draw}");
    }

    // Two models lose and repeat the same draws.
    let [other, lonely_other] = [0, 1].map(|output| rank(&resamples, &models[1], &labels, output)[0].clone());
    let difference = mean.minus(&Sampled::mean([&other, &lonely_other])).estimate(0.95);
    assert!(difference.undefined == absent && difference.low.is_some());

    // Nothing is repeated where nothing is missing; where no draw can be complete, there is no interval.
    let common_only: Vec<Labels> =
        labels.iter().map(|labels| labels.findings().filter(|&finding| finding == Finding::ALL[0]).collect()).collect();
    let complete = bootstrap.resample_findings(&patients, &common_only, &images);
    assert!(rank(&complete, &models[0], &labels, 0)[0].repeated.is_empty());
    let everyone_else: Vec<Labels> =
        (0..15).map(|image| Finding::ALL.into_iter().nth(image).into_iter().collect()).collect();
    let alone: Vec<u32> = (0..15).collect();
    let resamples = bootstrap.resample_findings(&alone, &everyone_else, &alone);
    let rankings = (0..Finding::COUNT).map(|output| {
        let truth: Vec<bool> = everyone_else.iter().map(|labels| labels.outputs()[output] == Some(true)).collect();
        resamples.ranking(&Ranking::new(&[0.0; 15], &truth).unwrap(), &alone)[0].clone()
    });
    let refused = Sampled::mean(&rankings.collect::<Vec<_>>()).estimate(0.95);
    assert_eq!((refused.value, refused.low), (Some(0.5), None));
    assert!(refused.undefined > 290);
    assert_eq!(Sampled::mean([]).estimate(0.95), Estimate::default());
}

/// Weighing 16 draws in one pass gives what weighing each alone gives; a part of the images is drawn with the whole.
#[test]
fn bootstrap_weighs_every_draw_alike() {
    let (models, labels, patients) = cohort(150);
    let women: Vec<u32> = (0..150).filter(|image| image % 4 != 1).collect();
    let resamples = Bootstrap { draws: 37, seed: 7 }.resample(&patients);
    let pick = |model: usize| -> (Vec<f32>, Vec<bool>) {
        women.iter().map(|&i| (models[model][i as usize][0], labels[i as usize].contains(Finding::ALL[0]))).unzip()
    };
    let (scores, truth) = pick(0);
    let ranking = Ranking::new(&scores, &truth).unwrap();
    let [auroc, precision] = resamples.ranking(&ranking, &women);
    for draw in 0..37 {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        rng.set_stream(draw);
        let mut weights = [0_u16; 50];
        for _ in 0..50 {
            weights[rng.random_range(0..50_usize)] += 1;
        }
        // Patients fall while images rise.
        let of_image: Vec<u16> = women.iter().map(|&image| weights[49 - image as usize / 3]).collect();
        let expected = ranking.weighted(&of_image);
        let draws = [&auroc, &precision].map(|sampled| sampled.draws[draw as usize]);
        assert_eq!(draws.map(Some), [expected.auroc, expected.average_precision]);
    }
}

/// An image whose label is unknown is, for that finding, as if it were not there; its patient is drawn all the same.
#[test]
fn unknown_labels_are_left_out() {
    let (models, mut labels, patients) = cohort(150);
    for (image, labels) in labels.iter_mut().enumerate() {
        if image % 5 == 2 {
            labels.set(Finding::ALL[0], None);
        }
    }
    let known = Known::of(&labels, 0);
    assert_eq!((known.images.len(), known.truth.len()), (120, 120));
    let rows = |model: usize| -> Vec<f32> { known.scores(&models[model]) };
    let expected = auroc(&rows(0), &known.truth);
    assert!(expected.is_some());
    assert_eq!(Ranking::of_output(&models[0], &labels, 0).unwrap().unweighted().auroc, expected);
    assert_eq!(mean_auroc(&models[0], &labels).defined, 2);

    // The draws are those of all patients.
    let all: Vec<u32> = (0..150).collect();
    let bootstrap = Bootstrap { draws: 20, seed: 4 };
    let resamples = bootstrap.resample_findings(&patients, &labels, &all);
    let ranking = Ranking::new(&rows(0), &known.truth).unwrap();
    let drawn = resamples.ranking(&ranking, &known.images);
    assert_eq!(drawn[0].draws, bootstrap.resample(&patients).ranking(&ranking, &known.images)[0].draws);

    // DeLong's test on the known images alone.
    let alone: Vec<u32> = known.images.iter().map(|&image| patients[image as usize]).collect();
    let [a, b] = [0, 1].map(|model| Components::new(&rows(model), &known.truth).unwrap());
    let expected = Difference::new(&a, &b, &alone).unwrap();
    let got = Difference::new(&a.at(&known.images), &b.at(&known.images), &patients).unwrap();
    assert!(close(got.value, expected.value) && close(got.standard_error, expected.standard_error));

    // With nothing known there is nothing.
    let nothing = vec![Labels::UNKNOWN; 150];
    assert_eq!(mean_auroc(&models[0], &nothing), Mean { value: None, defined: 0 });
    assert!(Known::of(&nothing, 14).images.is_empty());
}

#[test]
fn bootstrap_ignores_threads() {
    let (models, labels, patients) = cohort(120);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| rank(&Bootstrap { draws: 50, seed: 3 }.resample(&patients), &models[0], &labels, 0))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn bootstrap_draws_patients() {
    // Three images per patient, one of them positive: every draw of patients has as many of each, so never undefined;
    // two patients only, so there are three different draws.
    let resamples = Bootstrap { draws: 200, seed: 1 }.resample(&[1, 1, 1, 2, 2, 2]);
    let positives = [true, false, false, true, false, false];
    let ranking = Ranking::new(&[3.0, 1.0, 2.0, 0.0, 1.0, 2.0], &positives).unwrap();
    let [auroc, _] = resamples.ranking(&ranking, &[0, 1, 2, 3, 4, 5]);
    let estimate = auroc.estimate(1.0);
    assert_eq!((estimate.value, estimate.low, estimate.high), (Some(0.5), Some(0.0), Some(1.0)));
}

#[test]
fn ratios_are_over_patients_too() {
    // Two patients of 50 equal boxes each: the interval spans both patients, however many boxes.
    let values: Vec<f64> = (0..100).map(|i| f64::from(i / 50)).collect();
    let patients: Vec<u32> = (0..100).map(|i| i / 50).collect();
    let resamples = Bootstrap { draws: 200, seed: 1 }.resample(&patients);
    let mean = resamples.mean(&values).estimate(0.95);
    assert_eq!((mean.value, mean.low, mean.high), (Some(0.5), Some(0.0), Some(1.0)));
    // A draw without the second patient has nothing to divide by; with an eighth of such draws there is no interval.
    let second = resamples.ratio(&values, &values);
    let estimate = second.estimate(0.95);
    assert_eq!((estimate.value, estimate.low, estimate.high), (Some(1.0), None, None));
    assert!(estimate.undefined > 20);
    assert_eq!(resamples.ratio(&values, &[0.0; 100]).estimate(0.95), Estimate::default());
    let nobody = Bootstrap { draws: 20, seed: 1 }.resample(&[]);
    assert_eq!(nobody.mean(&[]).estimate(0.95), Estimate::default());
}

/// Of intervals that claim 95 %, 93 to 97 % hold the truth: of an AUROC and of a paired difference, by the bootstrap and
/// by DeLong, on patients with several images each.
#[test]
fn intervals_cover_what_they_claim() {
    const REPEATS: u64 = 1000;
    // Scores are normal: N(skill, 1) for positives, N(0, 1) for negatives, half of the variance shared by a patient's
    // images and by both models. So the truth is known: AUROC = Phi(skill / sqrt 2).
    let skills = [1.2, 0.8];
    let phi = |x: f64| {
        use statrs::distribution::ContinuousCDF;
        statrs::distribution::Normal::standard().cdf(x)
    };
    let truths = skills.map(|skill: f64| phi(skill / f64::sqrt(2.0)));
    let repeat = |repeat: u64| -> [bool; 3] {
        let mut rng = ChaCha8Rng::seed_from_u64(repeat);
        let mut normal = || -> f64 {
            let (u, v): (f64, f64) = (rng.random(), rng.random());
            f64::sqrt(-2.0 * (1.0 - u).ln()) * (std::f64::consts::TAU * v).cos()
        };
        let (mut scores, mut positives, mut patients) = ([Vec::new(), Vec::new()], Vec::new(), Vec::new());
        for patient in 0..150 {
            let of_patient = normal();
            for _ in 0..1 + patient % 3 {
                let positive = normal() < -0.5;
                let of_image = normal();
                for (scores, skill) in scores.iter_mut().zip(skills) {
                    let noise = f64::sqrt(0.3) * of_patient + f64::sqrt(0.2) * of_image + f64::sqrt(0.5) * normal();
                    scores.push((noise + if positive { skill } else { 0.0 }) as f32);
                }
                positives.push(positive);
                patients.push(patient);
            }
        }
        let images: Vec<u32> = (0..positives.len() as u32).collect();
        let resamples = Bootstrap { draws: 600, seed: repeat }.resample(&patients);
        let [a, b] = scores.each_ref().map(|scores| {
            let [auroc, _] = resamples.ranking(&Ranking::new(scores, &positives).unwrap(), &images);
            auroc
        });
        let inside = |estimate: Estimate, truth: f64| estimate.low.unwrap() <= truth && truth <= estimate.high.unwrap();
        let [c, d] = scores.each_ref().map(|scores| Components::new(scores, &positives).unwrap());
        let (low, high) = Difference::new(&c, &d, &patients).unwrap().interval(0.95);
        let apart = truths[0] - truths[1];
        [inside(a.estimate(0.95), truths[0]), inside(a.minus(&b).estimate(0.95), apart), low <= apart && apart <= high]
    };
    let held: Vec<[bool; 3]> = (0..REPEATS).into_par_iter().map(repeat).collect();
    for (which, name) in ["AUROC", "paired difference", "DeLong"].into_iter().enumerate() {
        let share = held.iter().filter(|held| held[which]).count() as f64 / REPEATS as f64;
        assert!((0.93..=0.97).contains(&share), "{name}: {share}");
    }
}
