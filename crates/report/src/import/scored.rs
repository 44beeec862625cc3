//! One model's AUROCs on its images.

use cxr::metrics::{Known, Ranking, Resamples, Sampled};
use cxr::{Finding, Labels, OUTPUTS};
use tables::predictions::Row;

use crate::Error;
use crate::cohort::{Logits, count_patients};
use crate::plan::Plan;

/// One model's scores of some images, and what is known of these.
#[derive(Debug, Clone)]
pub struct Scored {
    /// Sorted.
    pub image_ids: Vec<String>,
    /// NIH's patient of each image.
    pub patients: Vec<u32>,
    /// The truth, as reported.
    pub labels: Vec<Labels>,
    /// 15 logits of each image.
    pub logits: Vec<Logits>,
    /// Which outputs the model scores.
    pub scored: [bool; OUTPUTS],
}

/// The AUROCs of one model.
#[derive(Debug, Clone)]
pub struct Aurocs {
    /// Of each output; undefined where the model has no score or the images lack a class.
    pub outputs: Vec<Sampled>,
    /// Images with each output.
    pub positives: Vec<usize>,
    /// Over those of the 14 findings that are defined.
    pub mean: Sampled,
    /// How many these are.
    pub defined: usize,
}

impl Scored {
    /// Of rows sorted by image.
    pub fn of(rows: &[Row], scored: [bool; OUTPUTS]) -> Scored {
        Scored {
            image_ids: rows.iter().map(|row| row.key.image_id.clone()).collect(),
            patients: rows.iter().map(|row| row.key.patient_id).collect(),
            labels: rows.iter().map(|row| row.key.labels).collect(),
            logits: rows.iter().map(|row| row.logits).collect(),
            scored,
        }
    }

    /// How many different patients.
    pub fn patient_count(&self) -> usize {
        count_patients(&self.patients)
    }

    /// The draws of these patients: equal for equal images, so that models on them can be subtracted.
    pub fn resamples(&self, plan: &Plan) -> Resamples {
        let all: Vec<u32> = (0..self.patients.len() as u32).collect();
        plan.bootstrap.resample_findings(&self.patients, &self.labels, &all)
    }

    /// The AUROC of every output and the mean over the findings.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn aurocs(&self, resamples: &Resamples, plan: &Plan) -> Result<Aurocs, Error> {
        let (mut outputs, mut positives) = (Vec::new(), Vec::new());
        for output in 0..OUTPUTS {
            plan.check()?;
            let known = Known::of(&self.labels, output);
            positives.push(known.positives());
            let ranking = Ranking::new(&known.scores(&self.logits), &known.truth).filter(|_| self.scored[output]);
            let [auroc, _] = ranking.map(|ranking| resamples.ranking(&ranking, &known.images)).unwrap_or_default();
            outputs.push(auroc);
        }
        let findings = &outputs[..Finding::COUNT];
        let defined = findings.iter().filter(|sampled| sampled.value.is_some()).count();
        Ok(Aurocs { mean: Sampled::mean(findings), defined, outputs, positives })
    }
}
