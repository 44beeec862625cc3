//! What an import says on the terminal.

use std::fmt::Write;

use cxr::Finding;
use cxr::metrics::{Sampled, Scope};
use labels::nih::TEST;
use labels::scores::{Scale, Scores};

use super::join::Imported;
use super::lists::{Images, titles};
use super::scored::{Aurocs, Scored};
use super::truth::Truth;
use crate::plan::Plan;
use crate::results::title;

/// What was read, what was assumed, and what the images are.
pub fn notes(name: &str, scores: &Scores, imported: &Imported, images: &Images, truth: &Truth) -> String {
    let mut text = String::new();
    let scored = imported.scored.iter().take(Finding::COUNT).filter(|&&scored| scored).count();
    let none = if imported.scored[Finding::COUNT] { " and No Finding" } else { "" };
    let first = scores.score_columns.first().map_or("", String::as_str);
    let _ = writeln!(
        text,
        "columns: images in {:?}; {scored} of 14 findings{none}, the first in {first:?}",
        scores.image_column
    );
    let unscored = Finding::ALL.into_iter().filter(|finding| !imported.scored[finding.index()]);
    let unscored: Vec<String> = unscored.map(title).collect();
    if !unscored.is_empty() {
        let _ = writeln!(text, "columns: no scores of {}; the mean is over the others", unscored.join(", "));
    }
    if !scores.ignored.is_empty() {
        let ignored = &scores.ignored[..scores.ignored.len().min(20)];
        let _ = writeln!(text, "columns that nothing reads: {}", ignored.join(", "));
    }
    let assumed = match scores.scale {
        Scale::Probability => "taken for probabilities, for all lie in 0 to 1",
        Scale::Logit => "taken for logits, for some lie outside 0 to 1",
    };
    let _ = writeln!(text, "scores: {assumed}; AUROC depends on their order only");
    if scores.repeated > 0 {
        let _ = writeln!(text, "images: {} rows repeat an image and its scores", scores.repeated);
    }
    if imported.foreign > 0 {
        let (count, first) = (imported.foreign, imported.first_foreign.join(", "));
        let _ = writeln!(text, "images: {count} of the file are not in {}, the first: {first}", truth.table);
    }
    text + &split(name, imported, images, truth)
}

/// What the images are, by the lists beside the label table.
fn split(name: &str, imported: &Imported, images: &Images, truth: &Truth) -> String {
    let mut text = String::new();
    // Without a test list nothing is said of it.
    let [test, train_val] = truth.test.as_ref().map_or(["", ""], titles);
    if imported.elsewhere > 0 {
        let _ = writeln!(text, "images: {} outside {test} left out (--official)", imported.elsewhere);
    }
    let _ = writeln!(text, "split: {}", images.name);
    if let (Some(in_test), Some(list)) = (images.in_test, &truth.test)
        && in_test < list.len()
        && in_test * 2 > list.len()
    {
        let _ = writeln!(text, "split: {} images of {test} have no score", list.len() - in_test);
    }
    match (images.in_test, images.in_train_val) {
        (Some(in_test), Some(in_train_val)) if in_train_val > 0 => {
            let _ = writeln!(
                text,
                "split: {in_test} of the images are in {test}, {in_train_val} in {train_val}, on which models with the \
                 official split are trained: compare {name} on common images only"
            );
        }
        (None, _) => {
            let _ = writeln!(text, "split: no {TEST} beside {}, so nothing more is known", truth.table);
        }
        _ => {}
    }
    text
}

/// The AUROCs with their intervals, findings first, then the mean.
pub fn table(name: &str, label_table: &str, scored: &Scored, aurocs: &Aurocs, plan: &Plan) -> String {
    let percent = (plan.confidence * 1e4).round() / 100.0;
    let mut text = format!(
        "AUROC of {name} on {} images of {} patients, labels of {label_table} [{percent} % interval, {} draws of patients]\n",
        scored.image_ids.len(),
        scored.patient_count(),
        plan.bootstrap.draws
    );
    let cell = |sampled: &Sampled| {
        let estimate = sampled.estimate(plan.confidence);
        let value = estimate.value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
        let interval = estimate.low.zip(estimate.high);
        value + &interval.map_or(String::new(), |(low, high)| format!(" [{low:.4}-{high:.4}]"))
    };
    let _ = writeln!(text, "{:<20}{:<26}{:>9}", "finding", "AUROC", "positives");
    for (output, scope) in Scope::outputs().into_iter().enumerate() {
        if scored.scored[output] {
            let line =
                format!("{:<20}{:<26}{:>9}", title(scope), cell(&aurocs.outputs[output]), aurocs.positives[output]);
            let _ = writeln!(text, "{line}");
        }
    }
    let _ = writeln!(text, "{:<20}{}", "Mean", cell(&aurocs.mean));
    let of = if aurocs.defined == Finding::COUNT { String::new() } else { format!(" {} of", aurocs.defined) };
    let _ = writeln!(text, "mean: over{of} the 14 findings");
    text
}
