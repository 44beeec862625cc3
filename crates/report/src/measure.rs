//! From scores to rows of `metrics.parquet`.

use cxr::metrics::calibration::{brier, expected_calibration_error, sigmoid, temperature};
use cxr::metrics::decision::{Criterion, threshold};
use cxr::metrics::delong::{Components, Difference};
use cxr::metrics::{
    Bootstrap, Cell, Decision, Estimate, Known, Mean, Metric, Pair, Ranking, Resamples, Sampled, Scope, Series, Subset,
};
use cxr::{Branch, Finding, Labels, OUTPUTS, Split};
use tables::metrics::Row;

use crate::Error;
use crate::cohort::Cohort;
use crate::plan::Plan;

/// Rows about one subset of one split.
pub(crate) struct Rows<'p> {
    pub(crate) rows: Vec<Row>,
    pub(crate) split: Split,
    pub(crate) subset: Subset,
    pub(crate) plan: &'p Plan<'p>,
}

/// Images with and without a finding, and those of which it is unknown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pos: u64,
    neg: u64,
    unknown: u64,
}

impl Counts {
    fn of(truth: impl Iterator<Item = Option<bool>>) -> Counts {
        let mut counts = Counts::default();
        for shown in truth {
            let count = match shown {
                Some(true) => &mut counts.pos,
                Some(false) => &mut counts.neg,
                None => &mut counts.unknown,
            };
            *count += 1;
        }
        counts
    }

    /// Why a metric has no value.
    fn undefined(self) -> &'static str {
        match (self.pos, self.neg) {
            (0, 0) if self.unknown > 0 => NO_LABELS,
            (0, 0) => "no images",
            (0, _) => "no positives",
            (_, 0) => "no negatives",
            _ => "undefined",
        }
    }
}

/// Why a finding of which no image has a label has no metrics.
const NO_LABELS: &str = "no labels";

/// Whose number, about what.
pub(crate) type About = (Series, Scope, Metric);

impl Rows<'_> {
    fn push(&mut self, (series, scope, metric): About, estimate: Estimate, counts: Counts) {
        let reason = estimate.value.is_none().then(|| counts.undefined().to_owned());
        self.rows.push(Row {
            cell: Cell { series, scope, metric, subset: self.subset.clone(), split: self.split },
            value: estimate.value,
            ci_low: estimate.low,
            ci_high: estimate.high,
            n_pos: counts.pos,
            n_neg: counts.neg,
            n_unknown: counts.unknown,
            undefined_draws: estimate.undefined as u64,
            reason,
            seeds: None,
        });
    }

    pub(crate) fn sampled(&mut self, about: About, sampled: &Sampled, counts: Counts) {
        let estimate = sampled.estimate(self.plan.confidence);
        self.push(about, estimate, counts);
        if estimate.value.is_some() && estimate.low.is_none() && sampled.drawn() {
            self.because(match about.1 {
                Scope::Mean => {
                    "no interval: a finding is undefined in more than a tenth of the draws, drawn again or not"
                }
                _ => "no interval: more than a tenth of the draws have only one class",
            });
        }
    }

    fn value(&mut self, about: About, value: Option<f64>, counts: Counts) {
        self.push(about, Estimate { value, ..Estimate::default() }, counts);
    }

    /// Says why the last row has no value or interval.
    fn because(&mut self, reason: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.reason = Some(reason.to_owned());
        }
    }
}

/// AUROC and average precision of every branch and difference, on all images and on every group; and decisions and
/// calibration on all images. `tuning` are the images on which thresholds and temperatures are chosen, if any.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn measure(
    cohort: &Cohort,
    tuning: Option<&Cohort>,
    groups: &[(Subset, Vec<u32>)],
    split: Split,
    plan: &Plan,
) -> Result<Vec<Row>, Error> {
    let all = cohort.all();
    let mut rows = Rows { rows: Vec::new(), split, subset: Subset::All, plan };
    let resamples = plan.bootstrap.resample_findings(&cohort.patients, &cohort.labels, &all);
    rankings(&mut rows, cohort, &resamples, &all)?;
    delong(&mut rows, cohort)?;
    decisions(&mut rows, cohort, tuning, &resamples)?;
    calibrations(&mut rows, cohort, tuning, &resamples)?;
    for (subset, images) in groups {
        rows.subset = subset.clone();
        let resamples = plan.bootstrap.resample_findings(&cohort.patients, &cohort.labels, images);
        rankings(&mut rows, cohort, &resamples, images)?;
    }
    Ok(rows.rows)
}

/// The values of both ranking metrics alone, for the split that is not reported.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn values(cohort: &Cohort, split: Split, plan: &Plan) -> Result<Vec<Row>, Error> {
    let plan = Plan { bootstrap: Bootstrap { draws: 0, seed: 0 }, ..*plan };
    let mut rows = Rows { rows: Vec::new(), split, subset: Subset::All, plan: &plan };
    rankings(&mut rows, cohort, &plan.bootstrap.resample(&cohort.patients), &cohort.all())?;
    Ok(rows.rows)
}

/// The counts of every output among some images, and, for the mean, images with and without any finding.
pub(crate) fn counts(cohort: &Cohort, images: &[u32]) -> ([Counts; OUTPUTS], Counts) {
    let labels = || images.iter().map(|&image| cohort.labels[image as usize]);
    let outputs = std::array::from_fn(|output| Counts::of(labels().map(|labels| labels.outputs()[output])));
    (outputs, Counts::of(labels().map(|labels| labels.no_finding().map(|none| !none))))
}

fn rankings(rows: &mut Rows, cohort: &Cohort, resamples: &Resamples, images: &[u32]) -> Result<(), Error> {
    let (counts, any) = counts(cohort, images);
    // [branch][output][metric]
    let mut sampled: [Vec<[Sampled; 2]>; 3] = Default::default();
    for branch in Branch::ALL {
        for output in 0..OUTPUTS {
            rows.plan.check()?;
            let known = Known::among(&cohort.labels, output, images.iter().copied());
            let ranking = Ranking::new(&known.scores(cohort.logits(branch)), &known.truth);
            let metrics = ranking.map(|ranking| resamples.ranking(&ranking, &known.images)).unwrap_or_default();
            sampled[branch as usize].push(metrics);
        }
    }
    for (index, metric) in Metric::RANKED.into_iter().enumerate() {
        let of = |branch: Branch, output: usize| &sampled[branch as usize][output][index];
        for (output, scope) in Scope::outputs().into_iter().enumerate() {
            let of = |branch: Branch| of(branch, output).clone();
            push_series(rows, of, (scope, metric), counts[output]);
        }
        let mean = |branch: Branch| Sampled::mean((0..Finding::COUNT).map(|output| of(branch, output)));
        push_series(rows, mean, (Scope::Mean, metric), any);
    }
    for branch in Branch::ALL {
        let aurocs = sampled[branch as usize][..Finding::COUNT].iter();
        let defined = aurocs.filter(|[auroc, _]| auroc.value.is_some()).count();
        rows.value((branch.into(), Scope::Mean, Metric::FindingsDefined), Some(defined as f64), any);
    }
    Ok(())
}

/// A number of every branch, and its differences.
fn push_series(rows: &mut Rows, of: impl Fn(Branch) -> Sampled, (scope, metric): (Scope, Metric), counts: Counts) {
    let sampled = Branch::ALL.map(of);
    for branch in Branch::ALL {
        rows.sampled((branch.into(), scope, metric), &sampled[branch as usize], counts);
    }
    for pair in Pair::ALL {
        let difference = sampled[Branch::Fusion as usize].minus(&sampled[pair.other() as usize]);
        rows.sampled((pair.into(), scope, metric), &difference, counts);
    }
}

/// The paired differences of AUROC with closed-form intervals and p-values, images of one patient counted as dependent.
fn delong(rows: &mut Rows, cohort: &Cohort) -> Result<(), Error> {
    const FEW: &str = "fewer than two patients of a class";
    let (counts, any) = counts(cohort, &cohort.all());
    let mut components: [Vec<Option<Components>>; 3] = Default::default();
    for branch in Branch::ALL {
        for output in 0..OUTPUTS {
            rows.plan.check()?;
            let known = cohort.known(output);
            let of_known = Components::new(&known.scores(cohort.logits(branch)), &known.truth);
            components[branch as usize].push(of_known.map(|components| components.at(&known.images)));
        }
    }
    for pair in Pair::ALL {
        let of = |branch: Branch, output: usize| components[branch as usize][output].as_ref();
        let both = |output: usize| of(Branch::Fusion, output).zip(of(pair.other(), output));
        let means: Vec<_> = (0..Finding::COUNT).filter_map(both).collect();
        let mean = Difference::of_means(&means, &cohort.patients);
        let of_output = |output| Difference::new(both(output)?.0, both(output)?.1, &cohort.patients);
        let scopes = Scope::outputs().into_iter().enumerate();
        let all = scopes.map(|(output, scope)| (scope, of_output(output), counts[output]));
        for (scope, difference, counts) in all.chain([(Scope::Mean, mean, any)]) {
            let interval = difference.map(|difference| difference.interval(rows.plan.confidence));
            let estimate = Estimate {
                value: difference.map(|difference| difference.value),
                low: interval.map(|interval| interval.0),
                high: interval.map(|interval| interval.1),
                undefined: 0,
            };
            let few = difference.is_none() && counts.pos > 0 && counts.neg > 0;
            rows.push((pair.into(), scope, Metric::AurocDelong), estimate, counts);
            if few {
                rows.because(FEW);
            }
            let p = difference.and_then(|difference| difference.p_value());
            rows.value((pair.into(), scope, Metric::AurocDelongP), p, counts);
            match difference {
                Some(difference) if difference.z().is_none() => rows.because("the difference does not vary"),
                None if few => rows.because(FEW),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Why a threshold or temperature cannot be chosen.
fn untuned(tuning: Option<&Cohort>, output: usize) -> String {
    match tuning {
        None => CHOSEN_HERE.to_owned(),
        Some(tuning) => {
            let known = tuning.known(output);
            format!("validation has {} positives of {} images", known.positives(), known.images.len())
        }
    }
}

/// Why nothing is chosen on validation where validation is reported.
const CHOSEN_HERE: &str = "chosen on validation, which is reported here";

/// Sensitivity, specificity, precision and F1 at the thresholds that are best on `tuning`.
fn decisions(rows: &mut Rows, cohort: &Cohort, tuning: Option<&Cohort>, resamples: &Resamples) -> Result<(), Error> {
    let (counts, any) = counts(cohort, &cohort.all());
    for branch in Branch::ALL {
        for criterion in Criterion::ALL {
            let mut of_findings: [Vec<Sampled>; 4] = Default::default();
            for (output, scope) in Scope::outputs().into_iter().enumerate() {
                rows.plan.check()?;
                let best = |tuning: &Cohort| {
                    let known = tuning.known(output);
                    threshold(&known.scores(tuning.logits(branch)), &known.truth, criterion)
                };
                let chosen = tuning.and_then(best);
                let mut push = |decision: Decision, sampled: &Sampled| {
                    rows.sampled(
                        (branch.into(), scope, Metric::Decision(decision, criterion)),
                        sampled,
                        counts[output],
                    );
                    if chosen.is_none() && counts[output].undefined() != NO_LABELS {
                        rows.because(&untuned(tuning, output));
                    }
                };
                let probability = chosen.map(|chosen| sigmoid(f64::from(chosen)));
                push(Decision::Threshold, &Sampled::given(probability));
                let sampled = match chosen {
                    None => Default::default(),
                    Some(chosen) => shares(cohort, resamples, branch, output, chosen),
                };
                for ((decision, sampled), of_findings) in
                    Decision::SHARES.into_iter().zip(sampled).zip(&mut of_findings)
                {
                    push(decision, &sampled);
                    if output < Finding::COUNT {
                        of_findings.push(sampled);
                    }
                }
            }
            for (decision, of_findings) in Decision::SHARES.into_iter().zip(&of_findings) {
                let about = (branch.into(), Scope::Mean, Metric::Decision(decision, criterion));
                rows.sampled(about, &Sampled::mean(of_findings), any);
            }
        }
    }
    Ok(())
}

/// [`Decision::SHARES`] of one output at a threshold.
fn shares(cohort: &Cohort, resamples: &Resamples, branch: Branch, output: usize, threshold: f32) -> [Sampled; 4] {
    // An image whose label is unknown is in no sum.
    let count = |of: &dyn Fn(bool, bool) -> f64| -> Vec<f64> {
        let images = cohort.logits(branch).iter().zip(&cohort.labels);
        let of = |(logits, labels): (&[f32; OUTPUTS], &Labels)| {
            labels.outputs()[output].map_or(0.0, |positive| of(positive, logits[output] >= threshold))
        };
        images.map(of).collect()
    };
    let when = |yes: bool| f64::from(u8::from(yes));
    let true_positives = count(&|positive, called| when(positive && called));
    let positives = count(&|positive, _| when(positive));
    let true_negatives = count(&|positive, called| when(!positive && !called));
    let negatives = count(&|positive, _| when(!positive));
    let called = count(&|_, called| when(called));
    let twice: Vec<f64> = true_positives.iter().map(|count| 2.0 * count).collect();
    let both = count(&|positive, called| when(positive) + when(called));
    [
        resamples.ratio(&true_positives, &positives),
        resamples.ratio(&true_negatives, &negatives),
        resamples.ratio(&true_positives, &called),
        resamples.ratio(&twice, &both),
    ]
}

/// The temperature of a branch: one for all outputs, chosen on `tuning`.
fn temperature_of(branch: Branch, tuning: Option<&Cohort>) -> Option<f64> {
    let tuning = tuning?;
    let truth = tuning.labels.iter().flat_map(|labels| labels.outputs());
    let pairs = tuning.logits(branch).iter().flatten().zip(truth);
    let known = |(&logit, shown): (&f32, Option<bool>)| Some((f64::from(logit), shown?));
    let (logits, truth): (Vec<f64>, Vec<bool>) = pairs.filter_map(known).unzip();
    temperature(&logits, &truth)
}

/// Brier score and expected calibration error of every output, as it is and with the logits divided by the temperature.
fn calibrations(rows: &mut Rows, cohort: &Cohort, tuning: Option<&Cohort>, resamples: &Resamples) -> Result<(), Error> {
    let (counts, any) = counts(cohort, &cohort.all());
    let without = match tuning {
        None => CHOSEN_HERE,
        Some(_) => "no temperature between 0.01 and 100 is best on validation",
    };
    for branch in Branch::ALL {
        rows.plan.check()?;
        let temperature = temperature_of(branch, tuning);
        rows.value((branch.into(), Scope::All, Metric::Temperature), temperature, any);
        if temperature.is_none() {
            rows.because(without);
        }
        let scaled = (temperature, [Metric::BrierScaled, Metric::EceScaled]);
        for (scale, [brier, ece]) in [(Some(1.0), [Metric::Brier, Metric::Ece]), scaled] {
            let mut briers = Vec::new();
            let mut errors = Vec::new();
            for (output, scope) in Scope::outputs().into_iter().enumerate() {
                rows.plan.check()?;
                let (sampled, error) = match scale {
                    None => Default::default(),
                    Some(scale) => calibration(cohort, resamples, branch, output, scale),
                };
                rows.sampled((branch.into(), scope, brier), &sampled, counts[output]);
                let unscaled = scale.is_none() && counts[output].undefined() != NO_LABELS;
                if unscaled {
                    rows.because(without);
                }
                rows.value((branch.into(), scope, ece), error, counts[output]);
                if unscaled {
                    rows.because(without);
                }
                if output < Finding::COUNT {
                    briers.push(sampled);
                    errors.push(error);
                }
            }
            rows.sampled((branch.into(), Scope::Mean, brier), &Sampled::mean(&briers), any);
            rows.value((branch.into(), Scope::Mean, ece), Mean::of(errors).value, any);
        }
    }
    Ok(())
}

/// Brier score and expected calibration error of one output whose logits are divided by `scale`.
fn calibration(
    cohort: &Cohort,
    resamples: &Resamples,
    branch: Branch,
    output: usize,
    scale: f64,
) -> (Sampled, Option<f64>) {
    let known = cohort.known(output);
    let scores = known.scores(cohort.logits(branch));
    let probabilities: Vec<f64> = scores.iter().map(|&score| sigmoid(f64::from(score) / scale)).collect();
    let [mut squares, mut images] = [vec![0.0; cohort.len()], vec![0.0; cohort.len()]];
    for ((&image, &p), &positive) in known.images.iter().zip(&probabilities).zip(&known.truth) {
        squares[image as usize] = brier(&[p], &[positive]).unwrap_or(0.0);
        images[image as usize] = 1.0;
    }
    (resamples.ratio(&squares, &images), expected_calibration_error(&probabilities, &known.truth))
}
