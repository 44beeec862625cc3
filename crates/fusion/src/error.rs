use std::io::ErrorKind;
use std::path::PathBuf;

use stage::Problem;

/// Why fusion was not trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A table; among others one with an image twice.
    #[error(transparent)]
    Table(#[from] tables::Error),
    /// An image that one table has and another has not.
    #[error("{}: no row for image {image_id}, which {} has", path.display(), other.display())]
    Missing {
        /// The image.
        image_id: String,
        /// The table without it.
        path: PathBuf,
        /// The table with it.
        other: PathBuf,
    },
    /// An image of which two tables say different things.
    #[error(transparent)]
    Differs(#[from] Box<Difference>),
    /// Weights without a last layer that fits the features.
    #[error("{}: expected a last layer {expected}, got {got}", path.display())]
    Head {
        /// The weights file.
        path: PathBuf,
        /// The layer's shape that the features call for.
        expected: String,
        /// What the file has.
        got: String,
    },
    /// Nothing to train on.
    #[error("no images in the split `train`: expected at least 1")]
    Empty,
    /// What fusion shares with the branches.
    #[error(transparent)]
    Branch(#[from] branch::Error),
    /// A fusion layer's file.
    #[error(transparent)]
    Layer(#[from] model::Error),
    /// Weights, training or device.
    #[error(transparent)]
    Network(#[from] nets::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// An image of which two tables say different things.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what} of image {image_id}: expected {expected} as in {}, got {got}", path.display(), other.display())]
pub struct Difference {
    /// The image.
    pub image_id: String,
    /// What they differ in.
    pub what: &'static str,
    /// The table of the local branch.
    pub path: PathBuf,
    /// What it says.
    pub got: String,
    /// The table of the global branch.
    pub other: PathBuf,
    /// What that says.
    pub expected: String,
}

impl Problem for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Tensor(_) => ErrorKind::Other,
            Error::Table(error) => error.kind(),
            Error::Head { .. } | Error::Missing { .. } | Error::Differs(_) | Error::Empty => ErrorKind::InvalidData,
            Error::Branch(error) => error.kind(),
            Error::Layer(error) => error.kind(),
            Error::Network(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Missing { .. } | Error::Differs(_) => {
                "run just global, just attend and just local with the same --limit, or none, then fusion again"
            }
            Error::Empty => "prep's log says how the images were split",
            Error::Network(nets::Error::Diverged { .. }) => {
                "try --set fusion.standardise=true or a lower --set fusion.lr"
            }
            Error::Branch(error) => return error.hint(),
            Error::Network(error) => return error.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
