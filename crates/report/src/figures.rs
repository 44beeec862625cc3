//! The figures, as [`Drawing`]s.
//!
//! A branch has a colour, a shape and a dash, so that no figure needs its colours to be read.

mod curves;
mod forest;
mod localisation;
mod sweep;
mod training;

use plotters::style::{Color, RGBColor};
use tables::metrics::Row;

pub use curves::{calibration, pr, roc};
pub use forest::{forest, subsets};
pub use localisation::overlaps;
pub use sweep::{Swept, sweep};
pub use training::training;

use crate::cohort::BRANCHES;
use crate::drawing::{Anchor, Drawing, GREY, INK, Shape};

/// How a series looks.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// From Okabe and Ito's palette, told apart by the colour-blind, on white and on black.
    pub colour: RGBColor,
    /// Of its points.
    pub shape: Shape,
    /// Drawn and left out in turn, pixels; empty for a solid line.
    pub dash: &'static [f64],
}

/// The branches, in the order of [`BRANCHES`].
pub const STYLES: [Style; 3] = [
    Style { colour: RGBColor(0x2f, 0x86, 0xc6), shape: Shape::Circle, dash: &[7.0, 3.0] },
    Style { colour: RGBColor(0x00, 0x9e, 0x73), shape: Shape::Square, dash: &[2.0, 2.5] },
    Style { colour: RGBColor(0xd5, 0x5e, 0x00), shape: Shape::Triangle, dash: &[] },
];

/// Names and styles in a row from `(x, y)` on; with their lines, or their points only.
fn legend(drawing: &mut Drawing, (mut x, y): (f64, f64), entries: &[(String, Style)], lines: bool) {
    for (name, style) in entries {
        if lines {
            drawing.dashed(&[(x, y), (x + 26.0, y)], style.colour, 2.0, style.dash);
            x += 18.0;
        }
        drawing.marker((x + 4.0, y), 4.0, style.shape, style.colour);
        drawing.text((x + 14.0, y), name.as_str(), 12.0, Anchor::Left, INK);
        x += 34.0 + 6.8 * name.chars().count() as f64;
    }
}

/// The branches for [`legend`].
fn branches() -> Vec<(String, Style)> {
    BRANCHES.map(str::to_owned).into_iter().zip(STYLES).collect()
}

/// A linear axis with round ticks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Spans the values and intervals, and `end` at most; a nominal range where there is none.
    fn over(rows: &[Row], end: Option<f64>) -> Axis {
        let spread = rows.iter().flat_map(|row| [row.value, row.ci_low, row.ci_high]).flatten();
        let (low, high) =
            spread.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        Axis::new(low, high, end)
    }

    /// Spans the values.
    fn spanning(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
        Axis::new(low - 1e-3, high + 1e-3, None)
    }

    /// From 0, with ticks at whole numbers.
    fn whole(high: f64) -> Axis {
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
        let step = steps.into_iter().find(|step| high / step <= 8.0).unwrap_or(1000.0);
        Axis { low: 0.0, high, step }
    }

    fn new(low: f64, high: f64, end: Option<f64>) -> Axis {
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let spread = (high - low).max(1e-3);
        let steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
        let step = steps.into_iter().find(|step| spread / step <= 7.0).unwrap_or(1.0);
        let low = ((low / step) + 1e-9).floor() * step;
        let high = ((high / step) - 1e-9).ceil() * step;
        let high = end.map_or(high, |end| high.min(end));
        Axis { low, high: if high > low { high } else { low + step }, step }
    }

    fn place(&self, value: f64, (start, length): (f64, f64)) -> f64 {
        start + (value - self.low) / (self.high - self.low) * length
    }

    fn ticks(&self) -> impl Iterator<Item = (f64, String)> + '_ {
        let digits = (0..4)
            .find(|&d| {
                let s = self.step * 10_f64.powi(d);
                (s - s.round()).abs() < 1e-6
            })
            .unwrap_or(3) as usize;
        let count = ((self.high - self.low) / self.step + 1e-6) as usize;
        (0..=count).map(move |i| {
            let tick = self.low + i as f64 * self.step;
            let tick = if tick.abs() < self.step / 2.0 { 0.0 } else { tick };
            (tick, format!("{tick:.digits$}").replace('-', "\u{2212}"))
        })
    }

    /// Vertical grid lines with their numbers below.
    fn grid(&self, drawing: &mut Drawing, across: (f64, f64), (top, bottom): (f64, f64)) {
        for (tick, text) in self.ticks() {
            let x = self.place(tick, across);
            drawing.line(vec![(x, top), (x, bottom)], GREY.mix(0.3), 1.0);
            drawing.text((x, bottom + 13.0), text, 11.0, Anchor::Middle, GREY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::curves::thin;
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

    #[test]
    fn axes_have_round_ticks() {
        let axis = Axis::new(0.713, 0.962, Some(1.0));
        let ticks: Vec<String> = axis.ticks().map(|(_, text)| text).collect();
        assert_eq!(ticks, ["0.70", "0.75", "0.80", "0.85", "0.90", "0.95", "1.00"]);
        let axis = Axis::new(-0.013, 0.021, None);
        let ticks: Vec<String> = axis.ticks().map(|(_, text)| text).collect();
        assert_eq!(ticks.first().unwrap(), "\u{2212}0.015");
        assert!(ticks.contains(&"0.000".to_owned()));
        assert_eq!(Axis::new(f64::INFINITY, f64::NEG_INFINITY, None).ticks().count(), 6);
    }
}
