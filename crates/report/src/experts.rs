//! NIH's labels and the branches against what radiologists said of the same images.
//!
//! NIH's labels were mined from reports and are wrong for many images; a branch that is trained and measured on them may
//! have learned their errors. Where radiologists looked again, both can be held against them.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use cxr::metrics::{Ranking, Sampled, Scope};
use cxr::{Expert, ExpertLabels, Finding, Labels, OUTPUTS, any_of};
use labels::experts::Experts;
use tables::predictions::Row;

use crate::Error;
use crate::cohort::{Logits, count_patients};
use crate::import::Truth;
use crate::plan::Plan;
use crate::results::title;

/// Which of NIH's findings make one of the experts'.
pub type Mapping = Vec<(Expert, Vec<Finding>)>;

/// Images that experts read.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    /// Sorted.
    pub image_ids: Vec<String>,
    /// NIH's patient of each image.
    pub patients: Vec<u32>,
    /// NIH's labels.
    pub labels: Vec<Labels>,
    /// The experts'.
    pub experts: Vec<ExpertLabels>,
}

/// NIH's labels of one finding against the experts'.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// The finding.
    pub expert: Expert,
    /// Images of which both say something.
    pub images: usize,
    /// Of these, those in which the experts see it.
    pub positives: usize,
    /// Those that NIH's labels call so.
    pub called: usize,
    /// Share of the experts' positives that NIH's labels have.
    pub sensitivity: Sampled,
    /// Share of NIH's positives that the experts confirm.
    pub precision: Sampled,
    /// Cohen's kappa.
    pub kappa: Sampled,
}

/// One model's AUROC of one of the experts' findings, on the same images by both kinds of truth.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The finding.
    pub expert: Expert,
    /// Images of which the truth is known by both.
    pub images: usize,
    /// Positives by the experts and by NIH's labels.
    pub positives: [usize; 2],
    /// AUROC against the experts.
    pub experts: Sampled,
    /// AUROC against NIH's labels.
    pub nih: Sampled,
}

impl Panel {
    /// Joins the experts' labels with NIH's table, by image; with `within`, of these images only.
    pub fn join(experts: &Experts, truth: &Truth, within: Option<&HashSet<String>>) -> Panel {
        let rows = experts.rows.iter().filter(|(name, _)| within.is_none_or(|list| list.contains(name)));
        let rows = rows.filter_map(|(name, labels)| Some((truth.get(name)?, *labels)));
        Panel::of(rows.map(|(record, experts)| (record.image_id.clone(), record.patient_id, record.labels, experts)))
    }

    /// Of images, their patients, NIH's labels and the experts'.
    pub fn of(rows: impl Iterator<Item = (String, u32, Labels, ExpertLabels)>) -> Panel {
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let mut panel = Panel::default();
        for (image_id, patient, labels, experts) in rows {
            panel.image_ids.push(image_id);
            panel.patients.push(patient);
            panel.labels.push(labels);
            panel.experts.push(experts);
        }
        panel
    }

    /// How many different patients.
    pub fn patient_count(&self) -> usize {
        count_patients(&self.patients)
    }

    /// Images that have scores, and these.
    fn scored<'r>(&self, rows: &BTreeMap<&str, &'r Row>) -> (Panel, Vec<&'r Logits>) {
        let each = (0..self.image_ids.len()).filter_map(|at| Some((at, rows.get(self.image_ids[at].as_str())?)));
        let (places, logits): (Vec<usize>, Vec<&Logits>) = each.map(|(at, row)| (at, &row.logits)).unzip();
        let row = |at: usize| (self.image_ids[at].clone(), self.patients[at], self.labels[at], self.experts[at]);
        (Panel::of(places.into_iter().map(row)), logits)
    }

    /// Images of which both truths are known: their places, the experts' truth and NIH's.
    fn known(&self, expert: Expert, findings: &[Finding]) -> (Vec<u32>, Vec<bool>, Vec<bool>) {
        let truth = |at: usize| {
            let theirs = self.experts[at][expert.index()]?;
            Some((at as u32, (theirs, any_of(self.labels[at], findings)?)))
        };
        let (places, truths): (Vec<u32>, Vec<(bool, bool)>) = (0..self.image_ids.len()).filter_map(truth).unzip();
        let (theirs, nih) = truths.into_iter().unzip();
        (places, theirs, nih)
    }

    /// NIH's labels against the experts', of every finding that `mapping` has.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn agreement(&self, mapping: &Mapping, plan: &Plan) -> Result<Vec<Agreement>, Error> {
        let mut agreements = Vec::new();
        for (expert, findings) in mapping.iter().filter(|(_, findings)| !findings.is_empty()) {
            plan.check()?;
            let (places, theirs, nih) = self.known(*expert, findings);
            let patients: Vec<u32> = places.iter().map(|&at| self.patients[at as usize]).collect();
            let resamples = plan.bootstrap.resample(&patients);
            let when = |of: &dyn Fn(bool, bool) -> bool| -> Vec<f64> {
                theirs.iter().zip(&nih).map(|(&a, &b)| f64::from(u8::from(of(a, b)))).collect()
            };
            let (both, positives, called) = (when(&|a, b| a && b), when(&|a, _| a), when(&|_, b| b));
            agreements.push(Agreement {
                expert: *expert,
                images: places.len(),
                positives: count(&theirs),
                called: count(&nih),
                sensitivity: resamples.ratio(&both, &positives),
                precision: resamples.ratio(&both, &called),
                kappa: resamples.kappa(&theirs, &nih),
            });
        }
        Ok(agreements)
    }

    /// A model against both kinds of truth: its score of a union is the highest of its parts. Findings of which it has no
    /// scores are left out.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn judge(
        &self,
        rows: &[Row],
        scored: &[bool; OUTPUTS],
        mapping: &Mapping,
        plan: &Plan,
    ) -> Result<Vec<Judged>, Error> {
        let by_id: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.key.image_id.as_str(), row)).collect();
        let (panel, logits) = self.scored(&by_id);
        let mut judged = Vec::new();
        for (expert, findings) in mapping.iter().filter(|(_, findings)| !findings.is_empty()) {
            plan.check()?;
            if findings.iter().any(|finding| !scored[finding.index()]) {
                continue;
            }
            let (places, theirs, nih) = panel.known(*expert, findings);
            let patients: Vec<u32> = places.iter().map(|&at| panel.patients[at as usize]).collect();
            let highest = |&at: &u32| {
                findings.iter().map(|finding| logits[at as usize][finding.index()]).fold(f32::NEG_INFINITY, f32::max)
            };
            let scores: Vec<f32> = places.iter().map(highest).collect();
            let resamples = plan.bootstrap.resample(&patients);
            let images: Vec<u32> = (0..places.len() as u32).collect();
            let auroc = |truth: &[bool]| {
                let ranking = Ranking::new(&scores, truth);
                let [auroc, _] = ranking.map(|ranking| resamples.ranking(&ranking, &images)).unwrap_or_default();
                auroc
            };
            judged.push(Judged {
                expert: *expert,
                images: places.len(),
                positives: [count(&theirs), count(&nih)],
                experts: auroc(&theirs),
                nih: auroc(&nih),
            });
        }
        Ok(judged)
    }
}

fn count(truth: &[bool]) -> usize {
    truth.iter().filter(|&&positive| positive).count()
}

/// The findings that make one: `Nodule or Mass`.
pub fn union(findings: &[Finding]) -> String {
    findings.iter().map(|&finding| title(finding)).collect::<Vec<_>>().join(" or ")
}

fn cell(sampled: &Sampled, plan: &Plan, decimals: usize) -> String {
    let estimate = sampled.estimate(plan.confidence);
    let value = estimate.value.map_or("undefined".to_owned(), |value| format!("{value:.decimals$}"));
    let interval = estimate.low.zip(estimate.high);
    value + &interval.map_or(String::new(), |(low, high)| format!(" [{low:.decimals$}-{high:.decimals$}]"))
}

/// NIH's labels against the experts', for the terminal.
pub fn agreement_text(panel: &Panel, agreements: &[Agreement], mapping: &Mapping, place: &str, plan: &Plan) -> String {
    let percent = (plan.confidence * 1e4).round() / 100.0;
    let mut text = format!(
        "NIH's labels against the experts' on {} images of {} patients{place} [{percent} % interval, {} draws of patients]\n",
        panel.image_ids.len(),
        panel.patient_count(),
        plan.bootstrap.draws
    );
    for (expert, findings) in mapping.iter().filter(|(_, findings)| findings.len() > 1) {
        let _ = writeln!(text, "{}: {}", title(Scope::Expert(*expert)), union(findings));
    }
    let head = ["finding", "images", "experts", "NIH", "sensitivity", "PPV", "kappa"];
    let [a, b, c, d, e, f, g] = head;
    let _ = writeln!(text, "{a:<18}{b:>7}{c:>9}{d:>6}  {e:<22}{f:<22}{g}");
    for row in agreements {
        let [sensitivity, precision, kappa] =
            [&row.sensitivity, &row.precision, &row.kappa].map(|sampled| cell(sampled, plan, 3));
        let (name, n, positives, called) = (title(Scope::Expert(row.expert)), row.images, row.positives, row.called);
        let _ = writeln!(text, "{name:<18}{n:>7}{positives:>9}{called:>6}  {sensitivity:<22}{precision:<22}{kappa}");
    }
    text
}

/// A model against both kinds of truth, for the terminal.
pub fn judged_text(name: &str, judged: &[Judged], plan: &Plan) -> String {
    let [a, b, c, d, e] = ["finding", "images", "AUROC, experts", "AUROC, NIH", "experts \u{2212} NIH"];
    let mut text = format!("\n{name} on the same images, by both kinds of truth\n");
    let _ = writeln!(text, "{a:<18}{b:>7}  {c:<22}{d:<22}{e}");
    for row in judged {
        let [experts, nih] = [&row.experts, &row.nih].map(|sampled| cell(sampled, plan, 3));
        let estimate = row.experts.minus(&row.nih).estimate(plan.confidence);
        let interval = estimate.low.zip(estimate.high);
        let interval = interval.map_or(String::new(), |(low, high)| format!(" [{low:+.3}, {high:+.3}]"));
        let difference = estimate.value.map_or("undefined".to_owned(), |value| format!("{value:+.3}")) + &interval;
        let _ = writeln!(
            text,
            "{:<18}{:>7}  {experts:<22}{nih:<22}{difference}",
            title(Scope::Expert(row.expert)),
            row.images
        );
    }
    text
}
