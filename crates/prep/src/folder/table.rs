//! Rows of cells, whatever separates them.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::text::decode;

/// A table in memory.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    /// The first line.
    pub(super) header: Vec<String>,
    /// Line of each row, from 1, and its cells.
    pub(super) rows: Vec<(u64, csv::StringRecord)>,
}

/// A column: its place and its name in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) index: usize,
    pub(super) name: String,
}

impl Table {
    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Table, Error> {
        let text = decode(path, bytes)?;
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
        if rows.len() < 2 {
            return Err(Error::NoRows { path: path.to_owned() });
        }
        let header = rows.remove(0).1.iter().map(str::to_owned).collect();
        Ok(Table { path: path.to_owned(), header, rows })
    }

    /// The column that the setting `key` names; `None` where it names none.
    pub(super) fn named(&self, key: &'static str, name: &str) -> Result<Option<Column>, Error> {
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

    /// The names of all columns, for messages.
    pub(super) fn columns(&self) -> String {
        short(&self.header.join(", "))
    }

    pub(super) fn bad(&self, line: u64, column: &Column, value: &str, expected: &str) -> Error {
        Error::Value {
            path: self.path.clone(),
            line,
            column: column.name.clone(),
            value: short(value),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

/// A row's text in a column; empty where there is no such column or the row ends before it.
pub(super) fn cell<'r>(record: &'r csv::StringRecord, column: Option<&Column>) -> &'r str {
    column.and_then(|column| record.get(column.index)).unwrap_or("")
}

/// Names without what people write differently: case, spaces, `_` and `-`.
pub(super) fn alike(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Whether a cell says that there is nothing: empty, or as pandas, R and spreadsheets write a missing value.
pub(super) fn blank(cell: &str) -> bool {
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
pub(super) fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
