//! Mean AUROC against the threshold of the attention mask.

use cxr::{Branch, Split};
use plotters::style::Color;
use tables::metrics::Row;

use super::axis::Axis;
use super::style::{Style, branches, legend, style};
use crate::drawing::{Anchor, Drawing, GREY, INK, Shape};
use crate::published::Sweep;

/// One run of a sweep: its threshold, and the branches' mean AUROC.
#[derive(Debug, Clone)]
pub struct Swept {
    /// `attend.threshold`.
    pub threshold: f64,
    /// Mean AUROC of each branch, in the order of [`Branch::ALL`].
    pub means: [Row; 3],
}

/// Ours with intervals on the left, the paper's on the right, each on its own scale: other images, another split.
/// Points are in order of threshold.
pub fn sweep(points: &[Swept], paper: &[Sweep]) -> Drawing {
    let mut drawing = Drawing::new(900, 380);
    let mut panel = Panel {
        drawing: &mut drawing,
        across: (58.0, 380.0),
        along: Axis::spanning(points.iter().map(|point| point.threshold)),
        up: Axis::over(points.iter().flat_map(|point| &point.means), Some(1.0)),
    };
    panel.frame("This run: mean AUROC over the 14 findings");
    legend(panel.drawing, (58.0, 36.0), &branches(), true);
    for branch in Branch::ALL {
        // Side by side, so that intervals of one threshold do not hide each other.
        let shift = (f64::from(branch as u8) - 1.0) * 5.0;
        let series = points.iter().filter_map(|point| {
            let row = &point.means[branch as usize];
            Some((point.threshold, row.value?, row.ci_low.zip(row.ci_high)))
        });
        panel.series(series.collect(), style(branch), shift);
    }
    let theirs = || paper.iter().flat_map(|series| &series.values);
    let mut panel = Panel {
        drawing: &mut drawing,
        across: (510.0, 370.0),
        along: Axis::spanning(paper.iter().flat_map(|series| &series.thresholds).copied()),
        up: Axis::spanning(theirs().copied()),
    };
    panel.frame("The paper: ResNet-50, its random split, no intervals");
    let mut x = 510.0;
    for series in paper {
        let look = style(series.branch);
        let style = match series.split {
            Split::Test => look,
            _ => Style { shape: Shape::Diamond, dash: &[7.0, 3.0], ..look },
        };
        let name = format!("{}, {}", series.branch, series.split);
        legend(panel.drawing, (x, 36.0), &[(name.clone(), style)], true);
        x += 52.0 + 6.4 * name.len() as f64;
        let values = series.thresholds.iter().zip(&series.values).map(|(&tau, &value)| (tau, value, None));
        panel.series(values.collect(), style, 0.0);
    }
    drawing
}

type Point = (f64, f64, Option<(f64, f64)>);

struct Panel<'d> {
    drawing: &'d mut Drawing,
    across: (f64, f64),
    along: Axis,
    up: Axis,
}

const TOP: f64 = 56.0;
const BOTTOM: f64 = 320.0;

impl Panel<'_> {
    fn y(&self, value: f64) -> f64 {
        self.up.place(value, (BOTTOM, TOP - BOTTOM))
    }

    fn frame(&mut self, title: &str) {
        let (left, width) = self.across;
        self.drawing.bold((left, 14.0), title, 13.0, Anchor::Left, INK);
        for (tick, text) in self.up.ticks() {
            let y = self.y(tick);
            self.drawing.line(vec![(left, y), (left + width, y)], GREY.mix(0.3), 1.0);
            self.drawing.text((left - 8.0, y), text, 11.0, Anchor::Right, GREY);
        }
        self.along.grid(self.drawing, self.across, (TOP, BOTTOM));
        let middle = (left + width / 2.0, BOTTOM + 38.0);
        self.drawing.text(middle, "threshold \u{3c4} of the attention mask", 12.0, Anchor::Middle, INK);
    }

    /// Points of tau, value and interval.
    fn series(&mut self, values: Vec<Point>, style: Style, shift: f64) {
        let mut line = Vec::new();
        for (tau, value, interval) in values {
            let x = self.along.place(tau, self.across) + shift;
            if let Some((low, high)) = interval {
                let ends = vec![(x, self.y(low)), (x, self.y(high))];
                self.drawing.line(ends, style.colour.mix(0.6), 1.6);
            }
            let at = (x, self.y(value));
            self.drawing.marker(at, 3.6, style.shape, style.colour);
            line.push(at);
        }
        self.drawing.dashed(&line, style.colour, 1.4, style.dash);
    }
}
