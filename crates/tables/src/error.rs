use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// Why a table could not be written or read. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused; the source names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not a Parquet file, a damaged one, or one that could not be written (a full disk, for instance).
    #[error("{}: Parquet failed", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the Parquet library says.
        source: ParquetError,
    },
    /// A Parquet file, but not the table that was asked for.
    #[error("{}: expected table `{expected}`, got {got}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The table asked for.
        expected: &'static str,
        /// What the file's metadata says.
        got: String,
    },
    /// The right table in another version of its schema.
    #[error("{}: expected schema version {expected} of table `{table}`, got {got}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The version that this program reads.
        expected: u32,
        /// What the file's metadata says.
        got: String,
    },
    /// A column that is absent or has another type.
    #[error("{}: column `{column}` of table `{table}`: expected {expected}, got {got}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// The type that the schema asks for.
        expected: String,
        /// The type in the file.
        got: String,
    },
    /// Facts of a table that are absent, or not those that this program knows.
    #[error("{}: metadata `agcnn.facts` of table `{table}`: expected its facts as JSON, got {got}", path.display())]
    Facts {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// What is there, and the field that is wrong.
        got: String,
    },
    /// Two files of one table with different facts.
    #[error("{}: facts of table `{table}`: expected {expected} as in {}, got {got}", path.display(), other.display())]
    FactsDiffer {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// Its facts.
        got: String,
        /// The table's first file.
        other: PathBuf,
        /// The facts of that.
        expected: String,
    },
    /// Facts of a table without files.
    #[error("table `{table}`: no files")]
    NoFiles {
        /// The table.
        table: &'static str,
    },
    /// A value that cannot be.
    #[error("{}: row {row}, column `{column}` of table `{table}`: expected {expected}, got {got}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// The row, counted from 0.
        row: usize,
        /// What would have been allowed.
        expected: String,
        /// What is there.
        got: String,
    },
}

impl Error {
    /// Whose fault it is: a file is missing or holds bad data, or the machine refused.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io(error) if error.kind() == ErrorKind::NotFound => ErrorKind::NotFound,
            Error::NoFiles { .. } => ErrorKind::NotFound,
            Error::Io(_) => ErrorKind::Other,
            // A full disk, for instance; a damaged page has no number of the operating system's.
            Error::Parquet { source: ParquetError::External(error), .. }
                if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.raw_os_error().is_some()) =>
            {
                ErrorKind::Other
            }
            _ => ErrorKind::InvalidData,
        }
    }

    /// What helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Version { .. } | Error::Facts { .. } => {
                Some("another version of the program wrote the file; run the stage that makes it again".to_owned())
            }
            _ => None,
        }
    }

    /// What the Parquet library says; where that is an error of the file system that names the file, that error itself.
    pub(crate) fn parquet(path: &Path, source: impl Into<ParquetError>) -> Self {
        let source = match source.into() {
            ParquetError::External(error) => match error.downcast::<std::io::Error>() {
                Ok(error) if error.to_string().contains(&path.display().to_string()) => return Error::Io(*error),
                Ok(error) => ParquetError::External(error),
                Err(error) => ParquetError::External(error),
            },
            other => other,
        };
        Error::Parquet { path: path.to_owned(), source }
    }
}
