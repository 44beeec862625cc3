use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use cxr::Placement;
use stage::Problem;

/// Why no model was made, or it was not asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to be asked about.
    #[error("no images: {what}")]
    NoImages {
        /// What was given.
        what: String,
    },
    /// A text that is no image's path.
    #[error("{}: {problem}", path.display())]
    Path {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An image that is in one table and not in another.
    #[error("image {image_id} is in {present}, but not in {absent}")]
    Unmatched {
        /// The row's key.
        image_id: String,
        /// Where it is.
        present: &'static str,
        /// Where it should be.
        absent: &'static str,
    },
    /// A run whose regions are controls of a study, of which no model is made.
    #[error(
        "attend.region = \"{region}\", expected \"attended\": the local branch learned from control regions, which are not where the global branch looks"
    )]
    Control {
        /// Where its regions are put.
        region: Placement,
    },
    /// An address that the server cannot have.
    #[error("{address}: {source}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The model.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// An image.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// A table.
    #[error(transparent)]
    Table(#[from] tables::Error),
    /// The images of a run.
    #[error(transparent)]
    Branch(#[from] branch::Error),
    /// A network or its device.
    #[error(transparent)]
    Network(#[from] nets::Error),
    /// Reading or writing; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Writing rows of text.
    #[error(transparent)]
    Csv(#[from] csv::Error),
}

impl Problem for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::NoImages { .. } | Error::Path { .. } | Error::Control { .. } => ErrorKind::InvalidInput,
            Error::Unmatched { .. } => ErrorKind::InvalidData,
            Error::Listen { .. } => ErrorKind::Other,
            Error::Interrupted => ErrorKind::Interrupted,
            Error::Model(error) => error.kind(),
            Error::Picture(error) => error.kind(),
            Error::Table(error) => error.kind(),
            Error::Branch(error) => error.kind(),
            Error::Network(error) => error.kind(),
            Error::Io(error) => error.kind(),
            Error::Csv(_) => ErrorKind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::NoImages { .. } => Some("name PNG, JPEG or DICOM files, or folders of them".to_owned()),
            Error::Control { .. } => Some(
                "`just report` measures a control; a model needs a run with --set attend.region=attended".to_owned(),
            ),
            Error::Listen { .. } => Some("--port 0 takes any free port".to_owned()),
            Error::Model(error) => error.hint(),
            Error::Picture(error) => error.hint(),
            Error::Table(error) => error.hint(),
            Error::Branch(error) => error.hint(),
            Error::Network(error) => error.hint(),
            _ => None,
        }
    }
}
