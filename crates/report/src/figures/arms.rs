//! The arms of a study: their mean AUROCs, and what the first has over the others.

use cxr::Branch;
use cxr::metrics::{Metric, Scope, Series, Subset};
use plotters::style::Color;
use tables::metrics::Row;

use super::axis::Axis;
use super::forest::{Line, bars, draw};
use super::style::{Style, legend, style};
use crate::drawing::{Anchor, Drawing, GREY, INK};
use crate::group::Group;
use crate::results::Results;

/// Mean AUROC of every arm with intervals over patients and seeds, and what its fusion has over its branches.
pub fn arms(group: &Group, results: &Results) -> Drawing {
    let lines = group.arms.iter().enumerate().map(|(index, arm)| {
        let subset = group.subset(arm);
        let row = |series: Series| results.of_subset(series, Scope::Mean, Metric::Auroc, &subset, group.split);
        Line::new(arm.name.clone(), index == 0, row).without_positives()
    });
    draw("Mean AUROC", &lines.collect::<Vec<_>>())
}

const ROW: f64 = 34.0;
const TOP: f64 = 58.0;
const LEFT: (f64, f64) = (250.0, 560.0);

/// The paired differences between the first arm and every other one, of the branches in which arms differ.
pub fn contrasts(group: &Group, results: &Results) -> Drawing {
    let branches = group.compared(results);
    let styles: Vec<Style> = branches.iter().map(|&branch| style(branch)).collect();
    let rows = |subset: &Subset| -> Vec<&Row> {
        let row = |&branch: &Branch| results.of_subset(branch, Scope::Mean, Metric::Auroc, subset, group.split);
        branches.iter().map(row).collect()
    };
    let others: Vec<_> = group.others().map(|(arm, subset)| (arm, rows(&subset))).collect();
    let axis = Axis::over(others.iter().flat_map(|(_, rows)| rows.iter().copied()), None);
    let bottom = TOP + ROW * others.len() as f64;
    let mut drawing = Drawing::new((LEFT.0 + LEFT.1 + 24.0) as u32, (bottom + 30.0) as u32);
    let title = format!("Mean AUROC: {} minus ...", group.arms[0].name);
    drawing.bold((LEFT.0, 14.0), title, 13.0, Anchor::Left, INK);
    let names: Vec<_> = branches.iter().map(Branch::to_string).zip(styles.iter().copied()).collect();
    legend(&mut drawing, (LEFT.0, 36.0), &names, false);
    axis.grid(&mut drawing, LEFT, (TOP, bottom));
    if axis.low < 0.0 && axis.high > 0.0 {
        let x = axis.place(0.0, LEFT);
        drawing.line(vec![(x, TOP), (x, bottom)], INK, 1.2);
    }
    for (index, (arm, rows)) in others.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        if index % 2 == 1 {
            drawing.rect((0.0, y - ROW / 2.0), (LEFT.0 + LEFT.1, y + ROW / 2.0), GREY.mix(0.08));
        }
        drawing.text((LEFT.0 - 12.0, y), arm.name.clone(), 13.0, Anchor::Right, INK);
        bars(&mut drawing, rows, &styles, &axis, LEFT, y);
    }
    drawing
}
