//! Which column of a table of scores is what.

use std::collections::BTreeMap;

use cxr::{Finding, OUTPUTS};

use crate::names::{image_name, stem};
use crate::rows::{Name, Names};
use crate::table::{Column, Error, Table, alike, cell};

/// What a column of images is called, the most telling first.
const IMAGES: [&str; 12] = [
    "Image Index",
    "image_id",
    "image",
    "image name",
    "img",
    "img name",
    "filename",
    "file name",
    "file",
    "path",
    "name",
    "id",
];

/// What stands beside findings in the names of columns that hold scores; nothing is one of them.
const SCORES: [&str; 20] = [
    "",
    "prob",
    "probs",
    "proba",
    "probability",
    "p",
    "pred",
    "preds",
    "prediction",
    "predictions",
    "predicted",
    "score",
    "scores",
    "logit",
    "logits",
    "output",
    "outputs",
    "sigmoid",
    "ypred",
    "yscore",
];

/// What stands there in the names of columns that hold the truth, or decisions.
const NO_SCORES: [&str; 17] = [
    "label",
    "labels",
    "true",
    "truth",
    "target",
    "targets",
    "gt",
    "y",
    "ytrue",
    "actual",
    "bi",
    "binary",
    "groundtruth",
    "call",
    "verdict",
    "threshold",
    "class",
];

/// More names of findings than tables of labels have.
const MORE: [(&str, Finding); 4] = [
    ("Pleural Thickening", Finding::PleuralThickening),
    ("Pleural Thicken", Finding::PleuralThickening),
    ("Infiltrates", Finding::Infiltration),
    ("Oedema", Finding::Edema),
];

/// The columns that are read.
pub(super) struct Chosen {
    /// Place among the outputs and column, in output order.
    pub(super) columns: Vec<(usize, Column)>,
    /// Names of columns that nothing reads.
    pub(super) ignored: Vec<String>,
}

/// The column of images: the first that is called so, or else the first whose first cell is an image file's name.
pub(super) fn image_column(table: &Table) -> Result<Column, Error> {
    if let Some(column) = IMAGES.iter().find_map(|name| table.find(&[name])) {
        return Ok(column);
    }
    let first = table.rows.first();
    let is_image = |column: &Column| {
        let text = first.map_or("", |(_, record)| cell(record, Some(column)));
        image_name(text).is_some_and(|name| stem(&name).is_some())
    };
    let mut columns = table.header.iter().enumerate().map(|(index, name)| Column { index, name: name.clone() });
    columns.find(is_image).ok_or_else(|| Error::NoImageColumn { path: table.path(), got: table.columns() })
}

/// The columns of scores.
pub(super) fn choose(table: &Table, image: &Column, wanted: Option<&str>) -> Result<Chosen, Error> {
    let names = Names::new(&BTreeMap::new());
    // By what stands beside the finding.
    let mut sets: BTreeMap<String, Vec<(usize, Column)>> = BTreeMap::new();
    for (index, name) in table.header.iter().enumerate().filter(|(index, _)| *index != image.index) {
        if let Some((beside, output)) = output(&names, name) {
            sets.entry(beside).or_default().push((output, Column { index, name: name.clone() }));
        }
    }
    if sets.is_empty() {
        return Err(Error::NoScores { path: table.path(), got: table.columns() });
    }
    let mut candidates: Vec<&String> = match wanted {
        Some(wanted) => sets.keys().filter(|beside| **beside == alike(wanted)).collect(),
        None => sets.keys().filter(|beside| !NO_SCORES.contains(&beside.as_str())).collect(),
    };
    // Names that stand beside scores are better than others; bare names of columns of 0 and 1 are labels.
    if candidates.len() > 1 && candidates.iter().any(|beside| SCORES.contains(&beside.as_str())) {
        candidates.retain(|beside| SCORES.contains(&beside.as_str()));
    }
    if candidates.len() > 1 && sets.get("").is_some_and(|bare| only_flags(table, bare)) {
        candidates.retain(|beside| !beside.is_empty());
    }
    let [beside] = candidates[..] else {
        let sets = sets.values().filter_map(|columns| columns.first()).map(|(_, column)| column.name.clone());
        return Err(Error::Sets { path: table.path(), sets: sets.collect(), none: candidates.is_empty() });
    };
    let mut columns = sets[beside].clone();
    columns.sort_by_key(|(output, column)| (*output, column.index));
    if let Some(pair) = columns.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::TwoColumns {
            path: table.path(),
            first: pair[0].1.name.clone(),
            second: pair[1].1.name.clone(),
            finding: cxr::output_names()[pair[0].0].to_owned(),
        });
    }
    let read = |index: &usize| *index == image.index || columns.iter().any(|(_, column)| column.index == *index);
    let ignored = table.header.iter().enumerate().filter(|(index, name)| !read(index) && !name.is_empty());
    let ignored = ignored.map(|(_, name)| name.clone()).collect();
    Ok(Chosen { columns, ignored })
}

/// Whether the columns hold 0 and 1 alone.
fn only_flags(table: &Table, columns: &[(usize, Column)]) -> bool {
    let flag = |text: &str| matches!(text.parse::<f64>(), Ok(0.0 | 1.0));
    table.rows.iter().all(|(_, record)| columns.iter().all(|(_, column)| flag(cell(record, Some(column)))))
}

/// The output that a column is about, and what stands beside its name; `None` where it names none. Of several names the
/// longest counts.
fn output(names: &Names, column: &str) -> Option<(String, usize)> {
    let apart = column.contains(['_', '-', '.', ' ']);
    let column = alike(column);
    let known = |name: &str| match names.get(name) {
        Some(Name::Finding(finding)) => Some(finding.index()),
        Some(Name::NoFinding) => Some(OUTPUTS - 1),
        _ => MORE.iter().find(|(more, _)| alike(more) == name).map(|(_, finding)| finding.index()),
    };
    let at = |end: usize| column.is_char_boundary(end);
    let ends = (0..column.len()).filter(|&start| at(start)).map(|start| (&column[start..], &column[..start]));
    let starts = (1..column.len()).rev().filter(|&end| at(end)).map(|end| (&column[..end], &column[end..]));
    // What is no usual word must stand apart: `resnet_Mass`, but not `Massive`.
    let usual = |beside: &str| apart || SCORES.contains(&beside) || NO_SCORES.contains(&beside);
    let found = |(name, beside): (&str, &str)| Some((beside.to_owned(), known(name).filter(|_| usual(beside))?));
    ends.filter_map(found).next().or_else(|| starts.filter_map(found).next())
}
