//! The result in sentences, and the short table on stdout.

use std::cmp::Ordering;

use cxr::metrics::{Metric, Pair, Scope, Series, divergence};
use cxr::{Branch, Finding};
use tables::metrics::Row;

use super::content::{Page, percent};
use crate::results::{interval, known, sign, signed, signed_interval, title, value};

impl Page<'_> {
    /// The result in two sentences.
    pub(super) fn headline(&self) -> Vec<String> {
        let mean = |series: Series| self.results.get(series, Scope::Mean, Metric::Auroc, self.split);
        let with = |branch: Branch| {
            let row = mean(branch.into());
            interval(row).map_or_else(|| value(row), |interval| format!("{} ({interval})", value(row)))
        };
        let [fusion, global] = [Branch::Fusion, Branch::Global].map(with);
        let mut sentences = vec![format!("Mean AUROC over {}: fusion {fusion}, global {global}.", self.findings())];
        let row = mean(Pair::FusionGlobal.into());
        if let (Some(sign), Some(between)) = (sign(row), signed_interval(row)) {
            let verdict = match sign {
                Ordering::Greater => "fusion is better on these patients",
                Ordering::Less => "fusion is worse on these patients",
                Ordering::Equal => "no difference that these patients could show",
            };
            sentences.push(format!("Fusion \u{2212} global is {} ({between}): {verdict}.", signed(row)));
        }
        sentences.extend(self.external());
        sentences
    }

    /// What a region is called.
    pub(super) fn region(&self) -> &'static str {
        if self.control.is_some() { "control region" } else { "attended region" }
    }

    /// Of every training that went wrong, where.
    pub(super) fn diverged(&self) -> Vec<String> {
        let said = Branch::ALL.into_iter().zip(self.epochs).filter_map(|(branch, epochs)| {
            let (index, loss) = divergence(epochs.iter().map(|row| row.validation_loss))?;
            let (epoch, lr) = (epochs[index].epoch, epochs[index].lr);
            Some(format!(
                "the validation loss of {branch} was {loss:.4e} after epoch {epoch}, at a learning rate of {lr:.3e}; \
                 another training with a lower {branch}.lr may be better."
            ))
        });
        said.collect()
    }

    /// Where the model comes from, if not from this run.
    fn external(&self) -> Option<String> {
        let model = self.model?;
        let model = &model[..8.min(model.len())];
        Some(format!(
            "External evaluation of model {model}, which was trained elsewhere: nothing was trained or chosen on these images; \
             thresholds and temperatures are from the model's own validation images."
        ))
    }

    /// Over how many findings the mean is, where that is not all 14.
    fn defined(&self) -> Option<usize> {
        let row = self.results.get(Branch::Global, Scope::Mean, Metric::FindingsDefined, self.split);
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
        lines.extend(self.external());
        lines.extend(self.control.map(|control| format!("a control: {control}")));
        if let Some(why) = self.dataset.not_comparable() {
            lines.push(format!("not comparable with published results: {why}"));
        }
        let header = Branch::ALL.map(|branch| format!("  {:<20}", branch.name())).concat();
        lines.push(format!("{:<20}{:>6}{header}", "finding", "n_pos").trim_end().to_owned());
        for scope in self.results.scopes(self.split) {
            let rows = Branch::ALL.map(|branch| self.results.get(branch, scope, Metric::Auroc, self.split));
            let mut line = format!("{:<20}{:>6}", title(scope), rows[0].n_pos);
            for row in rows {
                let interval = interval(row).map_or(String::new(), |interval| format!(" [{interval}]"));
                let cell = format!("{}{interval}", value(row));
                line += &format!("  {cell:<20}");
                if row.value.is_none() {
                    break;
                }
            }
            let known = known(rows[0]).filter(|_| scope != Scope::Mean);
            lines.push(line.trim_end().to_owned() + &known.map_or(String::new(), |known| format!("  ({known})")));
        }
        lines.extend(self.results.unlabelled(self.split));
        for pair in Pair::ALL {
            let row = self.results.get(pair, Scope::Mean, Metric::Auroc, self.split);
            let interval = signed_interval(row).map_or(String::new(), |interval| format!(" [{interval}]"));
            lines.push(format!("mean fusion - {}: {}{interval}", pair.other(), signed(row)));
        }
        lines.push(format!("mean: over {}", self.findings()));
        let region = |metric: Metric| -> Option<&Row> {
            self.results.located(Series::Attention, Scope::All, metric, self.split)
        };
        if let Some(refusal) = self.refusal {
            lines.push(format!("boxes are not held against the {}s: {refusal}", self.region()));
        } else if let (Some(hit), Some(area)) = (region(Metric::HitRate), region(Metric::AttentionArea)) {
            let what = if self.control.is_some() { self.region() } else { "attention" };
            lines.push(format!(
                "{what} hits the centre of {} of {} drawn boxes; it takes {} of an image",
                value(hit),
                hit.n_pos,
                value(area)
            ));
        }
        lines.join("\n") + "\n"
    }
}
