use std::path::{Path, PathBuf};

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
        source: parquet::errors::ParquetError,
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
    pub(crate) fn parquet(path: &Path, source: impl Into<parquet::errors::ParquetError>) -> Self {
        Error::Parquet { path: path.to_owned(), source: source.into() }
    }
}
