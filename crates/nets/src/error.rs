//! What can go wrong, with path, value, expected and got.

use std::io::ErrorKind;
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
    /// Nothing to train on.
    #[error("no training examples: expected at least 1")]
    Empty,
    /// Images, labels or tensors of another shape than the rest.
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
    #[error("the loss is {loss} in epoch {epoch}, step {step}, at learning rate {lr}: training diverged")]
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
    /// The watcher asked a training to stop; the checkpoint of the very step is on disk.
    #[error("interrupted after {finished} finished epochs and {step} steps{}", asked(ranks))]
    Interrupted {
        /// Finished epochs.
        finished: u32,
        /// Finished steps of the epoch after them.
        step: usize,
        /// The ranks that were asked to stop; none where all were.
        ranks: Vec<usize>,
    },
    /// The caller asked an evaluation to stop.
    #[error("interrupted")]
    Stopped,
    /// A rank that trains something else than the first.
    #[error("rank {rank} would train something else than rank 0: other images, settings or initial weights")]
    Ranks {
        /// The first such rank.
        rank: usize,
    },
    /// Ranks that would share a GPU, which NCCL does not do.
    #[error("{ranks} ranks and {gpus} GPUs on this machine, expected a GPU for each rank")]
    Gpus {
        /// Ranks on this machine.
        ranks: usize,
        /// CUDA devices that this process sees.
        gpus: usize,
    },
    /// The folder of a training has the checkpoint of another one.
    #[error("{}: checkpoint of another training: {got}, expected {expected}", path.display())]
    ForeignCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// Its training.
        got: String,
        /// The training of the folder.
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
    /// Something else in the place of weights.
    #[error("{}: no weights: {what}", path.display())]
    NotWeights {
        /// The file.
        path: PathBuf,
        /// What it is, e.g. `an HTML page`.
        what: String,
        /// What to do about it.
        advice: &'static str,
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
    /// Whose fault it is, hence the exit code of a program: `InvalidInput` is a wrong setting, `NotFound` a missing file,
    /// `InvalidData` a file that is not what it should be, `Interrupted` a request to stop, `Other` anything else.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::UnknownName { .. } | Error::Device { .. } | Error::Setting { .. } | Error::Gpus { .. } => {
                ErrorKind::InvalidInput
            }
            Error::Io(error) if error.kind() == ErrorKind::NotFound => ErrorKind::NotFound,
            Error::Empty
            | Error::Ranks { .. }
            | Error::ForeignCheckpoint { .. }
            | Error::Mismatch { .. }
            | Error::Keys { .. }
            | Error::NotWeights { .. }
            | Error::Malformed { .. } => ErrorKind::InvalidData,
            Error::Interrupted { .. } | Error::Stopped => ErrorKind::Interrupted,
            Error::Shape { .. } | Error::Diverged { .. } | Error::Io(_) | Error::Tensor(_) => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Device { .. } => {
                "--device cpu computes without a GPU; for one, its driver must be there and the stages built by \
                 `just device=cuda build`"
            }
            Error::NotWeights { advice, .. } => advice,
            Error::Ranks { .. } => "start the same command on every rank, with the same files",
            Error::Gpus { .. } => {
                "start as many ranks on a machine as it has GPUs (torchrun --nproc-per-node, mpirun -N, srun \
                 --ntasks-per-node); CUDA_VISIBLE_DEVICES says which there are"
            }
            Error::Tensor(error) if error.to_string().starts_with("NCCL: ") => {
                "another rank has ended, or the network failed: its own message says why; the same command continues"
            }
            Error::Empty => "prep's log says how the images were split",
            Error::Diverged { .. } => "a lower learning rate or some warm-up epochs usually help",
            Error::Interrupted { .. } | Error::Stopped => "run the same command again to continue",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The result of a setting that cannot be.
    pub(crate) fn setting<T>(key: &'static str, got: impl ToString, expected: &str) -> Result<T> {
        Err(Error::Setting { key, got: got.to_string(), expected: expected.to_owned() })
    }

    pub(crate) fn malformed(path: &Path, reason: impl ToString) -> Error {
        Error::Malformed { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn shape(what: impl Into<String>, expected: impl ToString, got: impl ToString) -> Error {
        Error::Shape { what: what.into(), expected: expected.to_string(), got: got.to_string() }
    }
}

/// Which ranks were asked to stop.
fn asked(ranks: &[usize]) -> String {
    let names: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    match names.len() {
        0 => String::new(),
        1 => format!(": rank {} was asked to stop", names[0]),
        _ => format!(": ranks {} were asked to stop", names.join(", ")),
    }
}
