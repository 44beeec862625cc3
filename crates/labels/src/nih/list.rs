//! Lists of images.

use std::collections::HashMap;
use std::path::Path;

use cxr::split::List;
use cxr::{Finding, Labels};

use crate::names::{ENDINGS, image_name, known_by, stem};
use crate::table::{Error, Limits, alike, decode, short};

/// A list of images, with the labels that some lists carry.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The names, and the path for messages.
    pub list: List,
    /// The labels beside each name; empty for a list of bare names.
    pub labels: Vec<Labels>,
}

impl Listed {
    /// Calls images otherwise, and leaves those out for which there is no name.
    pub fn rename(&mut self, mut called: impl FnMut(&str) -> Option<String>) {
        let names = std::mem::take(&mut self.list.image_ids);
        let mut labels = std::mem::take(&mut self.labels).into_iter();
        for name in names {
            let labels = labels.next();
            if let Some(name) = called(&name) {
                self.list.image_ids.push(name);
                self.labels.extend(labels);
            }
        }
    }
}

/// The longest line that is believed, bytes.
const LONGEST: usize = 4096;

/// What a line above the names is called.
const HEADERS: [&str; 8] = ["imageindex", "image", "imageid", "imagename", "filename", "file", "name", "path"];

/// Reads a list: one image per line, bare (`train_val_list.txt`) or followed by 14 flags in NIH's order, or by 15 with
/// No Finding last (`00000003_000.png 0 0 1 ...`, as arnoweng/CheXNet and its descendants ship). Folders before the
/// name are dropped, with `/` or `\`; names may be quoted and may have spaces; a line above them is passed over.
///
/// # Errors
/// A line of another form; bare names mixed with labelled ones; an image on two lines; no lines.
pub fn list(path: &Path, bytes: &[u8]) -> Result<Listed, Error> {
    let text = decode(path, bytes, Limits::DATASET.bytes)?;
    let name = path.display().to_string();
    let mut listed = Listed { list: List { name, image_ids: Vec::new() }, labels: Vec::new() };
    let mut lines: HashMap<String, u64> = HashMap::new();
    for (line, row) in (1..).zip(text.lines()) {
        let bad = |column: &str, value: &str, expected: &str| Error::Value {
            path: path.to_owned(),
            line,
            column: column.to_owned(),
            value: short(value),
            expected: expected.to_owned(),
        };
        if row.trim().is_empty() {
            continue;
        }
        if row.len() > LONGEST {
            return Err(bad("image", row, "a line per image"));
        }
        let (name, rest) = split(row.trim());
        if lines.is_empty() && HEADERS.contains(&alike(name).as_str()) {
            continue;
        }
        let image_id = image_name(name).ok_or_else(|| bad("image", name, "the name of an image's file"))?;
        if let Some(first) = lines.insert(known_by(&image_id).to_owned(), line) {
            return Err(Error::Duplicate { path: path.to_owned(), line, first, image_id });
        }
        let flags: Vec<&str> = rest
            .split([' ', '\t', ',', ';'])
            .map(|flag| flag.trim_matches('"'))
            .filter(|flag| !flag.is_empty())
            .collect();
        if !flags.is_empty() {
            let labels =
                flagged(&flags).ok_or_else(|| bad("labels", &flags.join(" "), "14 or 15 flags, each 0 or 1"))?;
            listed.labels.push(labels);
        }
        listed.list.image_ids.push(image_id);
        if !listed.labels.is_empty() && listed.labels.len() != listed.list.image_ids.len() {
            return Err(bad("labels", row, "flags on every line or on none"));
        }
    }
    if listed.list.image_ids.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    Ok(listed)
}

/// A line's name, and what stands behind it.
fn split(row: &str) -> (&str, &str) {
    if let Some((name, rest)) = row.strip_prefix('"').and_then(|row| row.split_once('"')) {
        return (name.trim(), rest);
    }
    // A name may have spaces, so that its end is looked for first.
    let is_end = |at: usize| row[at..].chars().next().is_none_or(|c| [' ', '\t', ',', ';'].contains(&c));
    let ends = (0..=row.len()).filter(|&at| row.is_char_boundary(at) && is_end(at));
    let with_ending = |end: usize| {
        let shortest = row[..end].rsplit_once('.').map_or(0, |(_, ending)| ending.len());
        (1..=ENDINGS[4].len()).contains(&shortest) && stem(&row[..end]).is_some()
    };
    if let Some(end) = ends.into_iter().find(|&end| with_ending(end)) {
        return row.split_at(end);
    }
    // No ending: up to a separator, or else all that is no row of flags.
    if let Some(end) = row.find([',', ';', '\t']) {
        return (row[..end].trim(), &row[end..]);
    }
    let flags = row.split(' ').rev().take_while(|word| ["", "0", "1"].contains(word)).map(|word| word.len() + 1);
    let (words, bytes) = flags.fold((0, 0), |(words, bytes), len| (words + usize::from(len > 1), bytes + len));
    if words < Finding::COUNT || bytes >= row.len() { (row, "") } else { row.split_at(row.len() - bytes) }
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
