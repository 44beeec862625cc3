use std::io::ErrorKind;
use std::path::PathBuf;

use stage::Problem;

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
    /// A stored image that cannot be decoded.
    #[error("stored image: {0}")]
    Picture(#[from] picture::Error),
    /// A file behind a prepared image that is another than `prep` read.
    #[error("{}: the file of image {image_id} has changed since prep read it", path.display())]
    Changed {
        /// The image.
        image_id: String,
        /// The file.
        path: PathBuf,
    },
    /// A file behind a prepared image that lies in an archive, where single files are not read.
    #[error("the file of image {image_id} lies in the archive {}", archive.display())]
    Packed {
        /// The image.
        image_id: String,
        /// The archive.
        archive: PathBuf,
    },
    /// An image in one table but not in another.
    #[error("image {image_id} is in {present}, but not in {absent}")]
    Unmatched {
        /// The row's key.
        image_id: String,
        /// Where it is.
        present: &'static str,
        /// Where it should be.
        absent: &'static str,
    },
    /// The folder that `prep` read is gone.
    #[error("{}: no such folder, which has the files behind the prepared images", folder.display())]
    NoOriginals {
        /// The folder.
        folder: PathBuf,
    },
    /// A file behind a prepared image.
    #[error(transparent)]
    Original(picture::Error),
    /// As that, in an object store.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// A file of initial weights that changed between two reads.
    #[error("{}: the file changed while it was read", path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
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
    /// Ten-crop scoring of images as large as the input.
    #[error("tta = ten-crop with crop = {size}, the side of the stored images in px: all crops are the same")]
    NoCorners {
        /// The images' side, px.
        size: usize,
    },
    /// Ctrl-C or SIGTERM while images were loaded or scored.
    #[error("interrupted")]
    Interrupted,
    /// Shards are missing.
    #[error(transparent)]
    Incomplete(#[from] stage::Incomplete),
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// More images than there is memory for.
    #[error("{} for {count} images of {size} px in memory, {} are free", gigabytes(*bytes), gigabytes(*free))]
    Memory {
        /// The number of images.
        count: usize,
        /// Their side, px.
        size: usize,
        /// What they take, bytes.
        bytes: u64,
        /// What is free, bytes.
        free: u64,
    },
    /// Images cannot be kept on disk.
    #[error("{} of images in {}: {error}", gigabytes(*bytes), folder.display())]
    Disk {
        /// The folder.
        folder: PathBuf,
        /// What they take, bytes.
        bytes: u64,
        /// What the disk says.
        error: std::io::Error,
    },
    /// Images cannot be kept where they are to be.
    #[error("images cannot be kept while the stage is at work: {0}")]
    Images(nets::Error),
    /// The network.
    #[error(transparent)]
    Network(#[from] nets::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// `7.3 GB`.
pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

impl Problem for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Table(error) => error.kind(),
            Error::Image { .. }
            | Error::Picture(_)
            | Error::Changed { .. }
            | Error::Replaced { .. }
            | Error::Unmatched { .. }
            | Error::Empty => ErrorKind::InvalidData,
            Error::Packed { .. } => ErrorKind::NotFound,
            Error::Original(error) => error.kind(),
            Error::Files(error) => error.kind_of_reading(),
            Error::NoOriginals { .. } => ErrorKind::NotFound,
            Error::Crop { .. } | Error::NoCorners { .. } => ErrorKind::InvalidInput,
            Error::Interrupted => ErrorKind::Interrupted,
            Error::Memory { .. } => ErrorKind::OutOfMemory,
            Error::Disk { error, .. } => match error.kind() {
                // Not of an input.
                ErrorKind::NotFound => ErrorKind::Other,
                kind => kind,
            },
            Error::Images(error) | Error::Network(error) => error.kind(),
            Error::Incomplete(error) => error.kind(),
            Error::Io(_) | Error::Tensor(_) => ErrorKind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Empty => Some("prep's log says how the images were split".to_owned()),
            Error::Crop { .. } => Some("larger images need prep.size set and prep run again".to_owned()),
            Error::NoOriginals { .. } | Error::Original(picture::Error::Read { .. }) => Some(
                "the files that prep read are needed; attend.source = \"prepared\" needs only prep's images".to_owned(),
            ),
            Error::Original(error) => error.hint(),
            Error::Files(error) => error.hint(),
            Error::NoCorners { .. } => Some("a smaller crop, or tta = \"flip\"".to_owned()),
            Error::Replaced { .. } => Some("run the same command again".to_owned()),
            Error::Packed { .. } => Some(
                "unpack the archives into prep.root and run just prep again; attend.source = \"prepared\" needs only \
                 prep's images"
                    .to_owned(),
            ),
            Error::Changed { .. } => Some("run just prep again, and what follows it".to_owned()),
            Error::Memory { .. } => {
                Some("a smaller memory_mb, or 0, keeps the images in a file instead; nothing else changes".to_owned())
            }
            Error::Disk { .. } | Error::Images(_) => Some(
                "make room there, or name another place with --artifacts-dir; a larger memory_mb keeps images in memory"
                    .to_owned(),
            ),
            Error::Incomplete(error) => error.hint(),
            Error::Table(error) => error.hint(),
            Error::Network(error) => error.hint(),
            _ => None,
        }
    }
}
