//! How many boxes are found, against how much overlap is asked for.

use cxr::metrics::{Metric, Overlap, Scope, Series};
use cxr::{Branch, Finding, Split};
use plotters::style::Color;
use tables::metrics::Row;

use super::axis::Axis;
use super::style::style;
use crate::drawing::{Anchor, Drawing, GREY, INK};
use crate::results::Results;

/// Share of boxes with IoU (left) and IoBB (right) above T: all boxes with intervals, every finding in grey.
pub(super) fn overlaps(results: &Results, split: Split) -> Drawing {
    let (top, bottom, panel) = (40.0, 250.0, 300.0);
    let mut drawing = Drawing::new(760, 300);
    let along = Axis::new(0.1, 0.7, None);
    let up = Axis::shares();
    for ((metric, name), left) in Metric::SHARES.into_iter().zip([50.0, 430.0]) {
        drawing.bold((left, 14.0), format!("Share of boxes with {name} > T"), 13.0, Anchor::Left, INK);
        let across = (left, panel);
        let y_of = |value: f64| up.place(value, (bottom, top - bottom));
        for (tick, text) in up.ticks() {
            drawing.line(vec![(left, y_of(tick)), (left + panel, y_of(tick))], GREY.mix(0.3), 1.0);
            drawing.text((left - 8.0, y_of(tick)), text, 11.0, Anchor::Right, GREY);
        }
        along.grid(&mut drawing, across, (top, bottom));
        drawing.text((left + panel / 2.0, bottom + 34.0), "T", 12.0, Anchor::Middle, INK);
        let rows = |scope: Scope| -> Vec<(f64, &Row)> {
            let row = |&overlap: &Overlap| results.located(Series::Attention, scope, metric(overlap), split);
            let at = |overlap: &Overlap| Some((f64::from(overlap.value()), row(overlap)?));
            Overlap::ALL.iter().filter_map(at).collect()
        };
        for finding in Finding::ALL {
            let points = rows(finding.into());
            let points: Vec<_> =
                points.iter().filter_map(|(t, row)| Some((along.place(*t, across), y_of(row.value?)))).collect();
            drawing.line(points, GREY.mix(0.6), 1.0);
        }
        let all = rows(Scope::All);
        let style = style(Branch::Global);
        let mut line = Vec::new();
        for (t, row) in &all {
            let Some(value) = row.value else { continue };
            let x = along.place(*t, across);
            if let (Some(low), Some(high)) = (row.ci_low, row.ci_high) {
                drawing.line(vec![(x, y_of(low)), (x, y_of(high))], style.colour, 1.8);
            }
            drawing.marker((x, y_of(value)), 4.0, style.shape, style.colour);
            line.push((x, y_of(value)));
        }
        drawing.line(line, style.colour, 2.0);
    }
    drawing
}
