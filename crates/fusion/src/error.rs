use std::path::PathBuf;

use stage::Fail;

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
    /// Ctrl-C or SIGTERM.
    #[error("interrupted in epoch {epoch}")]
    Interrupted {
        /// Epoch, from 1.
        epoch: u32,
    },
    /// Weights, optimiser or device.
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

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        match error {
            Error::Table(tables::Error::Io(_)) | Error::Tensor(_) => Fail::failed(error),
            Error::Table(_) | Error::Head { .. } => Fail::bad_data(error),
            Error::Missing { .. } | Error::Differs(_) => Fail::bad_data(error)
                .hint("run just global, just attend and just local with the same --limit, or none, then fusion again"),
            Error::Empty => Fail::bad_data(error).hint("prep's log says how the images were split"),
            Error::Diverged { .. } => {
                Fail::failed(error).hint("try --set fusion.standardise=true or a lower --set fusion.lr")
            }
            Error::Interrupted { .. } => Fail::interrupted().hint("run the same command again; it takes seconds"),
            Error::Network(nets::Error::Device { .. }) => Fail::usage(error).hint(nets::DEVICE_HINT),
            Error::Network(nets::Error::Mismatch { .. } | nets::Error::Malformed { .. }) => Fail::bad_data(error),
            Error::Network(_) => Fail::failed(error),
        }
    }
}
