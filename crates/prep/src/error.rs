//! What can go wrong, whose fault it is, and what helps.

use std::io::ErrorKind;
use std::path::PathBuf;

use cxr::Split;
use stage::Problem;

use crate::{folder, nih};

const DOWNLOAD: &str = "data/README.md says where to download NIH's files and how to read your own; `--set prep.root=FOLDER` names the folder";

/// A dataset that cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The dataset's folder is not there.
    #[error("{}: no such folder (prep.root)", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has no label table.
    #[error("{}: no label table, expected one of {tried}", root.display())]
    NoTable {
        /// The folder.
        root: PathBuf,
        /// The names looked for.
        tried: String,
    },
    /// A table or list is not there.
    #[error("{}: no such file", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// None of the images is there.
    #[error("{}: none of the {wanted} images is there", root.display())]
    NoImages {
        /// The folder.
        root: PathBuf,
        /// How many the split wants.
        wanted: usize,
    },
    /// Some of the images are not there.
    #[error("{}: {count} of the {wanted} images are not there, the first: {}", root.display(), first.join(", "))]
    Absent {
        /// The folder.
        root: PathBuf,
        /// How many are not there.
        count: usize,
        /// How many the split wants.
        wanted: usize,
        /// The first ten.
        first: Vec<String>,
    },
    /// No image is left for a split.
    #[error("no image of the {wanted} in split {split} is there")]
    EmptySplit {
        /// The split.
        split: Split,
        /// How many images it wants.
        wanted: usize,
    },
    /// Two files claim to be the same image.
    #[error("{}: {image_id} is there twice, {first} and {second}", root.display())]
    TwoFiles {
        /// The folder.
        root: PathBuf,
        /// The image.
        image_id: String,
        /// One file, relative to the folder.
        first: String,
        /// The other.
        second: String,
    },
    /// All images of a split are damaged.
    #[error("every image in split {split} is damaged, the last: {last}")]
    AllCorrupt {
        /// The split.
        split: Split,
        /// The last image's error.
        last: picture::Error,
    },
    /// A table or list is not as it should be.
    #[error(transparent)]
    Text(#[from] nih::Error),
    /// A folder's table of labels cannot be used.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// The division cannot be used.
    #[error(transparent)]
    Split(#[from] cxr::split::Error),
    /// An image cannot be used.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// Reading a folder or a text failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Writing the table failed.
    #[error(transparent)]
    Table(#[from] tables::Error),
    /// The user stopped the stage.
    #[error("interrupted")]
    Interrupted,
}

impl Problem for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::NoFolder { .. }
            | Error::NoTable { .. }
            | Error::NoFile { .. }
            | Error::NoImages { .. }
            | Error::Folder(folder::Error::Tables { .. })
            | Error::Absent { .. } => ErrorKind::NotFound,
            Error::EmptySplit { .. }
            | Error::TwoFiles { .. }
            | Error::AllCorrupt { .. }
            | Error::Text(_)
            | Error::Folder(_) => ErrorKind::InvalidData,
            Error::Split(error) => error.kind(),
            Error::Picture(error) => error.kind(),
            // What prep itself writes is not missing.
            Error::Io(_) | Error::Table(_) => ErrorKind::Other,
            Error::Interrupted => ErrorKind::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::NoFolder { .. } | Error::NoTable { .. } | Error::NoImages { .. } => DOWNLOAD,
            Error::NoFile { .. } => {
                "`--set prep.split=random` needs no lists; data/README.md says what the folder should hold"
            }
            Error::Absent { .. } => "`--set prep.missing=skip` takes what is there",
            Error::EmptySplit { .. } => "`--set prep.split=random` divides by patient whatever archives are there",
            Error::Picture(picture) if picture.hint().is_some() => return picture.hint(),
            Error::Picture(picture) if picture.is_corrupt() => {
                "download it again, or leave such images out: `--set prep.corrupt=skip`"
            }
            Error::Text(error) => return error.hint(),
            Error::Folder(error) => return error.hint(),
            Error::Split(error) => return error.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
