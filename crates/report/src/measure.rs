//! From scores to rows of `metrics.parquet`.

use cxr::metrics::calibration::{brier, expected_calibration_error, sigmoid, temperature};
use cxr::metrics::decision::{Criterion, threshold};
use cxr::metrics::delong::{Components, Difference};
use cxr::metrics::{Bootstrap, Estimate, Mean, Metric, Ranking, Resamples, Sampled};
use cxr::{Finding, OUTPUTS, Split, output_names};
use tables::metrics::Row;

use crate::cohort::{BRANCHES, Cohort, Subset};

/// Paired differences: name in `metrics.parquet`, and positions in [`BRANCHES`].
pub const DIFFERENCES: [(&str, usize, usize); 2] = [("fusion-global", 2, 0), ("fusion-local", 2, 1)];

/// `finding` of the mean over the 14.
pub const MEAN: &str = "mean";

/// `subset` of all images; `finding` of numbers that belong to none.
pub const ALL: &str = "all";

/// `metric` that says how many of the 14 findings a mean is over.
pub const DEFINED: &str = "findings_defined";

/// How an interval is made.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The draws.
    pub bootstrap: Bootstrap,
    /// Share of the draws inside an interval.
    pub confidence: f64,
}

/// Rows about one subset of one split.
struct Rows {
    rows: Vec<Row>,
    split: Split,
    subset: String,
    confidence: f64,
}

/// Images (or boxes) with and without.
type Counts = (u64, u64);

impl Rows {
    fn push(&mut self, (branch, finding, metric): (&str, &str, &str), estimate: Estimate, (n_pos, n_neg): Counts) {
        let reason = match estimate {
            Estimate { value: None, .. } => Some(undefined(n_pos, n_neg).to_owned()),
            _ => None,
        };
        self.rows.push(Row {
            branch: branch.to_owned(),
            finding: finding.to_owned(),
            metric: metric.to_owned(),
            subset: self.subset.clone(),
            split: self.split,
            value: estimate.value,
            ci_low: estimate.low,
            ci_high: estimate.high,
            n_pos,
            n_neg,
            reason,
        });
    }

    fn sampled(&mut self, names: (&str, &str, &str), sampled: &Sampled, counts: Counts) {
        let estimate = sampled.estimate(self.confidence);
        self.push(names, estimate, counts);
        if estimate.value.is_some() && estimate.low.is_none() && sampled.drawn() {
            self.because("no interval: more than a tenth of the draws have only one class");
        }
    }

    fn value(&mut self, names: (&str, &str, &str), value: Option<f64>, counts: Counts) {
        self.push(names, Estimate { value, ..Estimate::default() }, counts);
    }

    /// Says why the last row has no value or interval.
    fn because(&mut self, reason: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.reason = Some(reason.to_owned());
        }
    }
}

/// Why a metric of so many positives and negatives has no value.
fn undefined(n_pos: u64, n_neg: u64) -> &'static str {
    match (n_pos, n_neg) {
        (0, 0) => "no images",
        (0, _) => "no positives",
        (_, 0) => "no negatives",
        _ => "undefined",
    }
}

/// AUROC and average precision of every branch and difference, on all images and on every subset; and what a decision
/// and a probability are worth. `tuned` are the images on which thresholds and temperatures are chosen, if any.
pub fn measure(cohort: &Cohort, tuned: Option<&Cohort>, subsets: &[Subset], split: Split, plan: &Plan) -> Vec<Row> {
    let resamples = plan.bootstrap.resample(&cohort.patients);
    let everyone = Subset { name: ALL.to_owned(), images: (0..cohort.len() as u32).collect() };
    let mut measured = Vec::new();
    for subset in std::iter::once(&everyone).chain(subsets) {
        let mut rows = Rows { rows: Vec::new(), split, subset: subset.name.clone(), confidence: plan.confidence };
        rankings(&mut rows, cohort, &resamples, &subset.images);
        if subset.name == ALL {
            delong(&mut rows, cohort);
            decisions(&mut rows, cohort, tuned, &resamples);
            calibrations(&mut rows, cohort, tuned, &resamples);
        }
        measured.extend(rows.rows);
    }
    measured
}

/// The values of both ranking metrics alone, for the split that is not reported.
pub fn values(cohort: &Cohort, split: Split) -> Vec<Row> {
    let resamples = Bootstrap { draws: 0, seed: 0 }.resample(&cohort.patients);
    let mut rows = Rows { rows: Vec::new(), split, subset: ALL.to_owned(), confidence: 0.95 };
    rankings(&mut rows, cohort, &resamples, &(0..cohort.len() as u32).collect::<Vec<_>>());
    rows.rows
}

/// Positives and negatives of every output among some images, and, for the mean, images with and without any finding.
fn counts(cohort: &Cohort, images: &[u32]) -> ([Counts; OUTPUTS], Counts) {
    let mut outputs = [(0, 0); OUTPUTS];
    let mut any = (0, 0);
    for &image in images {
        let labels = &cohort.labels[image as usize];
        for (counts, target) in outputs.iter_mut().zip(labels.targets()) {
            *if target == 1.0 { &mut counts.0 } else { &mut counts.1 } += 1;
        }
        *if labels.no_finding() { &mut any.1 } else { &mut any.0 } += 1;
    }
    (outputs, any)
}

fn rankings(rows: &mut Rows, cohort: &Cohort, resamples: &Resamples, images: &[u32]) {
    let names = output_names();
    let (counts, any) = counts(cohort, images);
    // [branch][output][metric]
    let sampled: [Vec<[Sampled; 2]>; 3] = [0, 1, 2].map(|branch| {
        let of_output = |output: usize| {
            let pick = |&image: &u32| {
                let image = image as usize;
                (cohort.logits[branch][image][output], cohort.labels[image].targets()[output] == 1.0)
            };
            let (scores, truth): (Vec<f32>, Vec<bool>) = images.iter().map(pick).unzip();
            Ranking::new(&scores, &truth).map(|ranking| resamples.ranking(&ranking, images)).unwrap_or_default()
        };
        (0..OUTPUTS).map(of_output).collect()
    });
    for metric in Metric::ALL {
        let of = |branch: usize, output: usize| &sampled[branch][output][metric as usize];
        let means = [0, 1, 2].map(|branch| Sampled::mean((0..Finding::COUNT).map(|output| of(branch, output))));
        for (output, name) in names.into_iter().enumerate() {
            for (branch, title) in BRANCHES.into_iter().enumerate() {
                rows.sampled((title, name, metric.name()), of(branch, output), counts[output]);
            }
            for (title, a, b) in DIFFERENCES {
                rows.sampled((title, name, metric.name()), &of(a, output).minus(of(b, output)), counts[output]);
            }
        }
        for (branch, title) in BRANCHES.into_iter().enumerate() {
            rows.sampled((title, MEAN, metric.name()), &means[branch], any);
        }
        for (title, a, b) in DIFFERENCES {
            rows.sampled((title, MEAN, metric.name()), &means[a].minus(&means[b]), any);
        }
    }
    for (branch, title) in BRANCHES.into_iter().enumerate() {
        let defined = sampled[branch][..Finding::COUNT].iter().filter(|[auroc, _]| auroc.value.is_some()).count();
        rows.value((title, MEAN, DEFINED), Some(defined as f64), any);
    }
}

/// The paired differences of AUROC with closed-form intervals and p-values, images of one patient counted as dependent.
fn delong(rows: &mut Rows, cohort: &Cohort) {
    let names = output_names();
    let (counts, any) = counts(cohort, &(0..cohort.len() as u32).collect::<Vec<_>>());
    let components: [Vec<Option<Components>>; 3] = [0, 1, 2].map(|branch| {
        let of_output = |output| Components::new(&cohort.scores(branch, output), &cohort.truth(output));
        (0..OUTPUTS).map(of_output).collect()
    });
    for (title, a, b) in DIFFERENCES {
        let pair = |output: usize| components[a][output].as_ref().zip(components[b][output].as_ref());
        let means: Vec<_> = (0..Finding::COUNT).filter_map(pair).collect();
        let mean = Difference::of_means(&means, &cohort.patients);
        let of_output = |output| Difference::new(pair(output)?.0, pair(output)?.1, &cohort.patients);
        let all = (0..OUTPUTS).map(|output| (names[output], of_output(output), counts[output]));
        for (name, difference, counts) in all.chain([(MEAN, mean, any)]) {
            let interval = difference.map(|difference| difference.interval(rows.confidence));
            let estimate = Estimate {
                value: difference.map(|difference| difference.value),
                low: interval.map(|interval| interval.0),
                high: interval.map(|interval| interval.1),
            };
            let few = difference.is_none() && counts.0 > 0 && counts.1 > 0;
            rows.push((title, name, "auroc_delong"), estimate, counts);
            if few {
                rows.because("fewer than two patients of a class");
            }
            rows.value((title, name, "auroc_delong_p"), difference.and_then(|d| d.p_value()), counts);
            match difference {
                Some(difference) if difference.z().is_none() => rows.because("the difference does not vary"),
                None if few => rows.because("fewer than two patients of a class"),
                _ => {}
            }
        }
    }
}

/// Why a threshold or temperature cannot be chosen.
fn untuned(tuned: Option<&Cohort>, output: usize) -> String {
    match tuned {
        None => "chosen on validation, which is reported here".to_owned(),
        Some(tuned) => {
            let positives = tuned.truth(output).into_iter().filter(|&positive| positive).count();
            format!("validation has {positives} positives of {} images", tuned.len())
        }
    }
}

/// Sensitivity, specificity, precision and F1 at the thresholds that validation prefers.
fn decisions(rows: &mut Rows, cohort: &Cohort, tuned: Option<&Cohort>, resamples: &Resamples) {
    const SHARES: [&str; 4] = ["sensitivity", "specificity", "precision", "f1"];
    let names = output_names();
    let (counts, any) = counts(cohort, &(0..cohort.len() as u32).collect::<Vec<_>>());
    for (branch, title) in BRANCHES.into_iter().enumerate() {
        for criterion in Criterion::ALL {
            let suffix = criterion.name();
            let mut of_findings: [Vec<Sampled>; 4] = Default::default();
            for output in 0..OUTPUTS {
                let chosen =
                    tuned.and_then(|tuned| threshold(&tuned.scores(branch, output), &tuned.truth(output), criterion));
                let names = |metric: &str| (title, names[output], format!("{metric}_{suffix}"));
                let mut push = |metric: &str, sampled: &Sampled| {
                    let (title, name, metric) = names(metric);
                    rows.sampled((title, name, &metric), sampled, counts[output]);
                    if chosen.is_none() {
                        rows.because(&untuned(tuned, output));
                    }
                };
                let level = chosen.map(|chosen| sigmoid(f64::from(chosen)));
                push("threshold", &Sampled::given(level));
                let sampled = match chosen {
                    None => Default::default(),
                    Some(chosen) => shares(cohort, resamples, branch, output, chosen),
                };
                for ((metric, sampled), of_findings) in SHARES.into_iter().zip(sampled).zip(&mut of_findings) {
                    push(metric, &sampled);
                    if output < Finding::COUNT {
                        of_findings.push(sampled);
                    }
                }
            }
            for (metric, of_findings) in SHARES.into_iter().zip(&of_findings) {
                rows.sampled((title, MEAN, &format!("{metric}_{suffix}")), &Sampled::mean(of_findings.iter()), any);
            }
        }
    }
}

/// Sensitivity, specificity, precision and F1 of one output at a threshold.
fn shares(cohort: &Cohort, resamples: &Resamples, branch: usize, output: usize, threshold: f32) -> [Sampled; 4] {
    let scores = cohort.scores(branch, output);
    let truth = cohort.truth(output);
    let count = |of: &dyn Fn(bool, bool) -> f64| -> Vec<f64> {
        scores.iter().zip(&truth).map(|(&score, &positive)| of(positive, score >= threshold)).collect()
    };
    let when = |yes: bool| f64::from(u8::from(yes));
    let tp = count(&|positive, called| when(positive && called));
    let positives = count(&|positive, _| when(positive));
    let tn = count(&|positive, called| when(!positive && !called));
    let negatives = count(&|positive, _| when(!positive));
    let called = count(&|_, called| when(called));
    let twice_tp: Vec<f64> = tp.iter().map(|tp| 2.0 * tp).collect();
    let either = count(&|positive, called| when(positive) + when(called));
    [
        resamples.ratio(&tp, &positives),
        resamples.ratio(&tn, &negatives),
        resamples.ratio(&tp, &called),
        resamples.ratio(&twice_tp, &either),
    ]
}

/// The temperature of each branch: one for all outputs, chosen on `tuned`.
pub fn temperatures(tuned: Option<&Cohort>) -> [Option<f64>; 3] {
    [0, 1, 2].map(|branch| {
        let tuned = tuned?;
        let logits: Vec<f64> = tuned.logits[branch].iter().flatten().map(|&logit| f64::from(logit)).collect();
        let truth: Vec<bool> =
            tuned.labels.iter().flat_map(|labels| labels.targets().map(|target| target == 1.0)).collect();
        temperature(&logits, &truth)
    })
}

/// Brier score and expected calibration error of every output, as it is and with the logits divided by the temperature.
fn calibrations(rows: &mut Rows, cohort: &Cohort, tuned: Option<&Cohort>, resamples: &Resamples) {
    let names = output_names();
    let (counts, any) = counts(cohort, &(0..cohort.len() as u32).collect::<Vec<_>>());
    for ((branch, title), temperature) in BRANCHES.into_iter().enumerate().zip(temperatures(tuned)) {
        let without = || match tuned {
            None => "chosen on validation, which is reported here",
            Some(_) => "no temperature between 0.01 and 100 is best on validation",
        };
        rows.value((title, ALL, "temperature"), temperature, any);
        if temperature.is_none() {
            rows.because(without());
        }
        for (suffix, scale) in [("", Some(1.0)), ("_scaled", temperature)] {
            let mut briers = Vec::new();
            let mut errors = Vec::new();
            let metrics = [format!("brier{suffix}"), format!("ece{suffix}")];
            for output in 0..OUTPUTS {
                let truth = cohort.truth(output);
                let (sampled, error) = match scale {
                    None => Default::default(),
                    Some(scale) => {
                        let scores = cohort.scores(branch, output);
                        let p: Vec<f64> = scores.iter().map(|&score| sigmoid(f64::from(score) / scale)).collect();
                        let squares: Vec<f64> = p
                            .iter()
                            .zip(&truth)
                            .map(|(&p, &positive)| brier(&[p], &[positive]).unwrap_or(0.0))
                            .collect();
                        (resamples.mean(&squares), expected_calibration_error(&p, &truth))
                    }
                };
                rows.sampled((title, names[output], &metrics[0]), &sampled, counts[output]);
                if scale.is_none() {
                    rows.because(without());
                }
                rows.value((title, names[output], &metrics[1]), error, counts[output]);
                if scale.is_none() {
                    rows.because(without());
                }
                if output < Finding::COUNT {
                    briers.push(sampled);
                    errors.push(error);
                }
            }
            rows.sampled((title, MEAN, &metrics[0]), &Sampled::mean(briers.iter()), any);
            rows.value((title, MEAN, &metrics[1]), Mean::of(errors).value, any);
        }
    }
}
