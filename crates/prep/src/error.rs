//! What can go wrong, whose fault it is, and what helps.

use std::io::ErrorKind;
use std::path::PathBuf;

use cxr::Split;
use stage::Problem;

const DOWNLOAD: &str = "data/README.md says where to download NIH's files and how to read your own; `--set prep.root=FOLDER` names the folder";

const NAMES: &str = "an image is found by its name in the table, whatever its ending, in any folder below prep.root and in .tar.gz archives there; other archives must be unpacked";

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
    #[error("{}: no label table, expected one of {tried}{}", root.display(), near.as_ref().map_or(String::new(), |near| format!("; one lies in {}", near.display())))]
    NoTable {
        /// The folder.
        root: PathBuf,
        /// The names looked for.
        tried: String,
        /// A folder below or above that has one.
        near: Option<PathBuf>,
    },
    /// None of the images is there.
    #[error("{}: none of the {wanted} images is there, the first: {first}; what is there: {there}", root.display())]
    NoImages {
        /// The folder.
        root: PathBuf,
        /// How many the split wants.
        wanted: usize,
        /// The first of them.
        first: String,
        /// What the folder has instead.
        there: String,
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
        /// Whether patients are divided by chance.
        random: bool,
    },
    /// Two files claim to be the same image.
    #[error("{}: {image_id} is there twice, {first} and {second}, with different contents", root.display())]
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
        last: String,
    },
    /// An archive cannot be read.
    #[error("{}: cannot be read after {images} images: {problem}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// How many images were read before.
        images: usize,
        /// What is wrong.
        problem: String,
    },
    /// An image that takes more memory than there is for images.
    #[error("{name}: decoding it takes {} MB, prep.memory_mb = {}", needs.div_ceil(1 << 20), total >> 20)]
    Memory {
        /// The image.
        name: String,
        /// What it takes, bytes.
        needs: u64,
        /// What there is, bytes.
        total: u64,
    },
    /// A table or list cannot be used.
    #[error(transparent)]
    Text(#[from] labels::Error),
    /// The division cannot be used.
    #[error(transparent)]
    Split(#[from] cxr::split::Error),
    /// An image cannot be used.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// Reading a folder or a text failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Reading a folder or a text failed, in an object store perhaps; the message names the place.
    #[error(transparent)]
    Files(#[from] files::Error),
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
            Error::NoFolder { .. } | Error::NoTable { .. } | Error::NoImages { .. } | Error::Absent { .. } => {
                ErrorKind::NotFound
            }
            Error::EmptySplit { .. } | Error::TwoFiles { .. } | Error::AllCorrupt { .. } | Error::Archive { .. } => {
                ErrorKind::InvalidData
            }
            Error::Text(error) => error.kind(),
            // The file may be good: the settings give it too little.
            Error::Memory { .. } => ErrorKind::InvalidInput,
            Error::Split(error) => error.kind(),
            Error::Picture(error) => error.kind(),
            // What prep itself writes is not missing.
            Error::Io(_) | Error::Table(_) => ErrorKind::Other,
            Error::Files(error) => error.kind_of_reading(),
            Error::Interrupted => ErrorKind::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::NoTable { near: Some(near), .. } => return Some(format!("`--set prep.root={}`", near.display())),
            Error::NoFolder { .. } | Error::NoTable { .. } => DOWNLOAD,
            Error::NoImages { .. } => return Some(format!("{NAMES}; {DOWNLOAD}")),
            Error::TwoFiles { .. } => {
                "equal files are one image, these differ: move one away, or let prep.root be the folder of the others"
            }
            Error::Archive { .. } => {
                "download it again, or move it away: `--set prep.missing=skip` takes what is there"
            }
            Error::Memory { .. } => {
                "a larger prep.memory_mb takes it; `--set prep.corrupt=skip` does not, since the file is not damaged"
            }
            Error::Picture(picture::Error::Unknown { start, .. }) if start.starts_with("version https:/") => {
                "it is a Git LFS pointer and not the image itself: `git lfs pull` fetches the images"
            }
            Error::Absent { .. } => "`--set prep.missing=skip` takes what is there",
            Error::EmptySplit { random: true, .. } => {
                "train, validation and test need three patients at least; `--set prep.split=test` only evaluates"
            }
            Error::EmptySplit { .. } => "`--set prep.split=random` divides by patient whatever archives are there",
            Error::Picture(picture) if picture.hint().is_some() => return picture.hint(),
            Error::Picture(picture) if picture.is_corrupt() => {
                "download it again, or leave such images out: `--set prep.corrupt=skip`"
            }
            Error::Text(error) => return error.hint(),
            Error::Split(error) => return error.hint(),
            Error::Files(error) => return error.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
