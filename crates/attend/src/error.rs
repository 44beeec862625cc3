use std::path::PathBuf;

use stage::Fail;

/// Why no regions were found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A feature map with a NaN or an infinity.
    #[error("the feature map of image {index} of its batch is not finite")]
    NotFinite {
        /// Position in the batch, from 0.
        index: usize,
    },
    /// An evaluation frame that the pictures do not hold.
    #[error("attend.crop = {crop}, expected at most {size}, the side of the stored pictures in px")]
    Crop {
        /// The evaluation frame's side, px.
        crop: usize,
        /// The pictures' side, px.
        size: usize,
    },
    /// An original picture.
    #[error(transparent)]
    Original(#[from] picture::Error),
    /// An image in one table but not in another.
    #[error("image {image_id} is in {present}, but not in {absent}")]
    Unmatched {
        /// The row's key.
        image_id: String,
        /// Where it is.
        present: String,
        /// Where it should be.
        absent: String,
    },
    /// The manifest of an earlier stage lacks a setting.
    #[error("{}: no {setting} in the stage's configuration", path.display())]
    Setting {
        /// The stage's folder.
        path: PathBuf,
        /// The setting.
        setting: &'static str,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Loading the pictures.
    #[error(transparent)]
    Branch(#[from] branch::Error),
    /// A table.
    #[error(transparent)]
    Table(#[from] tables::Error),
    /// The network.
    #[error(transparent)]
    Network(#[from] nets::Error),
    /// A tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        match error {
            Error::Interrupted => Fail::interrupted(),
            Error::Branch(error) => error.into(),
            Error::Table(error) => branch::Error::from(error).into(),
            Error::Network(error) => branch::Error::from(error).into(),
            Error::Crop { .. } => Fail::usage(error).hint("0 takes the side that the global branch was trained with"),
            Error::Original(picture::Error::Read { .. }) => Fail::missing(error).hint(
                "attend.source = \"original\" reads the files that prep read; \"prepared\" needs only prep's pictures",
            ),
            Error::Original(_) | Error::Unmatched { .. } | Error::NotFinite { .. } => Fail::bad_data(error),
            Error::Setting { .. } | Error::Candle(_) => Fail::failed(error),
        }
    }
}
