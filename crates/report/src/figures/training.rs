//! Losses and validation AUROC of every epoch.

use cxr::Branch;
use plotters::style::Color;
use tables::epochs;

use super::axis::Axis;
use super::style::style;
use crate::drawing::{Anchor, Drawing, GREY, INK};

/// A column per stage: training (dashed) and validation loss above, validation mean AUROC below; a vertical line at the
/// epoch whose weights were published.
pub(super) fn training(stages: &[Vec<epochs::Row>; 3]) -> Drawing {
    let (side, gap, left) = (230.0, 62.0, 54.0);
    let panels = [(56.0, 196.0), (256.0, 396.0)];
    let mut drawing = Drawing::new((left + 3.0 * side + 2.0 * gap + 16.0) as u32, 440);
    for (branch, rows) in Branch::ALL.into_iter().zip(stages) {
        let across = (left + f64::from(branch as u8) * (side + gap), side);
        let style = style(branch);
        drawing.bold((across.0, 14.0), branch.name(), 13.0, Anchor::Left, INK);
        let last = rows.last().map_or(1, |row| row.epoch).max(2);
        let along = Axis::whole(f64::from(last));
        let of = |value: fn(&epochs::Row) -> Option<f64>| -> Vec<(f64, f64)> {
            rows.iter().filter_map(|row| Some((f64::from(row.epoch), value(row)?))).collect()
        };
        let losses = [of(|row| Some(row.train_loss)), of(|row| row.validation_loss)];
        let aurocs = [of(|row| row.validation_auroc)];
        let dashes: [&[f64]; 2] = [&[5.0, 3.0], &[]];
        let axes: [fn(&[f64]) -> Axis; 2] =
            [|values| Axis::of_losses(values.iter().copied()), |values| Axis::over_values(values.iter().copied())];
        for ((top, bottom), (series, names, dashes, axis)) in panels.into_iter().zip([
            (&losses[..], "loss: training - - , validation", &dashes[..], axes[0]),
            (&aurocs[..], "validation mean AUROC", &dashes[1..], axes[1]),
        ]) {
            let values: Vec<f64> = series.iter().flatten().map(|point| point.1).collect();
            let up = axis(&values);
            let y_of = |value: f64| up.place(value, (bottom, top - bottom));
            drawing.text((across.0, top - 16.0), names, 11.0, Anchor::Left, GREY);
            for (tick, text) in up.ticks() {
                drawing.line(vec![(across.0, y_of(tick)), (across.0 + side, y_of(tick))], GREY.mix(0.3), 1.0);
                drawing.text((across.0 - 6.0, y_of(tick)), text, 11.0, Anchor::Right, GREY);
            }
            along.grid(&mut drawing, across, (top, bottom));
            for best in rows.iter().filter(|row| row.best) {
                let x = along.place(f64::from(best.epoch), across);
                drawing.line(vec![(x, top), (x, bottom)], GREY, 1.2);
            }
            for (series, dash) in series.iter().zip(dashes) {
                let points: Vec<_> = series.iter().map(|&(x, y)| (along.place(x, across), y_of(y))).collect();
                drawing.dashed(&points, style.colour, 1.8, dash);
                if let [only] = points[..] {
                    drawing.marker(only, 3.0, style.shape, style.colour);
                }
            }
        }
        drawing.text((across.0 + side / 2.0, 428.0), "epoch", 12.0, Anchor::Middle, INK);
    }
    drawing
}
