//! The result in sentences, and the short table on stdout.

use cxr::metrics::Metric;
use cxr::{Finding, output_names};

use super::{Page, percent};
use crate::cohort::BRANCHES;
use crate::localisation;
use crate::measure::{ALL, DEFINED, DIFFERENCES, MEAN};
use crate::results::{interval, signed, signed_interval, title, value};

impl Page<'_> {
    /// The result in two sentences.
    pub(super) fn headline(&self) -> Vec<String> {
        let metric = Metric::Auroc.name();
        let mean = |branch: &str| self.results.get(branch, MEAN, metric, self.split);
        let mut sentences = Vec::new();
        if let (Some(fusion), Some(global)) = (mean("fusion"), mean("global")) {
            let with = |row| match interval(row) {
                Some(interval) => format!("{} ({interval})", value(row)),
                None => value(row),
            };
            sentences.push(format!(
                "Mean AUROC over {}: fusion {}, global {}.",
                self.findings(),
                with(fusion),
                with(global)
            ));
        }
        if let Some(row) = mean(DIFFERENCES[0].0)
            && let (Some(low), Some(high), Some(between)) = (row.ci_low, row.ci_high, signed_interval(row))
        {
            let verdict = match (low > 0.0, high < 0.0) {
                (true, _) => "fusion is better on these patients",
                (_, true) => "fusion is worse on these patients",
                _ => "no difference that these patients could show",
            };
            sentences.push(format!("Fusion \u{2212} global is {} ({between}): {verdict}.", signed(row)));
        }
        sentences
    }

    /// Over how many findings the mean is, where that is not all 14.
    fn defined(&self) -> Option<usize> {
        let row = self.results.get(BRANCHES[0], MEAN, DEFINED, self.split)?;
        Some(row.value? as usize).filter(|&defined| defined < Finding::COUNT)
    }

    /// `the 14 findings`, or how many of them are defined.
    fn findings(&self) -> String {
        match self.defined() {
            Some(defined) => format!("the {defined} of 14 findings that are defined"),
            None => "the 14 findings".to_owned(),
        }
    }

    pub(super) fn mean_title(&self) -> String {
        match self.defined() {
            Some(defined) => format!("Mean ({defined} of 14)"),
            None => "Mean (14)".to_owned(),
        }
    }

    /// The short table for stdout.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        let shown = percent(self.confidence);
        lines.push(format!(
            "AUROC on {} {} images of {} patients [{shown} % interval, {} draws of patients]",
            self.dataset.reported,
            self.split,
            self.cohort.patient_count(),
            self.draws
        ));
        if let Some(why) = self.dataset.not_comparable() {
            lines.push(format!("not comparable with published results: {why}"));
        }
        let names = output_names();
        let order = names[..Finding::COUNT].iter().copied().chain([MEAN, "no_finding"]);
        let header = BRANCHES.map(|branch| format!("  {branch:<20}")).concat();
        lines.push(format!("{:<20}{:>6}{header}", "finding", "n_pos").trim_end().to_owned());
        for name in order {
            let mut line = title(name);
            for (i, branch) in BRANCHES.into_iter().enumerate() {
                let Some(row) = self.results.get(branch, name, Metric::Auroc.name(), self.split) else { continue };
                if i == 0 {
                    line = format!("{line:<20}{:>6}", row.n_pos);
                }
                let interval = interval(row).map_or(String::new(), |interval| format!(" [{interval}]"));
                let cell = format!("{}{interval}", value(row));
                line += &format!("  {cell:<20}");
                if row.value.is_none() {
                    break;
                }
            }
            lines.push(line.trim_end().to_owned());
        }
        for (name, a, b) in DIFFERENCES {
            let Some(row) = self.results.get(name, MEAN, Metric::Auroc.name(), self.split) else { continue };
            let interval = signed_interval(row).map_or(String::new(), |interval| format!(" [{interval}]"));
            lines.push(format!("mean {} - {}: {}{interval}", BRANCHES[a], BRANCHES[b], signed(row)));
        }
        lines.push(format!("mean: over {}", self.findings()));
        let region = |metric: &str| self.results.get(localisation::BRANCH, ALL, metric, self.split);
        if let Some(refusal) = self.refusal {
            lines.push(format!("boxes are not held against the attended regions: {refusal}"));
        } else if let (Some(hit), Some(area)) = (region("hit_rate"), region("attention_area")) {
            lines.push(format!(
                "attention hits the centre of {} of {} drawn boxes; it takes {} of an image",
                value(hit),
                hit.n_pos,
                value(area)
            ));
        }
        lines.join("\n") + "\n"
    }
}
