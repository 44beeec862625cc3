use std::io::ErrorKind;

use stage::Fail;

/// Why a branch was not trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A table.
    #[error(transparent)]
    Table(#[from] tables::Error),
    /// A stored image that is not what the table promises.
    #[error("stored image {image_id}: expected {expected}, got {got}")]
    Image {
        /// The row's key.
        image_id: String,
        /// What would have been right.
        expected: String,
        /// What it is.
        got: String,
    },
    /// Nothing to train on.
    #[error("no images in the split `train`: expected at least 1")]
    Empty,
    /// An input larger than the images it is cut from.
    #[error("crop = {crop}, expected at most {size}, the side of the stored images in px")]
    Crop {
        /// The network's input side, px.
        crop: usize,
        /// The images' side, px.
        size: usize,
    },
    /// Ctrl-C or SIGTERM while images were loaded or scored.
    #[error("interrupted")]
    Interrupted,
    /// The network.
    #[error(transparent)]
    Network(#[from] nets::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whose fault it is, hence the exit code; see [`nets::Error::kind`].
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Table(tables::Error::Io(_)) | Error::Tensor(_) => ErrorKind::Other,
            Error::Table(_) | Error::Image { .. } | Error::Empty => ErrorKind::InvalidData,
            Error::Crop { .. } => ErrorKind::InvalidInput,
            Error::Interrupted => ErrorKind::Interrupted,
            Error::Network(error) => error.kind(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Empty => Some("prep's log says how the images were split".to_owned()),
            Error::Crop { .. } => Some("larger images need prep.size set and prep run again".to_owned()),
            Error::Interrupted => nets::Error::Stopped.hint(),
            Error::Network(error) => error.hint(),
            _ => None,
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        let hint = error.hint();
        let fail = match error.kind() {
            ErrorKind::InvalidInput => Fail::usage(error),
            ErrorKind::NotFound => Fail::missing(error),
            ErrorKind::InvalidData => Fail::bad_data(error),
            ErrorKind::Interrupted => Fail::interrupted(),
            _ => Fail::failed(error),
        };
        match hint {
            Some(hint) => fail.hint(hint),
            None => fail,
        }
    }
}
