use std::path::PathBuf;

/// A table or list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `prep.labels = "auto"`, and the folder has no table or several.
    #[error("{}: prep.labels = \"auto\" needs one .csv file, got {}", root.display(), if got.is_empty() { "none".to_owned() } else { got.join(", ") })]
    Tables {
        /// The folder.
        root: PathBuf,
        /// The tables that it has.
        got: Vec<String>,
    },
    /// The file cannot be decompressed, becomes too large, or is no text.
    #[error("{}: {problem}", path.display())]
    Unreadable {
        /// The table.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A column that a setting names.
    #[error("{}: prep.{key} = {column:?}: no such column, got {got}", path.display())]
    NoColumn {
        /// The table.
        path: PathBuf,
        /// The setting.
        key: &'static str,
        /// The column it names.
        column: String,
        /// The columns there are.
        got: String,
    },
    /// A column that NIH's tables have.
    #[error("{}: line 1: no column {column:?}, got {got:?}", path.display())]
    Lacks {
        /// The table.
        path: PathBuf,
        /// The column's usual name.
        column: &'static str,
        /// The header as it is, cut to 200 characters.
        got: String,
    },
    /// One image on two lines.
    #[error("{}: line {line}: image {image_id} was on line {first} already", path.display())]
    Duplicate {
        /// The table or list.
        path: PathBuf,
        /// The later line, from 1.
        line: u64,
        /// The earlier line, from 1.
        first: u64,
        /// The image.
        image_id: String,
    },
    /// Two columns mean the same finding.
    #[error("{}: the columns {first:?} and {second:?} both mean {finding}", path.display())]
    TwoColumns {
        /// The table.
        path: PathBuf,
        /// One column.
        first: String,
        /// The other.
        second: String,
        /// What they mean.
        finding: String,
    },
    /// No column means a finding.
    #[error("{}: no column is called as one of the 14 findings, got {got}", path.display())]
    NoFindings {
        /// The table.
        path: PathBuf,
        /// The columns there are.
        got: String,
    },
    /// A cell that cannot be read.
    #[error("{}: line {line}, column {column:?}: got {value:?}, expected {expected}", path.display())]
    Value {
        /// The table.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// The column's name.
        column: String,
        /// What it holds, cut to 200 characters.
        value: String,
        /// What it should hold.
        expected: String,
    },
    /// One image on two lines that say different things.
    #[error("{}: lines {first} and {line} differ about image {image_id}", path.display())]
    Differ {
        /// The table.
        path: PathBuf,
        /// The later line, from 1.
        line: u64,
        /// The earlier line, from 1.
        first: u64,
        /// The image.
        image_id: String,
    },
    /// A name that several files have.
    #[error("{}: line {line}: {image} may be {} or {}", path.display(), of[0], of[1])]
    Ambiguous {
        /// The table.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// The image as the table names it.
        image: String,
        /// Two of the files, relative to the folder.
        of: [String; 2],
    },
    /// A header and nothing else, or not even that.
    #[error("{}: no rows", path.display())]
    NoRows {
        /// The table.
        path: PathBuf,
    },
}

impl Error {
    /// What helps.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Tables { .. } => "`--set prep.labels=NAME.csv` names the table",
            Error::NoColumn { .. } => {
                "column names are those of the table's first line; case, spaces and _ do not matter"
            }
            Error::Lacks { .. } => {
                "columns are found by NIH's names; case, spaces and _ do not matter; a table of another form is read \
                 with `--set prep.dataset=folder`"
            }
            Error::NoFindings { .. } => {
                "prep.findings_column names one column that lists findings; prep.rename = { \"Your Name\" = \"Mass\" } \
                 says what a column means"
            }
            Error::Value { expected, .. } if expected.contains("prep.rename") => {
                "prep.rename = { \"Your Name\" = \"Mass\", \"Another\" = \"\" } says what a name means; \"\" leaves it out"
            }
            Error::Differ { .. } => "one row per image is needed: join what several readers say first",
            Error::Ambiguous { .. } => "write the path below prep.root into the table",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
