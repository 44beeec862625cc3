//! The label table.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use cxr::ImageRecord;

use crate::names::{image_name, known_by};
use crate::reading::Reading;
use crate::rows::{Columns, Counts, Findings, Names, Reader};
use crate::table::{Error, Table, blank, cell};

/// What a list of findings must be.
const FINDINGS: &str = "No Finding alone, or one or more, joined by |, of the 14 findings";

/// The label table: `Data_Entry_2017_v2020.csv`, `Data_Entry_2017.csv`, or `sample_labels.csv` of Kaggle's sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries {
    /// One per image, in the file's order.
    pub records: Vec<ImageRecord>,
    /// Images that the settings leave out, for their view.
    pub left_out: HashSet<String>,
    /// How many ages above [`crate::MAX_AGE_YEARS`] became `None`.
    pub impossible_ages: usize,
    /// What was left out or made, one sentence each.
    pub notes: Vec<String>,
}

/// Reads a label table. Image, findings and patient are needed; all other columns and cells may be absent.
///
/// An image is called as the table calls it, without folders before its name.
///
/// # Errors
/// A missing column; a cell that cannot be read; a finding outside the 14; an image on two lines; no rows.
pub fn entries(path: &Path, bytes: &[u8], reading: &Reading) -> Result<Entries, Error> {
    let table = Table::read(path, bytes)?;
    let columns = Columns::of_nih(&table)?;
    let names = Names::new(&reading.rename);
    let reader = Reader { table: &table, columns: &columns, names: &names, reading };
    let (mut rows, mut counts, mut left_out) = (Vec::new(), Counts::default(), HashSet::new());
    let mut lines: HashMap<String, u64> = HashMap::new();
    for (line, record) in &table.rows {
        let text = cell(record, Some(&columns.image));
        let image_id =
            image_name(text).ok_or_else(|| table.bad(*line, &columns.image, text, "the name of an image's file"))?;
        if let Some(first) = lines.insert(known_by(&image_id).to_owned(), *line) {
            return Err(Error::Duplicate { path: path.to_owned(), line: *line, first, image_id });
        }
        if let Findings::List(column) = &columns.findings
            && blank(cell(record, Some(column)))
        {
            return Err(table.bad(*line, column, cell(record, Some(column)), FINDINGS));
        }
        match reader.row(*line, record, &mut counts)? {
            Some(row) => rows.push((image_id, row)),
            None => {
                left_out.insert(image_id);
            }
        }
    }
    if rows.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    let (records, notes) = reader.records(rows, &counts);
    Ok(Entries { records, left_out, impossible_ages: counts.impossible_ages, notes })
}
