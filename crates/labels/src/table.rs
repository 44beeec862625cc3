//! Tables as texts: rows of cells, whatever encodes and separates them.

mod error;
mod text;

use std::path::{Path, PathBuf};

pub use error::Error;
pub use text::decode;

/// How much of a table of others is believed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of text, unpacked.
    pub bytes: u64,
    /// Rows.
    pub rows: usize,
    /// Cells of a row.
    pub cells: usize,
}

impl Limits {
    /// Of a table that somebody chose to train on: some ten million rows.
    pub const DATASET: Limits = Limits { bytes: 1 << 30, rows: usize::MAX, cells: usize::MAX };
}

/// A table in memory.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    /// The first line.
    pub header: Vec<String>,
    /// Line of each row, from 1, and its cells.
    pub rows: Vec<(u64, csv::StringRecord)>,
}

/// Bytes of a cell, on average, in a row that is believed.
const LONGEST_CELL: usize = 64;

/// A column: its place and its name in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its place, from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
}

impl Table {
    /// Reads a table that has a row.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Table, Error> {
        let table = Table::read_empty(path, bytes)?;
        if table.rows.is_empty() { Err(Error::NoRows { path: table.path }) } else { Ok(table) }
    }

    /// Reads a table that may have a header alone.
    pub fn read_empty(path: &Path, bytes: &[u8]) -> Result<Table, Error> {
        Table::within(path, bytes, Limits::DATASET)
    }

    /// As [`Table::read_empty`], of a table that may be anything.
    ///
    /// # Errors
    /// No text, no header; more than `limits`.
    pub fn within(path: &Path, bytes: &[u8], limits: Limits) -> Result<Table, Error> {
        let text = decode(path, bytes, limits.bytes)?;
        let too_many = |what: &str, most: usize| Error::Unreadable {
            path: path.to_owned(),
            problem: format!("more than {most} {what}: no table of images"),
        };
        // A row takes eight bytes for each of its cells, before it can be counted.
        if text.lines().any(|line| line.len() > limits.cells.saturating_mul(LONGEST_CELL)) {
            return Err(too_many("characters in a row", limits.cells.saturating_mul(LONGEST_CELL)));
        }
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .delimiter(separator(&text))
            .from_reader(text.as_bytes());
        let mut rows = Vec::new();
        // Lines are counted here: the reader's count is that of the end of the record before.
        let (mut line, mut before) = (1, 0);
        for record in reader.records() {
            let record =
                record.map_err(|error| Error::Unreadable { path: path.to_owned(), problem: error.to_string() })?;
            if record.len() > limits.cells {
                return Err(too_many("cells in a row", limits.cells));
            }
            if rows.len() > limits.rows {
                return Err(too_many("rows", limits.rows));
            }
            let byte = record.position().map_or(0, csv::Position::byte);
            let mut start = usize::try_from(byte).unwrap_or(usize::MAX).min(text.len());
            while text.as_bytes().get(start) == Some(&b'\n') {
                start += 1;
            }
            line += text.as_bytes()[before..start].iter().filter(|&&byte| byte == b'\n').count() as u64;
            before = start;
            if record.iter().any(|cell| !cell.is_empty()) {
                rows.push((line, record));
            }
        }
        if rows.is_empty() {
            return Err(Error::NoRows { path: path.to_owned() });
        }
        let header = rows.remove(0).1.iter().map(str::to_owned).collect();
        Ok(Table { path: path.to_owned(), header, rows })
    }

    /// The column that the setting `key` names; `None` where it names none.
    pub fn named(&self, key: &'static str, name: &str) -> Result<Option<Column>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        let index = self.header.iter().position(|cell| alike(cell) == alike(name));
        let found = index.map(|index| Column { index, name: self.header[index].clone() });
        found.map(Some).ok_or_else(|| Error::NoColumn {
            path: self.path.clone(),
            key,
            column: name.to_owned(),
            got: self.columns(),
        })
    }

    /// The column with one of these names.
    pub fn find(&self, names: &[&str]) -> Option<Column> {
        let index = self.header.iter().position(|cell| names.iter().any(|name| alike(cell) == alike(name)))?;
        Some(Column { index, name: self.header[index].clone() })
    }

    /// As [`Table::find`]; the first name is the usual one.
    pub fn needed(&self, names: &[&'static str]) -> Result<Column, Error> {
        self.find(names).ok_or_else(|| Error::Lacks {
            path: self.path.clone(),
            column: names[0],
            got: short(&self.header.join(",")),
        })
    }

    /// The names of all columns, for messages.
    pub fn columns(&self) -> String {
        short(&self.header.join(", "))
    }

    /// The error of a cell that cannot be read.
    pub fn bad(&self, line: u64, column: &Column, value: &str, expected: &str) -> Error {
        Error::Value {
            path: self.path.clone(),
            line,
            column: column.name.clone(),
            value: short(value),
            expected: expected.to_owned(),
        }
    }

    /// Where the table lies, for messages.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

/// A row's text in a column; empty where there is no such column or the row ends before it.
pub fn cell<'r>(record: &'r csv::StringRecord, column: Option<&Column>) -> &'r str {
    column.and_then(|column| record.get(column.index)).unwrap_or("")
}

/// Names without what people write differently: case, spaces, `_` and `-`.
pub fn alike(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Whether a cell says that there is nothing: empty, or as pandas, R and spreadsheets write a missing value.
pub fn blank(cell: &str) -> bool {
    cell.is_empty() || ["nan", "na", "n/a", "none", "null", "<na>"].iter().any(|word| cell.eq_ignore_ascii_case(word))
}

/// Of comma, semicolon and tab, what the first line has most of outside quotes.
fn separator(text: &str) -> u8 {
    let first = text.trim_start_matches('\n').lines().next().unwrap_or("");
    let mut quoted = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    for byte in first.bytes() {
        quoted ^= byte == b'"';
        for (separator, count) in &mut counts {
            *count += usize::from(!quoted && byte == *separator);
        }
    }
    // Of equals the last one wins, hence the order.
    counts.into_iter().rev().max_by_key(|&(_, count)| count).map_or(b',', |(separator, _)| separator)
}

/// The beginning of a text, for messages.
pub fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
