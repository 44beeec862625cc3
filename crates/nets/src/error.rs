//! What can go wrong, with path, value, expected and got.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a network was not built, loaded, saved or trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is none of the known ones.
    #[error("unknown {what} {got:?}, expected one of {expected}")]
    UnknownName {
        /// What the name stands for, e.g. `backbone`.
        what: &'static str,
        /// The name given.
        got: String,
        /// The names there are.
        expected: String,
    },
    /// A device that this machine or this build does not have.
    #[error("no device {got:?}: {reason}")]
    Device {
        /// The name given.
        got: String,
        /// Why it cannot be had.
        reason: String,
    },
    /// A setting outside its range.
    #[error("{key} = {got}, expected {expected}")]
    Setting {
        /// The recipe's field.
        key: &'static str,
        /// The value given.
        got: String,
        /// The values allowed.
        expected: String,
    },
    /// Pictures, targets or tensors of another shape than the rest.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// What has the shape.
        what: String,
        /// The shape wanted.
        expected: String,
        /// The shape given.
        got: String,
    },
    /// The loss is NaN or infinite.
    #[error(
        "the loss is {loss} in epoch {epoch}, step {step}, at learning rate {lr}: \
         training diverged; a lower learning rate or some warm-up epochs usually help"
    )]
    Diverged {
        /// The loss.
        loss: f32,
        /// Epoch, from 1.
        epoch: u32,
        /// Step in the epoch, from 1.
        step: usize,
        /// Learning rate of that step.
        lr: f64,
    },
    /// The watcher asked to stop; the last epoch's checkpoint is on disk.
    #[error("interrupted in epoch {epoch}")]
    Interrupted {
        /// Epoch, from 1.
        epoch: u32,
    },
    /// A checkpoint of another training.
    #[error("{}: checkpoint of another training: {what} is {got}, expected {expected}", path.display())]
    ForeignCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: String,
        /// Its value there.
        got: String,
        /// Its value here.
        expected: String,
    },
    /// A weights file for another network.
    #[error("{}: {what} is {got}, expected {expected}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs, e.g. `backbone`.
        what: String,
        /// Its value in the file.
        got: String,
        /// Its value here.
        expected: String,
    },
    /// A weights file with missing, unknown or misshapen tensors.
    #[error("{}: not the weights of {backbone}: {problems}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// The network wanted.
        backbone: String,
        /// The first problems, and how many there are.
        problems: String,
    },
    /// A file that is not what its name says, cut short or damaged.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing a file; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn malformed(path: &Path, reason: impl ToString) -> Error {
        Error::Malformed { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn shape(what: impl Into<String>, expected: impl ToString, got: impl ToString) -> Error {
        Error::Shape { what: what.into(), expected: expected.to_string(), got: got.to_string() }
    }
}
