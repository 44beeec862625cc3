use std::path::PathBuf;

/// A text file that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The header lacks a column.
    #[error("{}: line 1: no column {column:?}, got {got:?}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column's usual name.
        column: &'static str,
        /// The header as it is, cut to 200 characters.
        got: String,
    },
    /// A cell that cannot be read.
    #[error("{}: line {line}, column {column:?}: got {value:?}, expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// The column's usual name.
        column: &'static str,
        /// What it holds, cut to 200 characters.
        value: String,
        /// What it should hold.
        expected: String,
    },
    /// One image on two lines.
    #[error("{}: line {line}: image {image_id} was on line {first} already", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The later line, from 1.
        line: u64,
        /// The earlier line, from 1.
        first: u64,
        /// The image.
        image_id: String,
    },
    /// A line that is not text.
    #[error("{}: line {line}: not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
    },
    /// A header and nothing else, or not even that.
    #[error("{}: no rows", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    /// What helps.
    pub fn hint(&self) -> Option<String> {
        let hint = "columns are found by NIH's names and separated by commas; was the file saved by another program?";
        matches!(self, Error::NoColumn { .. }).then(|| hint.to_owned())
    }
}
