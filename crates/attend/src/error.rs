use std::io::ErrorKind;
use std::path::PathBuf;

use stage::Problem;

/// Why no regions were found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A feature map with a NaN or an infinity.
    #[error("image {image_id}: the feature map of the global branch is not finite")]
    NotFinite {
        /// The image.
        image_id: String,
    },
    /// Weights of an earlier version, which do not say how large the network's input is.
    #[error("{}: the weights file names no evaluation frame", path.display())]
    NoFrame {
        /// The weights file.
        path: PathBuf,
    },
    /// An evaluation crop that the images do not hold.
    #[error("attend.crop = {crop}, expected at most {size}, the side of the stored images in px")]
    Crop {
        /// Side of the evaluation crop, px.
        crop: usize,
        /// Side of the images, px.
        size: usize,
    },
    /// An evaluation crop of which the last map would have a single cell, or none.
    #[error("attend.crop = {crop}, expected at least {least} px, what {backbone} needs")]
    Small {
        /// Side of the evaluation crop, px.
        crop: usize,
        /// The smallest side of the network's input, px.
        least: usize,
        /// The network.
        backbone: nets::Backbone,
    },
    /// An evaluation crop that is no whole number of a transformer's patches.
    #[error("attend.crop = {crop}, expected a multiple of {patch}, the side of a patch of {backbone}")]
    Patches {
        /// Side of the evaluation crop, px.
        crop: usize,
        /// Side of a patch, px.
        patch: usize,
        /// The network.
        backbone: nets::Backbone,
    },
    /// Numbers that a frozen network does not compute in.
    #[error("attend.precision = {precision}, expected f32 or auto: {backbone} computes in f32")]
    Precision {
        /// The numbers.
        precision: nets::Precision,
        /// The network.
        backbone: nets::Backbone,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Loading the images.
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

impl Problem for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Crop { .. }
            | Error::Small { .. }
            | Error::Patches { .. }
            | Error::Precision { .. }
            | Error::NoFrame { .. } => ErrorKind::InvalidInput,
            Error::NotFinite { .. } => ErrorKind::InvalidData,
            Error::Table(error) => error.kind(),
            Error::Interrupted => ErrorKind::Interrupted,
            Error::Branch(error) => error.kind(),
            Error::Network(error) => error.kind(),
            Error::Candle(_) => ErrorKind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::NoFrame { .. } => "--set attend.crop=224 (or what global.crop was) says it",
            Error::Crop { .. } | Error::Small { .. } | Error::Patches { .. } => {
                "0 takes the side that the global branch was trained with"
            }
            Error::Table(error) => return error.hint(),
            Error::Branch(error) => return error.hint(),
            Error::Network(error) => return error.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
