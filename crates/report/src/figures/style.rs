//! How series look, and what names them.

use cxr::Branch;
use plotters::style::RGBColor;

use crate::drawing::{Anchor, Drawing, INK, Shape};

/// How a series looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// From Okabe and Ito's palette, told apart by the colour-blind, on white and on black.
    pub(super) colour: RGBColor,
    /// Of its points.
    pub(super) shape: Shape,
    /// Lengths that are drawn and left out in turn, pixels; empty for a solid line.
    pub(super) dash: &'static [f64],
}

/// The look of a branch.
pub(super) fn style(branch: Branch) -> Style {
    match branch {
        Branch::Global => Style { colour: RGBColor(0x2f, 0x86, 0xc6), shape: Shape::Circle, dash: &[7.0, 3.0] },
        Branch::Local => Style { colour: RGBColor(0x00, 0x9e, 0x73), shape: Shape::Square, dash: &[2.0, 2.5] },
        Branch::Fusion => Style { colour: RGBColor(0xd5, 0x5e, 0x00), shape: Shape::Triangle, dash: &[] },
    }
}

/// Names and styles in a row from `(x, y)` on; with their lines, or their points only.
pub(super) fn legend(drawing: &mut Drawing, (mut x, y): (f64, f64), entries: &[(String, Style)], lines: bool) {
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
pub(super) fn branches() -> Vec<(String, Style)> {
    Branch::ALL.map(|branch| (branch.to_string(), style(branch))).into()
}
