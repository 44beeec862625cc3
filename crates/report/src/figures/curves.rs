//! A panel per finding: ROC, precision and recall, calibration.

use cxr::metrics::calibration::{reliability, sigmoid};
use cxr::metrics::{Metric, Ranking};
use cxr::{Branch, Finding, Split};
use plotters::style::Color;

use super::style::style;
use crate::cohort::Cohort;
use crate::drawing::{Anchor, Drawing, GREY, INK};
use crate::results::{Results, title, undefined};

/// Curves are drawn to this part of a panel's side: finer steps are not seen and make large files.
const STEPS: f64 = 256.0;
/// Panels in a row.
const COLUMNS: usize = 5;
/// Side of a panel, pixels.
const SIDE: f64 = 148.0;
const GAP: (f64, f64) = (26.0, 46.0);
const START: (f64, f64) = (44.0, 30.0);

/// Bins of the calibration curve: ten, or fewer so that each has 60 images.
fn bins(images: usize) -> usize {
    (images / 60).clamp(3, 10)
}

/// A panel for every finding with labels, and the legend behind the last one.
struct Panels {
    drawing: Drawing,
    /// How many panels were begun.
    begun: usize,
}

/// One of them; both axes go from 0 to `top`.
#[derive(Clone, Copy)]
struct Panel {
    from: (f64, f64),
    top: f64,
}

impl Panel {
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.from.0 + x / self.top * SIDE, self.from.1 + (1.0 - y / self.top) * SIDE)
    }
}

/// The upper left corner of a panel.
fn place(panel: usize) -> (f64, f64) {
    let (column, row) = ((panel % COLUMNS) as f64, (panel / COLUMNS) as f64);
    (START.0 + column * (SIDE + GAP.0), START.1 + row * (SIDE + GAP.1))
}

impl Panels {
    /// The legend says what the axes and numbers are.
    fn new(panels: usize, explained: [&str; 3]) -> Panels {
        let rows = (panels + 1).div_ceil(COLUMNS) as f64;
        let width = START.0 + COLUMNS as f64 * (SIDE + GAP.0);
        let height = START.1 + rows * (SIDE + GAP.1) - 14.0;
        let mut drawing = Drawing::new(width as u32, height as u32);
        let (x, y) = place(panels);
        let (x, y) = (x + 14.0, y + 24.0);
        for (index, branch) in Branch::ALL.into_iter().enumerate() {
            let (y, style) = (y + 22.0 * index as f64, style(branch));
            drawing.dashed(&[(x, y), (x + 28.0, y)], style.colour, 2.2, style.dash);
            drawing.text((x + 38.0, y), branch.name(), 13.0, Anchor::Left, INK);
        }
        for (line, text) in explained.into_iter().enumerate() {
            drawing.text((x, y + 76.0 + 16.0 * line as f64), text, 11.0, Anchor::Left, GREY);
        }
        Panels { drawing, begun: 0 }
    }

    /// Title, frame and ticks; `reason` in the middle where there is nothing to draw.
    fn panel(&mut self, finding: Finding, top: f64, reason: Option<&str>) -> Panel {
        let column = self.begun % COLUMNS;
        let panel = Panel { from: place(self.begun), top };
        self.begun += 1;
        let drawing = &mut self.drawing;
        drawing.bold((panel.from.0, panel.from.1 - 12.0), title(finding), 13.0, Anchor::Left, INK);
        for tick in [0.0, top / 2.0, top] {
            let grid = GREY.mix(0.3);
            if reason.is_none() || tick == 0.0 || tick == top {
                drawing.line(vec![panel.at((tick, 0.0)), panel.at((tick, top))], grid, 1.0);
                drawing.line(vec![panel.at((0.0, tick)), panel.at((top, tick))], grid, 1.0);
            }
            if column == 0 || top != 1.0 {
                let (x, y) = panel.at((0.0, tick));
                drawing.text((x - 4.0, y), format!("{tick}"), 11.0, Anchor::Right, GREY);
            }
            let (x, y) = panel.at((tick, 0.0));
            drawing.text((x, y + 10.0), format!("{tick}"), 11.0, Anchor::Middle, GREY);
        }
        if let Some(reason) = reason {
            drawing.text(panel.at((top / 2.0, top / 2.0)), reason, 11.0, Anchor::Middle, GREY);
        }
        panel
    }

    /// The branches' numbers, one above the other: in the lower right corner, or in the upper one.
    fn numbers(&mut self, panel: Panel, values: [Option<f64>; 3], low: bool) {
        for (branch, value) in Branch::ALL.into_iter().zip(values) {
            let Some(value) = value else { continue };
            let from = if low { 0.31 } else { 0.95 };
            let line = f64::from(branch as u8);
            let (x, y) = panel.at((0.97 * panel.top, (from - 0.115 * line) * panel.top));
            self.drawing.bold((x, y), format!("{value:.3}"), 12.0, Anchor::Right, style(branch).colour);
        }
    }
}

/// ROC of every finding, the branches over one another.
pub(super) fn roc(cohort: &Cohort, results: &Results, split: Split) -> Drawing {
    ranked(cohort, results, split, Metric::Auroc)
}

/// Precision against recall of every finding, the branches over one another.
pub(super) fn pr(cohort: &Cohort, results: &Results, split: Split) -> Drawing {
    ranked(cohort, results, split, Metric::AveragePrecision)
}

fn ranked(cohort: &Cohort, results: &Results, split: Split, metric: Metric) -> Drawing {
    let is_roc = metric == Metric::Auroc;
    let findings = results.findings(split);
    let explained = if is_roc {
        ["across: 1 - specificity", "up: sensitivity", "numbers: AUROC, as above"]
    } else {
        ["across: recall; grey: prevalence", "up: precision", "numbers: AP, as above"]
    };
    let mut panels = Panels::new(findings.len(), explained);
    for finding in findings {
        let row = |branch: Branch| results.get(branch, finding, metric, split);
        let first = row(Branch::Global);
        let reason = first.value.is_none().then(|| undefined(first));
        let panel = panels.panel(finding, 1.0, reason.as_deref());
        if reason.is_some() {
            continue;
        }
        let prevalence = first.n_pos as f64 / (first.n_pos + first.n_neg).max(1) as f64;
        let chance = if is_roc { [(0.0, 0.0), (1.0, 1.0)] } else { [(0.0, prevalence), (1.0, prevalence)] };
        panels.drawing.line(chance.map(|point| panel.at(point)).to_vec(), GREY.mix(0.6), 1.0);
        for branch in Branch::ALL {
            let style = style(branch);
            let ranking = Ranking::of_output(cohort.logits(branch), &cohort.labels, finding.index());
            let curve = ranking.and_then(|ranking| if is_roc { ranking.roc_curve() } else { ranking.pr_curve() });
            let mut curve = curve.unwrap_or_default();
            // Before the first positive there is no recall, and precision says nothing.
            curve.retain(|point| is_roc || point.0 > 0.0);
            let points: Vec<_> = thin(&curve).into_iter().map(|point| panel.at(point)).collect();
            panels.drawing.dashed(&points, style.colour, 1.6, style.dash);
        }
        panels.numbers(panel, Branch::ALL.map(|branch| row(branch).value), is_roc);
    }
    panels.drawing
}

/// Share of positives against probability of every finding, in bins of as many images each.
pub(super) fn calibration(cohort: &Cohort, results: &Results, split: Split) -> Drawing {
    let explained = ["across: mean probability", "up: share of positives", "numbers: ECE, as above"];
    let findings = results.findings(split);
    let mut panels = Panels::new(findings.len(), explained);
    for finding in findings {
        let known = cohort.known(finding.index());
        let bins = Branch::ALL.map(|branch| {
            let scores = known.scores(cohort.logits(branch));
            let probabilities: Vec<f64> = scores.iter().map(|&score| sigmoid(f64::from(score))).collect();
            reliability(&probabilities, &known.truth, bins(known.truth.len()))
        });
        let highest = bins.iter().flatten().map(|bin| bin.probability.max(bin.positive)).fold(0.0, f64::max);
        let top = [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0].into_iter().find(|top| *top >= highest).unwrap_or(1.0);
        let panel = panels.panel(finding, top, None);
        panels.drawing.line(vec![panel.at((0.0, 0.0)), panel.at((top, top))], GREY.mix(0.6), 1.0);
        for (bins, style) in bins.iter().zip(Branch::ALL.map(style)) {
            let points: Vec<_> = bins.iter().map(|bin| panel.at((bin.probability, bin.positive))).collect();
            panels.drawing.dashed(&points, style.colour, 1.4, style.dash);
            for at in points {
                panels.drawing.marker(at, 2.4, style.shape, style.colour);
            }
        }
        let errors = Branch::ALL.map(|branch| results.get(branch, finding, Metric::Ece, split).value);
        panels.numbers(panel, errors, true);
    }
    panels.drawing
}

/// A curve without the points that its neighbours on a grid of [`STEPS`] make invisible.
fn thin(curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut thin: Vec<(f64, f64)> = Vec::new();
    for &(x, y) in curve {
        let point = ((x * STEPS).round() / STEPS, (y * STEPS).round() / STEPS);
        if thin.last() == Some(&point) {
            continue;
        }
        // On the way along one edge of a step only its end matters.
        if let [.., before, last] = thin[..]
            && ((before.0 == last.0 && last.0 == point.0) || (before.1 == last.1 && last.1 == point.1))
        {
            thin.pop();
        }
        thin.push(point);
    }
    thin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_shape() {
        let stairs: Vec<(f64, f64)> = (0..=10_000).map(|i| (0.0, f64::from(i) / 10_000.0)).collect();
        assert_eq!(thin(&stairs), [(0.0, 0.0), (0.0, 1.0)]);
        let diagonal: Vec<(f64, f64)> = (0..=10_000).map(|i| (f64::from(i) / 1e4, f64::from(i) / 1e4)).collect();
        let thinned = thin(&diagonal);
        assert!(thinned.len() <= 257 && thinned.first() == Some(&(0.0, 0.0)) && thinned.last() == Some(&(1.0, 1.0)));
        // A corner survives.
        assert_eq!(thin(&[(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]).len(), 5);
    }
}
