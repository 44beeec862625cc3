//! What is wrong with a table or list.

use std::io::ErrorKind;
use std::path::PathBuf;

/// A table or list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A table or list is not there.
    #[error("{}: no such file", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// Other texts that are there.
        others: Vec<String>,
    },
    /// Reading a folder or a text failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// As that, of a file in an object store.
    #[error(transparent)]
    Files(#[from] files::Error),
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
    /// No column of a table of scores has images.
    #[error("{}: no column has the images' names, got the columns {got}", path.display())]
    NoImageColumn {
        /// The table.
        path: PathBuf,
        /// The columns there are.
        got: String,
    },
    /// No column of a table of scores is called as a finding.
    #[error("{}: no column has scores, got the columns {got}", path.display())]
    NoScores {
        /// The table.
        path: PathBuf,
        /// The columns there are.
        got: String,
    },
    /// A table has several sets of scores, or none of those asked for.
    #[error("{}: {}, the sets begin with the columns {}", path.display(), if *none { "no such set of scores" } else { "several sets of scores" }, sets.join(", "))]
    Sets {
        /// The table.
        path: PathBuf,
        /// The first column of each.
        sets: Vec<String>,
        /// Whether none was asked for.
        none: bool,
    },
    /// No column of a table of experts' labels is one of theirs.
    #[error("{}: no column is called as a finding of experts, got {got}", path.display())]
    NoExperts {
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
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoFile { .. } | Error::Tables { .. } => ErrorKind::NotFound,
            Error::Io(_) => ErrorKind::Other,
            Error::Files(error) => error.kind_of_reading(),
            _ => ErrorKind::InvalidData,
        }
    }

    /// What helps.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Files(error) => return error.hint(),
            Error::NoFile { key, others, .. } => {
                let there =
                    if others.is_empty() { String::new() } else { format!(" (there are {})", others.join(", ")) };
                return Some(format!(
                    "`--set prep.{key}=FILE` names it{there}; `--set prep.split=random` needs no lists; data/README.md \
                     says what the folder should hold"
                ));
            }
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
            Error::NoExperts { .. } => {
                "expected Google's columns Fracture, Pneumothorax, Airspace opacity, Nodule or mass, or columns of NIH's \
                 findings, with YES or NO"
            }
            Error::NoImageColumn { .. } => {
                "expected a column \"Image Index\" (or image, filename, path, ...) with names such as 00000001_000.png, \
                 folders and endings do not matter"
            }
            Error::NoScores { .. } => {
                "expected a column for each finding, called as NIH calls it (Atelectasis, ..., Pleural_Thickening, \
                 Hernia), with or without something beside the name: prob_Mass, Mass, Mass_logit"
            }
            Error::Sets { .. } => {
                "`--columns TEXT` names one set by what stands beside the findings: `--columns prob` takes prob_Mass, \
                 ...; `--columns \"\"` takes the bare names"
            }
            Error::Differ { .. } => "one row per image is needed: join what several readers say first",
            Error::Ambiguous { .. } => "write the path below prep.root into the table",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
