use std::io::ErrorKind;
use std::path::PathBuf;

/// Why a model was not opened, or did not see an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is not what the model needs there.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What of it.
        what: String,
        /// What would have been right.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A folder that is no model.
    #[error("{}: no model: {reason}", path.display())]
    NoModel {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A file of a model that this program cannot take.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that differs from what the model's `config.json` says about it.
    #[error("{}: changed since the model was made: BLAKE3 {got}, expected {expected}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The digest of what is there.
        got: String,
        /// The digest that `config.json` has.
        expected: String,
    },
    /// A setting that does not fit the others.
    #[error("{key} = {got}, expected {expected}")]
    Setting {
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What would fit.
        expected: String,
    },
    /// A feature map with a NaN or an infinity.
    #[error("image {index} of the batch: the feature map of the global branch is not finite")]
    NotFinite {
        /// Which image of those that were shown, from 0.
        index: usize,
    },
    /// A network, its weights or its evaluation.
    #[error(transparent)]
    Network(#[from] nets::Error),
    /// Reading or writing a file; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whose fault it is, hence the exit code of a program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Foreign { .. } | Error::Unusable { .. } | Error::Changed { .. } | Error::NotFinite { .. } => {
                ErrorKind::InvalidData
            }
            Error::NoModel { .. } => ErrorKind::NotFound,
            Error::Setting { .. } => ErrorKind::InvalidInput,
            Error::Network(error) => error.kind(),
            Error::Io(error) if error.kind() == ErrorKind::NotFound => ErrorKind::NotFound,
            Error::Io(_) | Error::Tensor(_) => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoModel { .. } => {
                Some("`just predict export --run RUN MODEL` writes a model; --run RUN predicts with a run".to_owned())
            }
            Error::Changed { .. } | Error::Unusable { .. } => {
                Some("copy the model again, or export it anew".to_owned())
            }
            Error::Network(error) => error.hint(),
            _ => None,
        }
    }
}
