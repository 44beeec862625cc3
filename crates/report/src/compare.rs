//! Two runs on the images that both have in their reported split.

use std::collections::BTreeMap;
use std::fmt::Write;

use cxr::metrics::delong::{Components, Difference};
use cxr::metrics::{Estimate, Ranking, Sampled};
use cxr::{Finding, OUTPUTS, Split, output_names};
use tables::predictions;

use crate::Error;
use crate::cohort::Cohort;
use crate::measure::{MEAN, Plan};
use crate::results::{p_value, title};

/// One line of the comparison: a finding, or the mean over the 14.
#[derive(Debug, Clone)]
pub struct Line {
    /// snake_case.
    pub finding: String,
    /// Positives among the common images; for the mean, images with any finding.
    pub n_pos: usize,
    /// AUROC of the first and of the second run.
    pub values: [Option<f64>; 2],
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

/// Compares the AUROCs of one branch in two runs on the images that both have in `split`.
///
/// # Errors
/// [`Error::Apart`] without common images, [`Error::RunLabels`] where the runs take an image for something else.
pub fn compare(
    runs: [&str; 2],
    rows: [&[predictions::Row]; 2],
    split: Split,
    plan: &Plan,
) -> Result<Comparison, Error> {
    let by_id = rows.map(|rows| -> BTreeMap<&str, &predictions::Row> {
        rows.iter().map(|row| (row.key.image_id.as_str(), row)).collect()
    });
    let mut seen = 0;
    let mut apart = [0, 0];
    let mut cohorts = [Cohort::default(), Cohort::default()];
    for (id, row) in by_id[0].iter().filter(|(_, row)| row.key.split == split) {
        match by_id[1].get(id) {
            Some(other) if other.key.split == split => {
                if other.key.labels != row.key.labels || other.key.patient_id != row.key.patient_id {
                    let runs = runs.map(str::to_owned);
                    return Err(Error::RunLabels { runs, image_id: (*id).to_owned() });
                }
                for (cohort, row) in cohorts.iter_mut().zip([row, other]) {
                    cohort.image_ids.push(row.key.image_id.clone());
                    cohort.patients.push(row.key.patient_id);
                    cohort.labels.push(row.key.labels);
                    cohort.logits[0].push(row.logits);
                }
            }
            Some(_) => seen += 1,
            None => apart[0] += 1,
        }
    }
    for (id, _) in by_id[1].iter().filter(|(_, row)| row.key.split == split) {
        match by_id[0].get(id) {
            Some(other) if other.key.split != split => seen += 1,
            Some(_) => {}
            None => apart[1] += 1,
        }
    }
    let [first, second] = &cohorts;
    if first.is_empty() {
        return Err(Error::Apart { runs: runs.map(str::to_owned), split });
    }
    let resamples = plan.bootstrap.resample(&first.patients);
    let images: Vec<u32> = (0..first.len() as u32).collect();
    let sampled = |cohort: &Cohort, output: usize| -> Sampled {
        let ranking = Ranking::of_output(&cohort.logits[0], &cohort.labels, output);
        let [auroc, _] = ranking.map(|ranking| resamples.ranking(&ranking, &images)).unwrap_or_default();
        auroc
    };
    let components = |cohort: &Cohort, output: usize| Components::new(&cohort.scores(0, output), &cohort.truth(output));
    let samples: Vec<[Sampled; 2]> =
        (0..OUTPUTS).map(|output| [sampled(first, output), sampled(second, output)]).collect();
    let parts: Vec<_> = (0..OUTPUTS).map(|output| components(first, output).zip(components(second, output))).collect();
    let line = |finding: &str, n_pos: usize, [a, b]: [&Sampled; 2], delong: Option<Difference>| Line {
        finding: finding.to_owned(),
        n_pos,
        values: [a.value, b.value],
        difference: a.minus(b).estimate(plan.confidence),
        p: delong.and_then(|difference| difference.p_value()),
    };
    let mut lines: Vec<Line> = output_names()
        .into_iter()
        .enumerate()
        .map(|(output, name)| {
            let n_pos = first.truth(output).into_iter().filter(|&positive| positive).count();
            let delong = parts[output].as_ref().and_then(|(a, b)| Difference::new(a, b, &first.patients));
            line(name, n_pos, [&samples[output][0], &samples[output][1]], delong)
        })
        .collect();
    let means = [0, 1].map(|run| Sampled::mean(samples[..Finding::COUNT].iter().map(|pair| &pair[run])));
    let pairs: Vec<_> = parts[..Finding::COUNT].iter().flatten().map(|(a, b)| (a, b)).collect();
    let any = first.labels.iter().filter(|labels| !labels.no_finding()).count();
    lines.push(line(MEAN, any, [&means[0], &means[1]], Difference::of_means(&pairs, &first.patients)));
    Ok(Comparison { images: first.len(), patients: first.patient_count(), apart, seen, lines })
}

impl Comparison {
    /// The table for the terminal.
    pub fn text(&self, runs: [&str; 2], branch: &str, split: Split, plan: &Plan) -> String {
        let [a, b] = runs;
        let mut text = format!(
            "AUROC of {branch}: {a} (A) and {b} (B) on {} common {split} images of {} patients\n",
            self.images, self.patients
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
            let [first, second] = line.values.map(cell);
            let p = line.p.map_or("-".to_owned(), p_value);
            let name = if line.finding == MEAN { mean.clone() } else { title(&line.finding) };
            let _ =
                writeln!(text, "{name:<20}{:>7}{first:>8}{second:>8}{difference:>9}  {interval:<18}{p:>8}", line.n_pos);
        }
        text
    }
}
