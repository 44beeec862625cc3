//! Rows of a comma-separated file, and what they are made of.

use std::path::Path;

use super::error::Error;

/// A column: where it is, and what messages call it.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) index: usize,
    name: &'static str,
}

/// Rows of a comma-separated file, one at a time.
pub(crate) struct Table<'a> {
    path: &'a Path,
    reader: csv::Reader<&'a [u8]>,
    header: csv::StringRecord,
    pub(crate) record: csv::StringRecord,
    bytes: &'a [u8],
    /// Line of `record`, from 1. The reader's own count is one behind in files with CRLF.
    pub(crate) line: u64,
    /// How many of `bytes` lie before `record`.
    before: usize,
}

impl<'a> Table<'a> {
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Error> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(bytes);
        let record = csv::StringRecord::new();
        let mut table = Table { path, reader, header: record.clone(), record, bytes, line: 1, before: 0 };
        if !table.next()? {
            return Err(Error::NoRows { path: path.to_owned() });
        }
        table.header = table.record.clone();
        Ok(table)
    }

    /// Goes to the next row that holds anything.
    pub(crate) fn next(&mut self) -> Result<bool, Error> {
        loop {
            let more = self.reader.read_record(&mut self.record);
            let more = more.map_err(|e| Error::NotText {
                path: self.path.to_owned(),
                line: self.line_at(e.position().map_or(0, csv::Position::byte)).0,
            })?;
            if !more {
                return Ok(false);
            }
            let byte = self.record.position().map_or(0, csv::Position::byte);
            (self.line, self.before) = self.line_at(byte);
            if self.record.iter().any(|cell| !cell.is_empty()) {
                return Ok(true);
            }
        }
    }

    /// The line on which the first text at or after `byte` stands, and where that text starts.
    fn line_at(&self, byte: u64) -> (u64, usize) {
        let mut start = usize::try_from(byte).map_or(self.bytes.len(), |byte| byte.min(self.bytes.len()));
        while self.bytes.get(start).is_some_and(|b| b"\r\n".contains(b)) {
            start += 1;
        }
        let passed = self.bytes.get(self.before..start).unwrap_or_default();
        (self.line + passed.iter().filter(|&&b| b == b'\n').count() as u64, start)
    }

    /// The column with one of these names, the first of which is the usual one.
    pub(crate) fn column(&self, names: &[&'static str]) -> Result<Column, Error> {
        let index = self.header.iter().position(|cell| names.iter().any(|name| cell.eq_ignore_ascii_case(name)));
        index.map(|index| Column { index, name: names[0] }).ok_or_else(|| Error::NoColumn {
            path: self.path.to_owned(),
            column: names[0],
            got: short(&self.header.iter().collect::<Vec<_>>().join(",")),
        })
    }

    /// The cell's text; empty where the row ends before it.
    pub(crate) fn cell(&self, column: Column) -> &str {
        self.record.get(column.index).unwrap_or("")
    }

    pub(crate) fn parse<'s, T>(
        &'s self,
        column: Column,
        expected: &str,
        read: impl FnOnce(&'s str) -> Option<T>,
    ) -> Result<T, Error> {
        let cell = self.cell(column);
        read(cell).ok_or_else(|| self.bad(column, cell, expected.to_owned()))
    }

    pub(crate) fn bad(&self, column: Column, value: &str, expected: String) -> Error {
        Error::Value { path: self.path.to_owned(), line: self.line, column: column.name, value: short(value), expected }
    }
}

/// A plain file name ending in `.png`: nothing that could lead out of the folder.
pub(crate) fn png_name(text: &str) -> Option<&str> {
    let stem = text.get(..text.len().checked_sub(4)?)?;
    let plain = !stem.is_empty() && !text.contains(['/', '\\', '\0']) && !text.starts_with('.');
    (plain && text[stem.len()..].eq_ignore_ascii_case(".png")).then_some(text)
}

/// The beginning of a text, for messages.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
