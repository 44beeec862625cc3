//! Answers for people.

use std::fmt::Write;
use std::path::Path;

use cxr::{Branch, Finding, OUTPUTS};
use model::{Answer, Model, Seen, Verdict};

use crate::ask::Answered;
use crate::sources::shown;

/// A line an image; of a single image, all that is known.
pub(super) struct Lines {
    single: bool,
}

/// Room for an image's name.
const NAME: usize = 36;

impl Lines {
    pub(super) fn new(single: bool) -> Lines {
        Lines { single }
    }

    /// What stands above all images.
    pub(super) fn header(&self) -> String {
        if self.single {
            return String::new();
        }
        format!("{:<NAME$}  novelty  called findings with calibrated probabilities; not for clinical use\n", "image")
    }

    pub(super) fn of(&self, answered: &Answered, model: &Model) -> String {
        let Answered { name, answer } = answered;
        let name = shown(Path::new(name));
        if self.single { whole(&name, answer, model) } else { line(&name, answer) }
    }
}

fn line(name: &str, answer: &Answer) -> String {
    let short = if name.chars().count() > NAME {
        let tail: Vec<char> = name.chars().rev().take(NAME - 1).collect();
        format!("…{}", tail.into_iter().rev().collect::<String>())
    } else {
        name.to_owned()
    };
    let novelty = answer.novelty.map_or(String::new(), |novelty| format!("{novelty:.1}"));
    let refused = answer.refusal.as_ref().map(|refusal| format!("refused, {refusal}"));
    let called = answer.seen.as_ref().map(called);
    let said: Vec<String> = [refused, called].into_iter().flatten().collect();
    format!("{short:<NAME$}  {novelty:>7}  {}\n", said.join("; asked all the same: "))
}

/// `Cardiomegaly 0.83, Effusion 0.55`, the most probable first.
fn called(seen: &Seen) -> String {
    let findings = Finding::ALL.into_iter().filter(|finding| seen.calls[finding.index()] == Some(true));
    let mut called: Vec<(f32, &str)> =
        findings.map(|finding| (seen.calibrated[finding.index()], finding.name())).collect();
    called.sort_by(|a, b| b.0.total_cmp(&a.0));
    if called.is_empty() {
        return format!("none; No Finding {:.2}", seen.calibrated[OUTPUTS - 1]);
    }
    called.iter().map(|(p, name)| format!("{name} {p:.2}")).collect::<Vec<_>>().join(", ")
}

fn whole(name: &str, answer: &Answer, model: &Model) -> String {
    let mut text = format!("{name}\n");
    let novelty = answer.novelty.map_or("not measured".to_owned(), |novelty| {
        format!("{novelty:.1} % of the validation images are nearer to the training images")
    });
    let _ = writeln!(text, "novelty: {novelty}");
    if let Some(refusal) = &answer.refusal {
        let asked = if answer.seen.is_some() { " (asked all the same)" } else { "" };
        let _ = writeln!(text, "refused: {refusal}{asked}");
    }
    let Some(seen) = &answer.seen else { return text };
    let [left, top, right, bottom] = seen.box_px;
    let fallback =
        if seen.sight.region.bbox.is_none() { " (the whole image: nothing exceeded the threshold)" } else { "" };
    let _ = writeln!(text, "attended region: x {left:.0} to {right:.0}, y {top:.0} to {bottom:.0} px{fallback}");
    let header = Branch::ALL.map(|branch| format!("{:>9}", branch.name())).concat();
    let _ = writeln!(text, "\n{:<22}{header}  calibrated  threshold", "probability");
    for (output, threshold) in model.thresholds().into_iter().enumerate() {
        let cells = seen.probabilities.map(|row| format!("{:>9.3}", row[output])).concat();
        let threshold = threshold.map_or(format!("{:>11}", "-"), |threshold| format!("{threshold:>11.3}"));
        let call = if seen.calls[output] == Some(true) { "  called" } else { "" };
        let verdict = match seen.verdicts.map(|verdicts| verdicts[output]) {
            None => "",
            Some(None) => "  no verdict",
            Some(Some(Verdict::Present)) => "  present",
            Some(Some(Verdict::Absent)) => "  absent",
            Some(Some(Verdict::Abstain)) => "  abstains",
        };
        let name = Finding::ALL.get(output).map_or("No Finding".to_owned(), |f| f.name().replace('_', " "));
        let _ = writeln!(text, "{name:<22}{cells}{:>12.3}{threshold}{call}{verdict}", seen.calibrated[output]);
    }
    text + "not for clinical use\n"
}
