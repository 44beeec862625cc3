//! The rows of the table as images, patients and splits.

use std::collections::BTreeMap;
use std::path::Path;

use cxr::{ImageRecord, Split};
use labels::Reading;
use labels::rows::{Columns, Counts, Names, Reader, Row};
use labels::table::{Error, Table, cell, short};

use super::tree::{Found, Tree, plain};

/// What a table says.
#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    /// One per image, sorted by `image_id`, which is the path of its file relative to the folder.
    pub records: Vec<ImageRecord>,
    /// What `prep.split_column` says of each; empty without such a column.
    pub splits: Vec<Option<Split>>,
    /// How many ages above [`labels::MAX_AGE_YEARS`] became `None`.
    pub impossible_ages: usize,
    /// What was taken, left out or made, one sentence each.
    pub notes: Vec<String>,
}

/// Reads a table of labels; `tree` has the files.
///
/// # Errors
/// No text, no rows; a column that a setting names and that is not there; a cell that cannot be read; a name that several
/// files have; two rows that differ about one image.
pub(crate) fn read(path: &Path, bytes: &[u8], tree: &Tree, reading: &Reading) -> Result<Rows, Error> {
    let table = Table::read(path, bytes)?;
    let names = Names::new(&reading.rename);
    let columns = Columns::of_settings(&table, &names, reading)?;
    let reader = Reader { table: &table, columns: &columns, names: &names, reading };
    let mut counts = Counts::default();
    let mut images: BTreeMap<String, (u64, Row)> = BTreeMap::new();
    for (line, record) in &table.rows {
        let image_id = image(&reader, *line, record, tree)?;
        let Some(row) = reader.row(*line, record, &mut counts)? else { continue };
        match images.get(&image_id) {
            None => {
                images.insert(image_id, (*line, row));
            }
            Some((_, other)) if *other == row => counts.repeated += 1,
            Some((first, _)) => {
                return Err(Error::Differ { path: path.to_owned(), line: *line, first: *first, image_id });
            }
        }
    }
    if images.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    let splits = if columns.split.is_some() { images.values().map(|(_, row)| row.split).collect() } else { Vec::new() };
    let rows = images.into_iter().map(|(image_id, (_, row))| (image_id, row)).collect();
    let (records, notes) = reader.records(rows, &counts);
    Ok(Rows { records, splits, impossible_ages: counts.impossible_ages, notes })
}

/// The path of the row's file; as the table has it where the file is not there.
fn image(reader: &Reader<'_>, line: u64, record: &csv::StringRecord, tree: &Tree) -> Result<String, Error> {
    let (table, column) = (reader.table, &reader.columns.image);
    let text = cell(record, Some(column));
    let name = plain(text).ok_or_else(|| table.bad(line, column, text, "the path or name of an image"))?;
    match tree.find(&name) {
        Found::File(path) => Ok(path),
        Found::Nothing => Ok(name),
        Found::Several(of) => Err(Error::Ambiguous { path: table.path(), line, image: short(&name), of }),
    }
}
