//! What can go wrong with a report.

use std::io::ErrorKind;
use std::path::PathBuf;

use cxr::metrics::Cell;
use cxr::{Branch, Split};

use crate::drawing;

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two branches scored different images.
    #[error("{} and {} scored different {split} images: {count} are in one only, the first: {first}", branches[0], branches[1])]
    Images {
        /// Of which images.
        split: Split,
        /// Which branches.
        branches: [Branch; 2],
        /// How many images.
        count: usize,
        /// The first ten.
        first: String,
    },
    /// Two branches disagree about an image.
    #[error("{} and {} differ in label or patient of {count} {split} images, the first: {first}", branches[0], branches[1])]
    Labels {
        /// Of which images.
        split: Split,
        /// Which branches.
        branches: [Branch; 2],
        /// How many images.
        count: usize,
        /// The first ten.
        first: String,
    },
    /// Nothing to report on.
    #[error("no {split} images among the predictions")]
    Empty {
        /// The split asked for.
        split: Split,
    },
    /// attend has no region of an image.
    #[error("{image_id}: prep has the image, attend has no region for it")]
    NoRegion {
        /// The image.
        image_id: String,
    },
    /// No such image.
    #[error("{image_id}: no such image in prep")]
    NoImage {
        /// The image.
        image_id: String,
        /// How many images there are.
        images: usize,
        /// The first of them.
        first: String,
    },
    /// A branch did not score an image that prep has.
    #[error("{image_id}: {branch} has no prediction for it")]
    NoPrediction {
        /// The image.
        image_id: String,
        /// The branch.
        branch: Branch,
    },
    /// Two runs disagree about an image.
    #[error("{image_id}: runs {} and {} differ in its label or patient", runs[0], runs[1])]
    RunLabels {
        /// The runs.
        runs: [String; 2],
        /// The image.
        image_id: String,
    },
    /// Two runs have no image in common.
    #[error("runs {} and {} have no {split} image in common", runs[0], runs[1])]
    Apart {
        /// The runs.
        runs: [String; 2],
        /// Of which images.
        split: Split,
    },
    /// Two runs of a sweep have the same threshold.
    #[error("runs {} and {} both have attend.threshold = {threshold}", runs[0], runs[1])]
    SameThreshold {
        /// The runs.
        runs: [String; 2],
        /// The threshold.
        threshold: String,
    },
    /// A run cannot be part of the sweep that its own report shows.
    #[error("{run} shows the sweep in its own report, so it cannot be part of it")]
    SweepOfItself {
        /// The run.
        run: String,
    },
    /// Trainings that are compared seed by seed are not about the same images.
    #[error("the runs {} and {} do not have the same {what} in {split}", .runs[0], .runs[1])]
    Group {
        /// The first run, and the first that differs.
        runs: [String; 2],
        /// `images`, `labels` or `patients`.
        what: &'static str,
        /// The split that is reported.
        split: Split,
    },
    /// Two runs of a group are the same training.
    #[error("the fusions of the runs {} and {} are the same result", .runs[0], .runs[1])]
    SameTraining {
        /// The runs.
        runs: [String; 2],
    },
    /// Trainings that should have the same recipe do not.
    #[error("the runs {} and {} are not the same recipe: {key} is {} in the one and {} in the other", .runs[0], .runs[1], .got[0], .got[1])]
    Recipe {
        /// The runs.
        runs: [String; 2],
        /// `stage.key`.
        key: String,
        /// Its values.
        got: [String; 2],
    },
    /// Trainings that should differ in their seeds do not, or have others than an arm before.
    #[error("the seeds of the runs {runs} are {got}, expected {expected}")]
    Seeds {
        /// The runs.
        runs: String,
        /// Their seeds.
        got: String,
        /// What they should be.
        expected: String,
    },
    /// A run is not what an arm of the study says.
    #[error("run {run} is not the arm {arm} of the study: its {key} is {got}, expected {expected}")]
    NotTheArm {
        /// The arm.
        arm: String,
        /// The run.
        run: String,
        /// `stage.key`.
        key: String,
        /// What the run has.
        got: String,
        /// What the arm sets.
        expected: String,
    },
    /// A table of metrics says the same thing twice.
    #[error("two rows for {cell}")]
    Duplicate {
        /// What both are about.
        cell: Cell,
    },
    /// A table of metrics lacks a number that every report has.
    #[error("no row for {cell}")]
    NoCell {
        /// What is missing.
        cell: Cell,
    },
    /// A stage does not say what the report must know of it.
    #[error("{stage}: {what} is {got}, expected {expected}")]
    Fact {
        /// The stage.
        stage: String,
        /// What it must say.
        what: &'static str,
        /// What it says.
        got: String,
        /// What it may say.
        expected: &'static str,
    },
    /// A stored image cannot be decoded.
    #[error("{image_id}: stored image cannot be decoded")]
    Decode {
        /// The image.
        image_id: String,
        /// Why.
        source: picture::Error,
    },
    /// A stored image has another size than the others.
    #[error("{image_id}: stored image has {width} x {height} px, expected {expected} x {expected}")]
    Size {
        /// The image.
        image_id: String,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// The side that all images have.
        expected: usize,
    },
    /// There is no such folder.
    #[error("{}: no such folder (--root)", path.display())]
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
    /// A file that a user names cannot be read.
    #[error("{}: cannot be read", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Predictions of other images.
    #[error("{file}: none of its {images} images is in {table}; the first: {first}, expected names such as {expected}")]
    NoOverlap {
        /// The file of predictions.
        file: String,
        /// How many images it has.
        images: usize,
        /// The first of them.
        first: String,
        /// The label table.
        table: String,
        /// The table's first image.
        expected: String,
    },
    /// The official lists are needed.
    #[error("no test_list.txt beside {table}")]
    NoList {
        /// The label table.
        table: String,
    },
    /// A text of others cannot be used.
    #[error(transparent)]
    Text(#[from] labels::Error),
    /// Stopped on request.
    #[error("interrupted")]
    Interrupted,
    /// See [`drawing::Error`].
    #[error(transparent)]
    Drawing(#[from] drawing::Error),
    /// A table cannot be read.
    #[error(transparent)]
    Table(#[from] tables::Error),
    /// A file cannot be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The page cannot be filled in, a bug.
    #[error("page")]
    Page(#[from] minijinja::Error),
    /// The embedded table of published results is malformed, a bug.
    #[error("published.toml")]
    Published(#[from] toml::de::Error),
}

impl Error {
    /// What kind of failure it is: wrong usage, bad data, interrupted, or another one.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoFolder { .. } | Error::NoTable { .. } | Error::NoFile { .. } | Error::NoList { .. } => {
                ErrorKind::NotFound
            }
            Error::Text(error) => error.kind(),
            Error::SameThreshold { .. } | Error::SweepOfItself { .. } => ErrorKind::InvalidInput,
            Error::SameTraining { .. } | Error::Recipe { .. } | Error::Seeds { .. } => ErrorKind::InvalidInput,
            Error::NotTheArm { .. } => ErrorKind::InvalidInput,
            Error::Interrupted => ErrorKind::Interrupted,
            Error::Drawing(_) | Error::Page(_) | Error::Published(_) => ErrorKind::Other,
            Error::Table(error) => error.kind(),
            Error::Io(_) => ErrorKind::Other,
            _ => ErrorKind::InvalidData,
        }
    }

    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoImage { images, first, .. } => Some(format!("the first of this run's {images} images is {first}")),
            Error::SweepOfItself { .. } => Some("name another run with --run".to_owned()),
            Error::SameThreshold { .. } => Some("name one of them".to_owned()),
            Error::SameTraining { .. } => Some("name one of them, or train the other with another --seed".to_owned()),
            Error::Recipe { .. } => {
                Some("`just study` compares recipes; seeds of one recipe differ in --seed alone".to_owned())
            }
            Error::Seeds { .. } | Error::NotTheArm { .. } => {
                Some("`just study`, or `just seeds`, with the same configuration trains them".to_owned())
            }
            Error::Group { .. } => {
                Some("trainings of one group share prep: same prep settings, same --limit".to_owned())
            }
            Error::NoFolder { .. } | Error::NoTable { .. } => {
                Some("`--root FOLDER` names the folder with NIH's label table; no images are needed there".to_owned())
            }
            Error::NoList { .. } => Some("NIH's download has it; without --official all images count".to_owned()),
            Error::NoOverlap { .. } => Some("another label table is named with `--labels FILE`".to_owned()),
            Error::Text(error) => error.hint(),
            Error::Interrupted => Some("run the same command again to continue".to_owned()),
            _ => None,
        }
    }
}
