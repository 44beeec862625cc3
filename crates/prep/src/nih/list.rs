//! Lists of images.

use std::collections::HashMap;
use std::path::Path;

use cxr::split::List;
use cxr::{Finding, Labels};

use super::error::Error;
use super::table::{png_name, short};

/// A list of images, with the labels that some lists carry.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The names, and the path for messages.
    pub list: List,
    /// The labels beside each name; empty for a list of bare names.
    pub labels: Vec<Labels>,
}

/// Reads a list: one image per line, bare (`train_val_list.txt`) or followed by 14 flags in NIH's order, or by 15 with
/// No Finding last (`00000003_000.png 0 0 1 ...`, as arnoweng/CheXNet and its descendants ship). Folders before the
/// name are dropped.
///
/// # Errors
/// A line of another form; bare names mixed with labelled ones; an image on two lines; no lines.
pub fn list(path: &Path, bytes: &[u8]) -> Result<Listed, Error> {
    let name = path.display().to_string();
    let mut listed = Listed { list: List { name, image_ids: Vec::new() }, labels: Vec::new() };
    let mut lines: HashMap<&str, u64> = HashMap::new();
    let mut text = std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count() as u64;
        Error::NotText { path: path.to_owned(), line }
    })?;
    text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, row) in (1..).zip(text.lines()) {
        let bad = |column, value: &str, expected: &str| Error::Value {
            path: path.to_owned(),
            line,
            column,
            value: short(value),
            expected: expected.to_owned(),
        };
        let mut words = row.split([' ', '\t', ',']).map(str::trim).filter(|word| !word.is_empty());
        let Some(word) = words.next() else { continue };
        let image_id = png_name(word.rsplit('/').next().unwrap_or(word))
            .ok_or_else(|| bad("image", word, "the name of a PNG file"))?;
        if let Some(first) = lines.insert(image_id, line) {
            let image_id = image_id.to_owned();
            return Err(Error::Duplicate { path: path.to_owned(), line, first, image_id });
        }
        let flags: Vec<&str> = words.collect();
        if !flags.is_empty() {
            let labels =
                flagged(&flags).ok_or_else(|| bad("labels", &flags.join(" "), "14 or 15 flags, each 0 or 1"))?;
            listed.labels.push(labels);
        }
        listed.list.image_ids.push(image_id.to_owned());
        if !listed.labels.is_empty() && listed.labels.len() != listed.list.image_ids.len() {
            return Err(bad("labels", row, "flags on every line or on none"));
        }
    }
    if listed.list.image_ids.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    Ok(listed)
}

fn flagged(flags: &[&str]) -> Option<Labels> {
    if ![Finding::COUNT, Finding::COUNT + 1].contains(&flags.len()) {
        return None;
    }
    let mut labels = Labels::default();
    for (i, flag) in flags.iter().enumerate() {
        match (*flag, Finding::ALL.get(i)) {
            ("1", Some(&finding)) => labels.set(finding, Some(true)),
            ("0" | "1", _) => {}
            _ => return None,
        }
    }
    Some(labels)
}
