//! Axes.

use plotters::style::Color;
use tables::metrics::Row;

use crate::drawing::{Anchor, Drawing, GREY};

/// Values beyond this are drawn at it: differences between them would overflow.
const LARGEST: f64 = 1e300;
/// The most steps of an axis that [`Axis::new`] made.
const MOST_STEPS: f64 = 7.0;
/// Where the greatest loss is so many times the least, only a logarithmic axis shows both.
const EXPLODED: f64 = 1e3;
/// The digits of a number behind which its size is not read any more.
const READABLE: f64 = 1e5;

/// An axis with round ticks, of which there are few whatever the values.
pub(super) struct Axis {
    /// Where it begins; the exponent of 10 where it is logarithmic.
    pub(super) low: f64,
    /// Where it ends.
    pub(super) high: f64,
    /// Between two ticks.
    pub(super) step: f64,
    logarithmic: bool,
}

/// The least of 1, 2, 5, 10, ... times a power of ten that divides `spread` into at most so many steps.
fn round_step(spread: f64, steps: f64, least: f64) -> f64 {
    let power = |exponent: i32| 10_f64.powi(exponent);
    let first = least.max(spread / steps / 10.0).log10().floor() as i32;
    let candidates = (first..first + 4).flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * power(exponent)));
    let mut candidates = candidates.filter(|step| *step >= least * 0.999);
    candidates.find(|step| spread / step <= steps).unwrap_or(spread)
}

/// The least and the greatest number.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let numbers = values.filter(|value| !value.is_nan()).map(|value| value.clamp(-LARGEST, LARGEST));
    numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

impl Axis {
    /// Spans the values and intervals, and `end` at most; a nominal range where there is none.
    pub(super) fn over<'r>(rows: impl IntoIterator<Item = &'r Row>, end: Option<f64>) -> Axis {
        let (low, high) = span(rows.into_iter().flat_map(|row| [row.value, row.ci_low, row.ci_high]).flatten());
        Axis::new(low, high, end)
    }

    /// Spans the values; a nominal range where there is none.
    pub(super) fn over_values(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = span(values);
        Axis::new(low, high, None)
    }

    /// Spans the values and a little more.
    pub(super) fn spanning(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = span(values);
        Axis::new(low - 1e-3, high + 1e-3, None)
    }

    /// Spans losses: logarithmic where some are many times the others.
    pub(super) fn of_losses(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = span(values);
        if !(low > 0.0 && high / low >= EXPLODED) {
            return Axis::new(low, high, None);
        }
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Axis { low, high, step: round_step(high - low, MOST_STEPS, 1.0), logarithmic: true }
    }

    /// Spans shares, from 0 to 1.
    pub(super) fn shares() -> Axis {
        Axis { low: 0.0, high: 1.0, step: 0.2, logarithmic: false }
    }

    /// From 0 to 1 or more, with ticks at whole numbers.
    pub(super) fn whole(high: f64) -> Axis {
        let high = high.max(1.0);
        Axis { low: 0.0, high, step: round_step(high, MOST_STEPS + 1.0, 1.0), logarithmic: false }
    }

    pub(super) fn new(low: f64, high: f64, end: Option<f64>) -> Axis {
        let (low, high) = if low <= high { span([low, high].into_iter()) } else { (0.0, 1.0) };
        // Less than this is lost beside the values themselves.
        let least = (1e-9 * low.abs().max(high.abs())).max(1e-3);
        let step = round_step((high - low).max(least), MOST_STEPS, 1e-3);
        let low = ((low / step) + 1e-9).floor() * step;
        let high = ((high / step) - 1e-9).ceil() * step;
        let high = end.map_or(high, |end| high.min(end));
        Axis { low, high: if high > low { high } else { low + step }, step, logarithmic: false }
    }

    pub(super) fn place(&self, value: f64, (start, length): (f64, f64)) -> f64 {
        let value = if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        start + ((value - self.low) / (self.high - self.low)).clamp(-1.0, 2.0) * length
    }

    /// Values and their texts.
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
            if self.logarithmic {
                let value = 10_f64.powf(tick);
                let readable = (-3.0..READABLE.log10()).contains(&tick);
                return (value, if readable { format!("{value}") } else { format!("1e{tick:.0}") });
            }
            let tick = if tick.abs() < self.step / 2.0 { 0.0 } else { tick };
            let magnitude = |value: f64| (value.abs() * (1.0 + 1e-9)).log10().floor();
            let text = if self.high.abs().max(self.low.abs()) < READABLE {
                format!("{tick:.digits$}")
            } else if tick == 0.0 {
                "0".to_owned()
            } else {
                let digits = (magnitude(tick) - magnitude(self.step)).clamp(0.0, 6.0) as usize;
                format!("{tick:.digits$e}")
            };
            (tick, text.replace('-', "\u{2212}"))
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

    fn texts(axis: &Axis) -> Vec<String> {
        axis.ticks().map(|(_, text)| text).collect()
    }

    #[test]
    fn axes_have_round_ticks() {
        let axis = Axis::new(0.713, 0.962, Some(1.0));
        assert_eq!(texts(&axis), ["0.70", "0.75", "0.80", "0.85", "0.90", "0.95", "1.00"]);
        let axis = Axis::new(-0.013, 0.021, None);
        assert_eq!(texts(&axis).first().unwrap(), "\u{2212}0.015");
        assert!(texts(&axis).contains(&"0.000".to_owned()));
        assert_eq!(Axis::new(f64::INFINITY, f64::NEG_INFINITY, None).ticks().count(), 6);
        assert_eq!(texts(&Axis::whole(50.0)), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(texts(&Axis::whole(2.0)), ["0", "1", "2"]);
        assert_eq!(texts(&Axis::new(0.0, 300_000.0, None)), ["0", "5e4", "1.0e5", "1.5e5", "2.0e5", "2.5e5", "3.0e5"]);
    }

    #[test]
    fn losses_that_explode_have_a_logarithmic_axis() {
        assert!(!Axis::of_losses([0.69, 0.2].into_iter()).logarithmic);
        let axis = Axis::of_losses([0.69, 141_494.0].into_iter());
        assert_eq!(texts(&axis), ["0.1", "1", "10", "100", "1000", "10000", "1e5", "1e6"]);
        assert!((axis.place(1000.0, (0.0, 7.0)) - 4.0).abs() < 1e-9);
        assert_eq!(texts(&Axis::of_losses([0.5, 1e38].into_iter())).last().unwrap(), "1e29");
    }

    #[test]
    fn any_values_have_few_ticks_and_places() {
        let values = [0.0, -0.0, 1e-308, 1e-9, 0.3, 1.0, 49.9, 1e5, 1e8, 2_147_483_647.0, 1e38, 1e300, f64::MAX];
        let all: Vec<f64> = values.iter().flat_map(|&value| [value, -value]).chain([f64::INFINITY, f64::NAN]).collect();
        for &a in &all {
            for &b in &all {
                for axis in [
                    Axis::new(a, b, None),
                    Axis::new(a, b, Some(1.0)),
                    Axis::whole(b.abs().min(1e10)),
                    Axis::of_losses([a, b].into_iter()),
                    Axis::spanning([a, b].into_iter()),
                ] {
                    let count = axis.ticks().count();
                    assert!(count <= 12, "{a} to {b}: {count} ticks");
                    assert!(axis.ticks().all(|(_, text)| text.len() < 16), "{:?}", texts(&axis));
                    for value in [a, b].into_iter().filter(|value| value.is_finite()) {
                        let place = axis.place(value, (0.0, 100.0));
                        assert!((-100.0..=200.0).contains(&place), "{value} of {a} to {b} is at {place}");
                    }
                }
            }
        }
    }
}
