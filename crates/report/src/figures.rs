//! The figures, as [`Drawing`]s.

use cxr::metrics::{Metric, Ranking};
use cxr::{Finding, OUTPUTS, Split, output_names};
use plotters::style::{Color, RGBColor};
use tables::metrics::Row;

use crate::drawing::{Anchor, Drawing, GREY, INK};
use crate::results::{BRANCHES, Cohort, DIFFERENCES, MEAN, Results, title, undefined};

/// Colours of the branches (Okabe and Ito's palette, told apart by the colour-blind, on white and on black).
pub const COLOURS: [RGBColor; 3] = [RGBColor(0x2f, 0x86, 0xc6), RGBColor(0x00, 0x9e, 0x73), RGBColor(0xd5, 0x5e, 0x00)];

/// Curves are drawn to this part of a panel's side: finer steps are not seen and make large files.
const STEPS: f64 = 256.0;

/// ROC of every finding, the branches over one another.
pub fn roc(cohort: &Cohort, results: &Results, split: Split) -> Drawing {
    const COLUMNS: usize = 5;
    let (side, gap_x, gap_y, left, top) = (148.0, 26.0, 46.0, 44.0, 30.0);
    let rows = Finding::COUNT.div_ceil(COLUMNS) as f64;
    let width = left + COLUMNS as f64 * (side + gap_x);
    let height = top + rows * (side + gap_y) + 14.0;
    let mut drawing = Drawing::new(width as u32, height as u32);
    let names = output_names();
    for (output, name) in names.iter().enumerate().take(Finding::COUNT) {
        let column = (output % COLUMNS) as f64;
        let row = (output / COLUMNS) as f64;
        let (x0, y0) = (left + column * (side + gap_x), top + row * (side + gap_y));
        let at = |(fpr, tpr): (f64, f64)| (x0 + fpr * side, y0 + (1.0 - tpr) * side);
        drawing.bold((x0, y0 - 12.0), title(name), 13.0, Anchor::Left, INK);
        let auroc = |branch: &str| results.get(branch, name, Metric::Auroc.name(), split);
        let defined = BRANCHES.iter().filter_map(|branch| auroc(branch)).any(|row| row.value.is_some());
        for tick in [0.0, 0.5, 1.0] {
            let grid = GREY.mix(0.3);
            if defined || tick != 0.5 {
                drawing.line(vec![at((tick, 0.0)), at((tick, 1.0))], grid, 1.0);
                drawing.line(vec![at((0.0, tick)), at((1.0, tick))], grid, 1.0);
            }
            if column == 0.0 {
                let (x, y) = at((0.0, tick));
                drawing.text((x - 6.0, y), format!("{tick}"), 11.0, Anchor::Right, GREY);
            }
            let (x, y) = at((tick, 0.0));
            drawing.text((x, y + 10.0), format!("{tick}"), 11.0, Anchor::Middle, GREY);
        }
        if defined {
            drawing.line(vec![at((0.0, 0.0)), at((1.0, 1.0))], GREY.mix(0.6), 1.0);
        }
        for (branch, colour) in COLOURS.into_iter().enumerate() {
            let ranking = Ranking::of_output(&cohort.logits[branch], &cohort.labels, output);
            let Some(curve) = ranking.and_then(|ranking| ranking.roc_curve()) else { continue };
            drawing.line(thin(&curve).into_iter().map(at).collect(), colour, 1.6);
        }
        for (branch, colour) in COLOURS.into_iter().enumerate() {
            let Some(row) = auroc(BRANCHES[branch]) else { continue };
            let (x, y) = at((0.97, 0.31 - 0.115 * branch as f64));
            match row.value {
                Some(value) => drawing.bold((x, y), format!("{value:.3}"), 12.0, Anchor::Right, colour),
                None if branch == 1 => {
                    let (x, y) = at((0.5, 0.5));
                    drawing.text((x, y), undefined(row), 11.0, Anchor::Middle, GREY);
                }
                None => {}
            }
        }
    }
    // The legend takes the place of the fifteenth panel.
    let (x0, y0) = (left + 4.0 * (side + gap_x) + 14.0, top + 2.0 * (side + gap_y) + 24.0);
    for (branch, colour) in COLOURS.into_iter().enumerate() {
        let y = y0 + 22.0 * branch as f64;
        drawing.line(vec![(x0, y), (x0 + 22.0, y)], colour, 2.4);
        drawing.text((x0 + 30.0, y), BRANCHES[branch], 13.0, Anchor::Left, INK);
    }
    drawing.text((x0, y0 + 76.0), "across: 1 - specificity", 11.0, Anchor::Left, GREY);
    drawing.text((x0, y0 + 92.0), "up: sensitivity", 11.0, Anchor::Left, GREY);
    drawing.text((x0, y0 + 108.0), "numbers: AUROC", 11.0, Anchor::Left, GREY);
    drawing
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

/// AUROC of every finding and their mean with intervals, and the paired differences beside them.
pub fn forest(results: &Results, split: Split) -> Drawing {
    let names: Vec<&str> = output_names()[..Finding::COUNT].iter().copied().chain([MEAN, "no_finding"]).collect();
    let metric = Metric::Auroc.name();
    let rows = |branches: &[&str]| -> Vec<&Row> {
        let all = branches.iter().flat_map(|branch| names.iter().map(move |name| (branch, name)));
        all.filter_map(|(branch, name)| results.get(branch, name, metric, split)).collect()
    };
    let differences = DIFFERENCES.map(|(name, _, _)| name);
    let values = Axis::over(&rows(&BRANCHES), Some(1.0));
    let changes = Axis::over(&rows(&differences), None);

    let (row_height, top, label) = (34.0, 58.0, 150.0);
    let (left_width, gap, right_width) = (360.0, 40.0, 260.0);
    let (left, right) = (label, label + left_width + gap);
    let bottom = top + row_height * names.len() as f64;
    let width = right + right_width + 24.0;
    let mut drawing = Drawing::new(width as u32, (bottom + 30.0) as u32);

    drawing.bold((left, 14.0), "AUROC", 13.0, Anchor::Left, INK);
    legend(&mut drawing, (left, 36.0), &BRANCHES.map(str::to_owned), &COLOURS);
    drawing.bold((right, 14.0), "Paired difference", 13.0, Anchor::Left, INK);
    let pair_names = DIFFERENCES.map(|(_, a, b)| format!("{} \u{2212} {}", BRANCHES[a], BRANCHES[b]));
    let pair_colours = DIFFERENCES.map(|(_, _, other)| COLOURS[other]);
    legend(&mut drawing, (right, 36.0), &pair_names, &pair_colours);
    values.grid(&mut drawing, (left, left_width), (top, bottom));
    changes.grid(&mut drawing, (right, right_width), (top, bottom));
    if changes.low < 0.0 && changes.high > 0.0 {
        let x = changes.place(0.0, (right, right_width));
        drawing.line(vec![(x, top), (x, bottom)], INK, 1.2);
    }

    for (i, name) in names.iter().enumerate() {
        let y = top + row_height * (i as f64 + 0.5);
        if i == Finding::COUNT {
            let band = ((0.0, y - row_height / 2.0), (width, y + row_height / 2.0));
            drawing.rect(band.0, band.1, GREY.mix(0.13));
        }
        let text = title(name);
        match *name {
            MEAN => drawing.bold((label - 12.0, y), text, 13.0, Anchor::Right, INK),
            "no_finding" => drawing.text((label - 12.0, y), text, 13.0, Anchor::Right, GREY),
            _ => drawing.text((label - 12.0, y), text, 13.0, Anchor::Right, INK),
        }
        let mut band = |branches: &[&str], colours: &[RGBColor], axis: &Axis, at: (f64, f64)| {
            for (k, (branch, colour)) in branches.iter().zip(colours).enumerate() {
                let Some(row) = results.get(branch, name, metric, split) else { continue };
                let y = y + (k as f64 - (branches.len() - 1) as f64 / 2.0) * 8.0;
                match row.value {
                    Some(value) => {
                        if let (Some(low), Some(high)) = (row.ci_low, row.ci_high) {
                            let ends = vec![(axis.place(low, at), y), (axis.place(high, at), y)];
                            drawing.line(ends, colour.mix(0.75), 1.8);
                        }
                        drawing.dot((axis.place(value, at), y), 3.2, *colour);
                    }
                    None if k == 0 => {
                        let middle = (at.0 + at.1 / 2.0, y + 4.0 * (branches.len() - 1) as f64);
                        drawing.text(middle, undefined(row), 11.0, Anchor::Middle, GREY);
                    }
                    None => {}
                }
            }
        };
        band(&BRANCHES, &COLOURS, &values, (left, left_width));
        band(&differences, &pair_colours, &changes, (right, right_width));
    }
    drawing
}

fn legend(drawing: &mut Drawing, (x, y): (f64, f64), names: &[String], colours: &[RGBColor]) {
    let mut x = x;
    for (name, colour) in names.iter().zip(colours) {
        drawing.dot((x + 4.0, y), 4.0, *colour);
        drawing.text((x + 14.0, y), name.as_str(), 12.0, Anchor::Left, INK);
        x += 34.0 + 6.8 * name.chars().count() as f64;
    }
}

/// A linear axis with round ticks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Spans the values and intervals, and `end` at most; a nominal range where there is none.
    fn over(rows: &[&Row], end: Option<f64>) -> Axis {
        let spread = rows.iter().flat_map(|row| [row.value, row.ci_low, row.ci_high]).flatten();
        let (low, high) =
            spread.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        Axis::new(low, high, end)
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
        let count = ((self.high - self.low) / self.step).round() as usize;
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

/// One run of a sweep: its threshold, and the branches' mean AUROC.
#[derive(Debug, Clone)]
pub struct Swept {
    /// `attend.threshold`.
    pub threshold: f64,
    /// In the order of [`BRANCHES`].
    pub means: [Row; 3],
}

/// Mean AUROC against tau, with intervals. Points are in order of threshold.
pub fn sweep(points: &[Swept]) -> Drawing {
    let (width, height) = (620_u32, 380_u32);
    let (across, top, bottom) = ((64.0, 520.0), 56.0, 320.0);
    let mut drawing = Drawing::new(width, height);
    let rows: Vec<&Row> = points.iter().flat_map(|point| &point.means).collect();
    let up = Axis::over(&rows, Some(1.0));
    let taus = points.iter().map(|point| point.threshold);
    let (low, high) = taus.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), t| (l.min(t), h.max(t)));
    let along = Axis::new(low - 0.02, high + 0.02, None);
    let y_of = |value: f64| up.place(value, (bottom, top - bottom));

    drawing.bold((across.0, 14.0), "Mean AUROC over the 14 findings", 13.0, Anchor::Left, INK);
    legend(&mut drawing, (across.0, 36.0), &BRANCHES.map(str::to_owned), &COLOURS);
    for (tick, text) in up.ticks() {
        let y = y_of(tick);
        drawing.line(vec![(across.0, y), (across.0 + across.1, y)], GREY.mix(0.3), 1.0);
        drawing.text((across.0 - 8.0, y), text, 11.0, Anchor::Right, GREY);
    }
    along.grid(&mut drawing, across, (top, bottom));
    let middle = across.0 + across.1 / 2.0;
    drawing.text((middle, bottom + 38.0), "threshold \u{3c4} of the attention mask", 12.0, Anchor::Middle, INK);
    for (branch, colour) in COLOURS.into_iter().enumerate() {
        // Side by side, so that intervals of one threshold do not hide each other.
        let x_of = |tau: f64| along.place(tau, across) + (branch as f64 - 1.0) * 5.0;
        let mut line = Vec::new();
        for point in points {
            let row = &point.means[branch];
            let Some(value) = row.value else { continue };
            let x = x_of(point.threshold);
            if let (Some(low), Some(high)) = (row.ci_low, row.ci_high) {
                drawing.line(vec![(x, y_of(low)), (x, y_of(high))], colour.mix(0.6), 1.6);
            }
            drawing.dot((x, y_of(value)), 3.6, colour);
            line.push((x, y_of(value)));
        }
        if line.len() > 1 {
            drawing.line(line, colour, 1.4);
        }
    }
    drawing
}

/// Compile-time reminder that the fifteenth output has no panel.
const _: () = assert!(OUTPUTS == Finding::COUNT + 1);

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
