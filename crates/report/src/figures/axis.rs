//! Linear axes.

use plotters::style::Color;
use tables::metrics::Row;

use crate::drawing::{Anchor, Drawing, GREY};

/// A linear axis with round ticks.
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) step: f64,
}

impl Axis {
    /// Spans the values and intervals, and `end` at most; a nominal range where there is none.
    pub(super) fn over<'r>(rows: impl IntoIterator<Item = &'r Row>, end: Option<f64>) -> Axis {
        let spread = rows.into_iter().flat_map(|row| [row.value, row.ci_low, row.ci_high]).flatten();
        let (low, high) =
            spread.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        Axis::new(low, high, end)
    }

    /// Spans the values.
    pub(super) fn spanning(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
        Axis::new(low - 1e-3, high + 1e-3, None)
    }

    /// From 0, with ticks at whole numbers.
    pub(super) fn whole(high: f64) -> Axis {
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
        let step = steps.into_iter().find(|step| high / step <= 8.0).unwrap_or(1000.0);
        Axis { low: 0.0, high, step }
    }

    pub(super) fn new(low: f64, high: f64, end: Option<f64>) -> Axis {
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let spread = (high - low).max(1e-3);
        let steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
        let step = steps.into_iter().find(|step| spread / step <= 7.0).unwrap_or(1.0);
        let low = ((low / step) + 1e-9).floor() * step;
        let high = ((high / step) - 1e-9).ceil() * step;
        let high = end.map_or(high, |end| high.min(end));
        Axis { low, high: if high > low { high } else { low + step }, step }
    }

    pub(super) fn place(&self, value: f64, (start, length): (f64, f64)) -> f64 {
        start + (value - self.low) / (self.high - self.low) * length
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, String)> + '_ {
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
    pub(super) fn grid(&self, drawing: &mut Drawing, across: (f64, f64), (top, bottom): (f64, f64)) {
        for (tick, text) in self.ticks() {
            let x = self.place(tick, across);
            drawing.line(vec![(x, top), (x, bottom)], GREY.mix(0.3), 1.0);
            drawing.text((x, bottom + 13.0), text, 11.0, Anchor::Middle, GREY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
