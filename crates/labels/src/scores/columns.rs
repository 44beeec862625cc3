//! Which column of a table of scores is what.

use std::collections::BTreeMap;

use cxr::{Finding, OUTPUTS};

use crate::names::{image_name, stem};
use crate::rows::{Name, Names};
use crate::table::{Column, Error, Table, alike, blank, cell};

/// What a column of images is called, the most telling first; case, spaces, `_` and `-` do not matter.
const IMAGES: [&str; 12] = [
    "Image Index",
    "image_id",
    "image",
    "image_name",
    "image_path",
    "img",
    "img_name",
    "img_path",
    "filename",
    "filenames",
    "file_path",
    "path",
];

/// What a column of images may be called, and many others are: such a name counts only where the column's first cell is
/// an image file's name, or no other column's is.
const VAGUE: [&str; 3] = ["file", "name", "id"];

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

/// The column of images: the first that is called so; or else the first whose first cell is an image file's name, of
/// those with a [`VAGUE`] name before others; or else the first with such a name.
pub(super) fn image_column(table: &Table) -> Result<Column, Error> {
    if let Some(column) = IMAGES.iter().find_map(|name| table.find(&[name])) {
        return Ok(column);
    }
    let first = table.rows.first();
    let is_image = |column: &Column| {
        let text = first.map_or("", |(_, record)| cell(record, Some(column)));
        image_name(text).is_some_and(|name| stem(&name).is_some())
    };
    let vague: Vec<Column> = VAGUE.iter().filter_map(|name| table.find(&[name])).collect();
    let columns = table.header.iter().enumerate().map(|(index, name)| Column { index, name: name.clone() });
    let image = vague.iter().cloned().chain(columns).find(is_image);
    image
        .or_else(|| vague.first().cloned())
        .ok_or_else(|| Error::NoImageColumn { path: table.path(), got: table.columns() })
}

/// The columns of scores: those of the set that is `wanted`, or else of the one set that may hold scores. Columns of 0
/// and 1 are taken for labels or decisions, unless they are wanted.
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
    let may_be = |beside: &str, columns: &[(usize, Column)]| match wanted {
        Some(wanted) => beside == alike(wanted),
        None => !NO_SCORES.contains(&beside) && !only_flags(table, columns),
    };
    // What the columns hold comes first, then what they are called: truth has bare names, as scores have.
    let mut candidates: Vec<&String> =
        sets.iter().filter(|&(beside, columns)| may_be(beside, columns)).map(|(beside, _)| beside).collect();
    if candidates.len() > 1 && candidates.iter().any(|beside| SCORES.contains(&beside.as_str())) {
        candidates.retain(|beside| SCORES.contains(&beside.as_str()));
    }
    let [beside] = candidates[..] else {
        let sets = sets.values().filter_map(|columns| described(table, columns)).collect();
        return Err(Error::Sets { path: table.path(), sets, none: candidates.is_empty() });
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

/// The first column of a set, for messages; says of one that holds 0 and 1 alone why it is not taken.
fn described(table: &Table, columns: &[(usize, Column)]) -> Option<String> {
    let (_, Column { name, .. }) = columns.first()?;
    Some(match only_flags(table, columns) {
        true => format!("{name} (only 0 and 1: labels or decisions, unless `--columns` names them)"),
        false => name.clone(),
    })
}

/// Whether the columns hold 0 and 1 alone, beside empty cells.
fn only_flags(table: &Table, columns: &[(usize, Column)]) -> bool {
    let mut flags = 0_usize;
    for (_, record) in &table.rows {
        for (_, column) in columns {
            let text = cell(record, Some(column));
            match text.parse::<f64>() {
                // Before the numbers: NaN is one, and stands where a label is unknown.
                _ if blank(text) => {}
                Ok(0.0 | 1.0) => flags += 1,
                _ => return false,
            }
        }
    }
    flags > 0
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
