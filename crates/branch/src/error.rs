use stage::Fail;

/// Why a branch was not trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A table.
    #[error(transparent)]
    Table(#[from] tables::Error),
    /// A picture in a table that is not what the table promises.
    #[error("picture of image {image_id}: expected {expected}, got {got}")]
    Picture {
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
    /// An input larger than the pictures it is cut from.
    #[error("crop = {crop}, expected at most {size}, the side of the stored pictures in px")]
    Crop {
        /// The network's input side, px.
        crop: usize,
        /// The pictures' side, px.
        size: usize,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] nets::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        match error {
            Error::Table(tables::Error::Io(_)) | Error::Tensor(_) => Fail::failed(error),
            Error::Table(_) | Error::Picture { .. } => Fail::bad_data(error),
            Error::Empty => Fail::bad_data(error).hint("prep's log says how the images were split"),
            Error::Crop { .. } => Fail::usage(error).hint("larger pictures need prep.size set and prep run again"),
            Error::Network(error) => match error {
                nets::Error::Interrupted { epoch } => {
                    Fail::interrupted().hint(format!("run the same command again to continue from epoch {epoch}"))
                }
                nets::Error::Device { .. } => Fail::usage(error).hint(nets::DEVICE_HINT),
                nets::Error::UnknownName { .. } | nets::Error::Setting { .. } => Fail::usage(error),
                nets::Error::Mismatch { .. } | nets::Error::Keys { .. } | nets::Error::Malformed { .. } => {
                    Fail::bad_data(error)
                }
                _ => Fail::failed(error),
            },
        }
    }
}
