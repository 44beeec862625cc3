//! What can go wrong, whose fault it is, and what helps.

use std::path::PathBuf;

use cxr::Split;
use stage::Fail;

use crate::nih;

const DOWNLOAD: &str =
    "data/README.md says where to download NIH's files; `--set prep.root=FOLDER` names the folder they are in";

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
    /// None of the pictures is there.
    #[error("{}: none of the {wanted} images is there", root.display())]
    NoImages {
        /// The folder.
        root: PathBuf,
        /// How many the split wants.
        wanted: usize,
    },
    /// Some of the pictures are not there.
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
    /// All pictures of a split are damaged.
    #[error("every image in split {split} is damaged, the last: {last}")]
    AllCorrupt {
        /// The split.
        split: Split,
        /// The last picture's error.
        last: picture::Error,
    },
    /// A table or list is not as it should be.
    #[error(transparent)]
    Text(#[from] nih::Error),
    /// The division cannot be used.
    #[error(transparent)]
    Split(#[from] cxr::split::Error),
    /// A picture cannot be used.
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

impl From<Error> for Fail {
    /// The exit code, and a hint where something helps.
    fn from(error: Error) -> Fail {
        use cxr::split::Error as Splits;
        match error {
            Error::NoFolder { .. } | Error::NoTable { .. } | Error::NoImages { .. } => {
                Fail::missing(error).hint(DOWNLOAD)
            }
            Error::NoFile { .. } => Fail::missing(error)
                .hint("`--set prep.split=random` needs no lists; data/README.md says what the folder should hold"),
            Error::Absent { .. } => Fail::missing(error).hint("`--set prep.missing=skip` takes what is there"),
            Error::EmptySplit { .. } => {
                Fail::bad_data(error).hint("`--set prep.split=random` divides by patient whatever archives are there")
            }
            Error::Text(nih::Error::NoColumn { .. }) => Fail::bad_data(error).hint(
                "columns are found by NIH's names and separated by commas; was the file saved by another program?",
            ),
            Error::Split(Splits::UnknownImages { .. }) => Fail::bad_data(error)
                .hint("lists and label table must be of the same dataset; `--set prep.split=random` needs no lists"),
            Error::Picture(ref picture) if !picture.is_corrupt() => Fail::failed(error),
            Error::Picture(_) => {
                Fail::bad_data(error).hint("download it again, or leave such images out: `--set prep.corrupt=skip`")
            }
            Error::TwoFiles { .. } | Error::AllCorrupt { .. } | Error::Text(_) | Error::Split(_) => {
                Fail::bad_data(error)
            }
            Error::Io(_) | Error::Table(_) => Fail::failed(error),
            Error::Interrupted => Fail::interrupted(),
        }
    }
}
