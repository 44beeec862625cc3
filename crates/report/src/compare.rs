//! Two runs on the images that both have in their reported split.

use std::collections::BTreeMap;
use std::fmt::Write;

use cxr::metrics::delong::{Components, Difference};
use cxr::metrics::{Estimate, Known, Ranking, Sampled, Scope};
use cxr::{Branch, Finding, Labels, OUTPUTS, Split};
use tables::predictions;

use crate::Error;
use crate::cohort::{Logits, count_patients};
use crate::plan::Plan;
use crate::results::{p_value, title};

/// What a run brings to a comparison.
#[derive(Debug, Clone)]
pub struct Side {
    /// The run.
    pub run: String,
    /// Which of its branches; `None` for an imported model.
    pub branch: Option<Branch>,
    /// Its predictions.
    pub rows: Vec<predictions::Row>,
    /// Which outputs have scores.
    pub scored: [bool; OUTPUTS],
}

impl Side {
    /// `fusion of demo`, `jrzech (imported)`.
    pub fn title(&self) -> String {
        match self.branch {
            Some(branch) => format!("{branch} of {}", self.run),
            None => format!("{} (imported)", self.run),
        }
    }
}

/// One line of the comparison: a finding, or the mean over the 14.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is about.
    pub scope: Scope,
    /// Positives among the common images; for the mean, images with any finding.
    pub n_pos: usize,
    /// Images that are known not to show it.
    pub n_neg: usize,
    /// AUROC of the first and of the second run, each with its interval.
    pub sides: [Estimate; 2],
    /// First minus second, with the interval of paired draws of patients.
    pub difference: Estimate,
    /// DeLong's p-value of it.
    pub p: Option<f64>,
}

/// What can be said about two runs.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Common images.
    pub images: usize,
    /// Their patients.
    pub patients: usize,
    /// Images of the split that only one of the runs has there.
    pub apart: [usize; 2],
    /// Common images on which the other run was trained or chose its epoch: none of them counts.
    pub seen: usize,
    /// Fifteen outputs and the mean.
    pub lines: Vec<Line>,
}

/// The images that both runs have in the reported split.
#[derive(Debug, Default)]
struct Common {
    patients: Vec<u32>,
    labels: Vec<Labels>,
    /// Of the first and of the second run.
    logits: [Vec<Logits>; 2],
    /// Images of the split that only one of the runs has.
    apart: [usize; 2],
    /// Images that the other run has in another split.
    seen: usize,
}

impl Common {
    fn join(sides: &[Side; 2], split: Split) -> Result<Common, Error> {
        let by_id = sides.each_ref().map(|side| -> BTreeMap<&str, &predictions::Row> {
            side.rows.iter().map(|row| (row.key.image_id.as_str(), row)).collect()
        });
        let of_split = |run: usize| by_id[run].iter().filter(|(_, row)| row.key.split == split);
        let mut common = Common::default();
        for (id, row) in of_split(0) {
            match by_id[1].get(id) {
                Some(other) if other.key.split == split => {
                    if other.key.labels != row.key.labels || other.key.patient_id != row.key.patient_id {
                        let runs = sides.each_ref().map(|side| side.run.clone());
                        return Err(Error::RunLabels { runs, image_id: (*id).to_owned() });
                    }
                    common.patients.push(row.key.patient_id);
                    common.labels.push(row.key.labels);
                    common.logits[0].push(row.logits);
                    common.logits[1].push(other.logits);
                }
                Some(_) => common.seen += 1,
                None => common.apart[0] += 1,
            }
        }
        for (id, _) in of_split(1) {
            match by_id[0].get(id) {
                Some(other) if other.key.split != split => common.seen += 1,
                Some(_) => {}
                None => common.apart[1] += 1,
            }
        }
        match common.patients.is_empty() {
            true => Err(Error::Apart { runs: sides.each_ref().map(|side| side.run.clone()), split }),
            false => Ok(common),
        }
    }
}

/// Compares the AUROCs of two runs on the images that both have in `split`; of outputs that both score.
///
/// # Errors
/// [`Error::Apart`] without common images, [`Error::RunLabels`] where the runs disagree about an image,
/// [`Error::Interrupted`].
pub fn compare(sides: &[Side; 2], split: Split, plan: &Plan) -> Result<Comparison, Error> {
    let common = Common::join(sides, split)?;
    let images: Vec<u32> = (0..common.patients.len() as u32).collect();
    let resamples = plan.bootstrap.resample_findings(&common.patients, &common.labels, &images);
    let mut samples: Vec<[Sampled; 2]> = Vec::new();
    let mut components = Vec::new();
    let known: [Known; OUTPUTS] = std::array::from_fn(|output| Known::of(&common.labels, output));
    for (output, known) in known.iter().enumerate() {
        plan.check()?;
        if sides.iter().any(|side| !side.scored[output]) {
            samples.push(Default::default());
            components.push(None);
            continue;
        }
        samples.push(common.logits.each_ref().map(|logits| {
            let ranking = Ranking::new(&known.scores(logits), &known.truth);
            let [auroc, _] = ranking.map(|ranking| resamples.ranking(&ranking, &known.images)).unwrap_or_default();
            auroc
        }));
        let [a, b] = common
            .logits
            .each_ref()
            .map(|logits| Some(Components::new(&known.scores(logits), &known.truth)?.at(&known.images)));
        components.push(a.zip(b));
    }
    let line = |scope, [n_pos, n_neg]: [usize; 2], [a, b]: [&Sampled; 2], delong: Option<Difference>| Line {
        scope,
        n_pos,
        n_neg,
        sides: [a, b].map(|sampled| sampled.estimate(plan.confidence)),
        difference: a.minus(b).estimate(plan.confidence),
        p: delong.and_then(|difference| difference.p_value()),
    };
    let of_output = |(output, scope): (usize, Scope)| {
        let n_pos = known[output].positives();
        let counts = [n_pos, known[output].images.len() - n_pos];
        let delong = components[output].as_ref().and_then(|(a, b)| Difference::new(a, b, &common.patients));
        line(scope, counts, samples[output].each_ref(), delong)
    };
    let mut lines: Vec<Line> = Scope::outputs().into_iter().enumerate().map(of_output).collect();
    let [a, b] = [0, 1].map(|run| Sampled::mean(samples[..Finding::COUNT].iter().map(|pair| &pair[run])));
    let pairs: Vec<_> = components[..Finding::COUNT].iter().flatten().map(|(a, b)| (a, b)).collect();
    let any = [false, true].map(|none| common.labels.iter().filter(|labels| labels.no_finding() == Some(none)).count());
    lines.push(line(Scope::Mean, any, [&a, &b], Difference::of_means(&pairs, &common.patients)));
    let patients = count_patients(&common.patients);
    Ok(Comparison { images: images.len(), patients, apart: common.apart, seen: common.seen, lines })
}

impl Comparison {
    /// The table for the terminal.
    pub fn text(&self, sides: &[Side; 2], split: Split, plan: &Plan) -> String {
        let mut text = format!(
            "AUROC of {} on {} common {split} images of {} patients\n",
            titles(sides),
            self.images,
            self.patients
        );
        if self.apart != [0, 0] {
            let _ =
                writeln!(text, "left out: {} images of A, {} of B that the other lacks", self.apart[0], self.apart[1]);
        }
        if self.seen > 0 {
            let _ = writeln!(text, "left out: {} images that the other run has in another split", self.seen);
        }
        let percent = 100.0 * plan.confidence;
        let _ = writeln!(
            text,
            "{:<20}{:>7}{:>8}{:>8}{:>9}  {:<18}{:>8}",
            "finding",
            "n_pos",
            "A",
            "B",
            "A - B",
            format!("[{percent} % interval]"),
            "DeLong p"
        );
        let defined = self.lines[..Finding::COUNT].iter().filter(|line| line.difference.value.is_some()).count();
        let mean = if defined == Finding::COUNT { "Mean (14)".to_owned() } else { format!("Mean ({defined} of 14)") };
        for line in &self.lines {
            let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
            let signed = |value: f64| format!("{value:+.3}");
            let difference = line.difference.value.map_or("-".to_owned(), signed);
            let interval = line.difference.low.zip(line.difference.high);
            let interval = interval.map_or(String::new(), |(low, high)| format!("[{}, {}]", signed(low), signed(high)));
            let [first, second] = line.sides.map(|side| cell(side.value));
            let p = line.p.map_or("-".to_owned(), p_value);
            let name = if line.scope == Scope::Mean { mean.clone() } else { title(line.scope) };
            let _ =
                writeln!(text, "{name:<20}{:>7}{first:>8}{second:>8}{difference:>9}  {interval:<18}{p:>8}", line.n_pos);
        }
        text
    }
}

/// `fusion: a (A) and b (B)`, or each with what it is.
fn titles([a, b]: &[Side; 2]) -> String {
    match (a.branch, b.branch) {
        (Some(branch), Some(other)) if branch == other => format!("{branch}: {} (A) and {} (B)", a.run, b.run),
        _ => format!("{} (A) and {} (B)", a.title(), b.title()),
    }
}
