//! Scores beside NIH's labels.

use cxr::{ImageKey, OUTPUTS, Split};
use labels::names::known_by;
use labels::scores::Scores;
use tables::predictions::Row;

use super::truth::Truth;
use crate::Error;

/// A file of scores, as far as it is about images of the table.
#[derive(Debug)]
pub struct Imported {
    /// Sorted by `image_id`; all of them count as the model's test images. An output that has no scores has 0.
    pub rows: Vec<Row>,
    /// Which outputs have scores.
    pub scored: [bool; OUTPUTS],
    /// Images of the file that the label table lacks.
    pub foreign: usize,
    /// The first ten of them.
    pub first_foreign: Vec<String>,
    /// Images of the file that are left out because the list of test images lacks them.
    pub elsewhere: usize,
}

/// Joins the scores of `file` with the table, by image; with `official`, only images of the list of test images beside
/// the table.
///
/// # Errors
/// [`Error::NoOverlap`] where no image is left; [`Error::NoList`] where the official list is asked for and not there.
pub fn join(file: &str, scores: &Scores, truth: &Truth, official: bool) -> Result<Imported, Error> {
    let list = match (official, &truth.test) {
        (false, _) => None,
        (true, Some(list)) => Some(list),
        (true, None) => return Err(Error::NoList { table: truth.table.clone() }),
    };
    let (mut rows, mut foreign, mut elsewhere) = (Vec::with_capacity(scores.rows.len()), Vec::new(), 0);
    for (name, values) in &scores.rows {
        let Some(record) = truth.get(name) else {
            foreign.push(name.clone());
            continue;
        };
        if list.is_some_and(|list| !list.contains(known_by(&record.image_id))) {
            elsewhere += 1;
            continue;
        }
        let key = ImageKey {
            image_id: record.image_id.clone(),
            patient_id: record.patient_id,
            split: Split::Test,
            labels: record.labels,
        };
        let logit = |output: usize| if scores.scored[output] { scores.scale.logit(values[output]) } else { 0.0 };
        rows.push(Row { key, logits: std::array::from_fn(logit) });
    }
    if rows.is_empty() {
        return Err(Error::NoOverlap {
            file: format!("{file}, column {:?}", scores.image_column),
            images: scores.rows.len(),
            first: scores.rows.first().map(|(name, _)| name.clone()).unwrap_or_default(),
            table: truth.table.clone(),
            expected: truth.records.first().map(|record| record.image_id.clone()).unwrap_or_default(),
        });
    }
    rows.sort_unstable_by(|a, b| a.key.image_id.cmp(&b.key.image_id));
    let count = foreign.len();
    foreign.truncate(10);
    Ok(Imported { rows, scored: scores.scored, foreign: count, first_foreign: foreign, elsewhere })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_error_about_images_names_their_column() {
        let folder = tempfile::tempdir().unwrap();
        let table = "Image Index,Finding Labels,Patient ID\n00000001_000.png,Mass,1\n";
        fs_err::write(folder.path().join("Data_Entry_2017.csv"), table).unwrap();
        let truth = Truth::read(folder.path(), None).unwrap();
        let text = "id,Mass\n7,0.5\n8,0.25\n";
        let scores = labels::scores::scores(Path::new("preds.csv"), text.as_bytes(), None).unwrap();
        assert_eq!(
            join("preds.csv", &scores, &truth, false).unwrap_err().to_string(),
            "preds.csv, column \"id\": none of its 2 images is in Data_Entry_2017.csv; the first: 7, expected names \
             such as 00000001_000.png"
        );
    }
}
