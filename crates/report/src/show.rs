//! One image in the terminal.

use std::fmt::Write;

use cxr::Branch;
use cxr::metrics::Scope;
use cxr::metrics::calibration::sigmoid;
use tables::{images, predictions};

use crate::localisation::Attended;
use crate::results::title;

/// What the tables know about an image: where it comes from, where the attended region lies, and the probabilities of
/// every branch (`rows`, in the order of [`Branch::ALL`]), with a `*` where the finding is reported, a `?` where nobody
/// knows, and a `-` where the branch has not run yet. `thresholds` are fusion's by Youden, where there is a report;
/// `control` says so where the region is one.
pub fn text(
    attended: &Attended,
    rows: [Option<&predictions::Row>; 3],
    thresholds: &dyn Fn(Scope) -> Option<f64>,
    control: Option<&str>,
) -> String {
    let images::Row { record, split, boxes, .. } = attended.image;
    let mut text = format!("{}  ({split}, {})\n", record.image_id, attended.image.path);
    let unknown = || "unknown".to_owned();
    let _ = writeln!(
        text,
        "patient {}, follow-up {}, age {}, sex {}, view {}",
        record.patient_id,
        record.follow_up.map_or_else(unknown, |number| number.to_string()),
        record.age_years.map_or_else(unknown, |age| age.to_string()),
        record.sex.map_or_else(unknown, |sex| sex.name().to_owned()),
        record.view_position.map_or_else(unknown, |view| view.name().to_owned()),
    );
    let _ = writeln!(text, "findings: {}", record.labels);
    let region = attended.region;
    let at = |bbox: &cxr::BBox| {
        format!("x {:.0} to {:.0}, y {:.0} to {:.0} px", bbox.x_min, bbox.x_max, bbox.y_min, bbox.y_max)
    };
    let fallback = if region.fallback { " (the whole image: nothing exceeded the threshold)" } else { "" };
    let name = if control.is_some() { "control region" } else { "attended region" };
    let _ = writeln!(text, "{name}: {}{fallback}, threshold {}", at(&region.bbox), region.threshold);
    if let Some(control) = control {
        let _ = writeln!(text, "a control: {control}");
    }
    for drawn in boxes {
        let overlap = region.bbox.iou(&drawn.bbox);
        let name = title(drawn.finding);
        let _ = writeln!(text, "drawn box: {name}, {}, IoU with the region {overlap:.2}", at(&drawn.bbox));
    }
    let header = Branch::ALL.map(|branch| format!("{:>9}", branch.name())).concat();
    let _ = writeln!(text, "\n{:<22}{header}  fusion's threshold", "probability");
    let truth = record.labels.outputs();
    for (output, scope) in Scope::outputs().into_iter().enumerate() {
        let mark = match truth[output] {
            Some(true) => "*",
            Some(false) => " ",
            None => "?",
        };
        let probabilities = rows.map(|row| row.map(|row| sigmoid(f64::from(row.logits[output]))));
        let cells = probabilities.map(|p| p.map_or(format!("{:>9}", "-"), |p| format!("{p:>9.3}"))).concat();
        let verdict = match (thresholds(scope), probabilities[Branch::Fusion as usize]) {
            (Some(level), Some(p)) => format!("  {level:.3}{}", if p >= level { "  called" } else { "" }),
            _ => String::new(),
        };
        let _ = writeln!(text, "{mark} {:<20}{cells}{verdict}", title(scope));
    }
    let explained =
        if truth.contains(&None) { "* reported in the label, ? not known\n" } else { "* reported in the label\n" };
    text + explained
}
