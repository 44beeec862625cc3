//! Values with their intervals, one row per finding or subset.

use cxr::metrics::{Metric, Pair, Scope, Series, Subset};
use cxr::{Branch, Split};
use plotters::style::Color;
use tables::metrics::Row;

use super::axis::Axis;
use super::style::{Style, branches, legend, style};
use crate::drawing::{Anchor, Drawing, GREY, INK, Shape};
use crate::results::{Results, series_title, subset_title, title, undefined};

const ROW: f64 = 34.0;
const TOP: f64 = 58.0;
const LABEL: f64 = 190.0;

/// A difference looks like the branch that is subtracted, with a shape of its own.
fn pair_style(pair: Pair) -> Style {
    Style { shape: Shape::Diamond, dash: &[], ..style(pair.other()) }
}

/// One line of a forest plot.
pub(super) struct Line<'r> {
    name: String,
    positives: Option<u64>,
    bold: bool,
    branches: [&'r Row; 3],
    differences: [&'r Row; 2],
}

impl<'r> Line<'r> {
    pub(super) fn new(name: String, bold: bool, row: impl Fn(Series) -> &'r Row) -> Line<'r> {
        let branches = Branch::ALL.map(|branch| row(branch.into()));
        let differences = Pair::ALL.map(|pair| row(pair.into()));
        Line { name, positives: Some(branches[0].n_pos), bold, branches, differences }
    }

    /// Without the number of positives behind its name.
    pub(super) fn without_positives(self) -> Line<'r> {
        Line { positives: None, ..self }
    }
}

/// AUROC of every finding and their mean with intervals, and the paired differences beside them.
pub fn forest(results: &Results, split: Split) -> Drawing {
    let lines = results.scopes(split).into_iter().map(|scope| {
        let row = |series: Series| results.get(series, scope, Metric::Auroc, split);
        let line = Line::new(title(scope), scope == Scope::Mean, row);
        Line { positives: line.positives.filter(|_| !line.bold), ..line }
    });
    draw("AUROC", &lines.collect::<Vec<_>>())
}

/// Mean AUROC of every subset with intervals, and the paired differences beside them.
pub(super) fn subsets(results: &Results, split: Split) -> Drawing {
    let lines = results.subsets(split).into_iter().map(|subset| {
        let row = |series: Series| results.of_subset(series, Scope::Mean, Metric::Auroc, subset, split);
        Line::new(subset_title(subset), *subset == Subset::All, row)
    });
    draw("Mean AUROC", &lines.collect::<Vec<_>>())
}

/// The lines with their axes; `what` names the numbers.
pub(super) fn draw(what: &str, lines: &[Line]) -> Drawing {
    let values = Axis::over(lines.iter().flat_map(|line| line.branches), Some(1.0));
    let changes = Axis::over(lines.iter().flat_map(|line| line.differences), None);
    let (left, right) = ((LABEL, 340.0), (LABEL + 340.0 + 36.0, 250.0));
    let bottom = TOP + ROW * lines.len() as f64;
    let width = right.0 + right.1 + 24.0;
    let mut drawing = Drawing::new(width as u32, (bottom + 30.0) as u32);

    drawing.bold((left.0, 14.0), what, 13.0, Anchor::Left, INK);
    legend(&mut drawing, (left.0, 36.0), &branches(), false);
    drawing.bold((right.0, 14.0), "Paired difference", 13.0, Anchor::Left, INK);
    let pairs = Pair::ALL.map(|pair| (series_title(pair), pair_style(pair)));
    legend(&mut drawing, (right.0, 36.0), &pairs, false);
    drawing.text((LABEL - 12.0, 36.0), "(positives)", 11.0, Anchor::Right, GREY);
    values.grid(&mut drawing, left, (TOP, bottom));
    changes.grid(&mut drawing, right, (TOP, bottom));
    if changes.low < 0.0 && changes.high > 0.0 {
        let x = changes.place(0.0, right);
        drawing.line(vec![(x, TOP), (x, bottom)], INK, 1.2);
    }
    for (i, line) in lines.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let at = (LABEL - 12.0, y);
        if line.bold {
            drawing.rect((0.0, y - ROW / 2.0), (width, y + ROW / 2.0), GREY.mix(0.13));
        }
        let name = line.positives.map_or(line.name.clone(), |n_pos| format!("{} ({n_pos})", line.name));
        match line.bold {
            true => drawing.bold(at, name, 13.0, Anchor::Right, INK),
            false => drawing.text(at, name, 13.0, Anchor::Right, INK),
        }
        bars(&mut drawing, &line.branches, &Branch::ALL.map(style), &values, left, y);
        bars(&mut drawing, &line.differences, &Pair::ALL.map(pair_style), &changes, right, y);
    }
    drawing
}

/// Rows of one line, one below the other.
pub(super) fn bars(drawing: &mut Drawing, rows: &[&Row], styles: &[Style], axis: &Axis, across: (f64, f64), y: f64) {
    for (k, (row, style)) in rows.iter().zip(styles).enumerate() {
        let y = y + (k as f64 - (rows.len() - 1) as f64 / 2.0) * 8.0;
        match row.value {
            Some(value) => {
                if let (Some(low), Some(high)) = (row.ci_low, row.ci_high) {
                    let ends = vec![(axis.place(low, across), y), (axis.place(high, across), y)];
                    drawing.line(ends, style.colour.mix(0.75), 1.8);
                }
                drawing.marker((axis.place(value, across), y), 3.2, style.shape, style.colour);
            }
            None if k == 0 => {
                let middle = (across.0 + across.1 / 2.0, y + 4.0 * (rows.len() - 1) as f64);
                drawing.text(middle, undefined(row), 11.0, Anchor::Middle, GREY);
            }
            None => {}
        }
    }
}
