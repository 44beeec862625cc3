//! From cells to labels.

use cxr::{Finding, Labels};

use super::names::{Name, Names};
use crate::reading::{Blank, Reading, Uncertain};
use crate::table::{Column, blank};

/// What a column says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Whether it shows a finding.
    Finding(Finding),
    /// Whether it shows none.
    NoFinding,
}

/// What to expect of a cell about one finding.
pub(super) const CELL: &str = "1, 0, -1 (uncertain), True, False or nothing";

/// What to expect of a list of findings.
pub(super) const LIST: &str = "names of the 14 findings, or No Finding alone; prep.rename says what other names mean";

/// A cell about one finding, by the policies for uncertain and empty ones; the outer `None` where it is none.
pub(super) fn cell(text: &str, reading: &Reading) -> Option<Option<bool>> {
    if blank(text) {
        return Some(match reading.blank {
            Blank::Unknown => None,
            Blank::Negative => Some(false),
        });
    }
    match text.to_ascii_lowercase().as_str() {
        "true" => return Some(Some(true)),
        "false" => return Some(Some(false)),
        _ => {}
    }
    let number: f64 = text.parse().ok()?;
    match number {
        1.0 => Some(Some(true)),
        0.0 => Some(Some(false)),
        -1.0 => Some(match reading.uncertain {
            Uncertain::Unknown => None,
            Uncertain::Positive => Some(true),
            Uncertain::Negative => Some(false),
        }),
        _ => None,
    }
}

/// The labels of a row with one column per finding; else the column whose cell cannot be read, and that cell.
pub(super) fn by_column<'r>(
    columns: &'r [(Column, Meaning)],
    record: &'r csv::StringRecord,
    reading: &Reading,
) -> Result<Labels, (&'r Column, &'r str)> {
    let mut labels = Labels::UNKNOWN;
    let mut none = false;
    for (column, meaning) in columns {
        let text = crate::table::cell(record, Some(column));
        let shown = cell(text, reading).ok_or((column, text))?;
        match meaning {
            Meaning::Finding(finding) => labels.set(*finding, shown),
            Meaning::NoFinding => none = shown == Some(true),
        }
    }
    // "No Finding" speaks for the cells that say nothing, never against one that does.
    if none {
        for (column, meaning) in columns {
            if let Meaning::Finding(finding) = meaning
                && blank(crate::table::cell(record, Some(column)))
            {
                labels.set(*finding, Some(false));
            }
        }
    }
    Ok(labels)
}

/// The labels of a list of findings; `None` where it names what is no finding.
pub(super) fn by_list(text: &str, names: &Names, reading: &Reading) -> Option<Labels> {
    if blank(text) {
        return Some(match reading.blank {
            Blank::Unknown => Labels::UNKNOWN,
            Blank::Negative => Labels::default(),
        });
    }
    let (mut labels, mut none) = (Labels::default(), false);
    // Lists as Python prints them lose their brackets and quotes.
    let text = text.trim_matches(['[', ']']);
    for part in text.split(|c| reading.separators.contains(c)) {
        let part = part.trim_matches([' ', '\t', '\'', '"']);
        if part.is_empty() {
            continue;
        }
        match names.get(part)? {
            Name::Finding(finding) => labels.set(finding, Some(true)),
            Name::NoFinding => none = true,
            Name::LeftOut => {}
        }
    }
    (!none || labels == Labels::default()).then_some(labels)
}
