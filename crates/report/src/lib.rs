//! Metrics with intervals, figures and one HTML page.
//!
//! Reads the predictions of `global`, `local` and `fusion`, the regions of `attend` and the images of `prep`, and writes
//!
//! - `metrics.parquet`: every number below with its interval and positives;
//! - `index.html`: the report, one file without external parts;
//! - `figures/*.svg`, `figures/*.png`; `overlays/*.png`.
//!
//! With `--sweep`, it reads the `metrics.parquet` of several runs instead, and draws mean AUROC against `attend.threshold`.
//! `report show` and `report compare` print to the terminal and publish nothing.

pub mod cohort;
pub mod compare;
pub mod drawing;
pub mod figures;
pub mod gallery;
pub mod localisation;
pub mod measure;
pub mod overlay;
pub mod page;
pub mod published;
pub mod results;
pub mod show;
pub mod sweep;

use cxr::Split;
use serde::Deserialize;

/// What this stage is.
pub const SPEC: stage::Spec = stage::Spec { name: "report", version: 3, defaults: include_str!("../default.toml") };

/// Configuration, see `default.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Draws of the bootstrap.
    pub draws: usize,
    /// Share of draws inside an interval.
    pub confidence: f64,
    /// `test` or `validation`.
    pub split: String,
    /// Number of cases in the gallery.
    pub cases: usize,
}

impl Config {
    /// Checks the ranges; returns the split that is reported, and the other one.
    ///
    /// # Errors
    /// A text that names key, value and what is allowed.
    pub fn check(&self) -> Result<(Split, Split), String> {
        if self.draws > 20_000 {
            return Err(format!("report.draws = {}, expected 0 to 20000", self.draws));
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            let got = self.confidence;
            return Err(format!("report.confidence = {got}, expected above 0 and below 1"));
        }
        if self.cases > 300 {
            return Err(format!("report.cases = {}, expected 0 to 300", self.cases));
        }
        match self.split.as_str() {
            "test" => Ok((Split::Test, Split::Validation)),
            "validation" => Ok((Split::Validation, Split::Test)),
            other => Err(format!("report.split = {other:?}, expected \"test\" or \"validation\"")),
        }
    }
}

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
        branches: [&'static str; 2],
        /// How many images.
        count: usize,
        /// The first ten.
        first: String,
    },
    /// Two branches took the same image for something else.
    #[error("{} and {} differ in label or patient of {count} {split} images, the first: {first}", branches[0], branches[1])]
    Labels {
        /// Of which images.
        split: Split,
        /// Which branches.
        branches: [&'static str; 2],
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
    /// attend knows nothing about an image.
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
    },
    /// Two runs took the same image for something else.
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
    /// A stored picture cannot be decoded.
    #[error("{image_id}: stored picture cannot be decoded: {reason}")]
    Picture {
        /// The image.
        image_id: String,
        /// Why.
        reason: String,
    },
    /// See [`drawing::Error`].
    #[error(transparent)]
    Drawing(#[from] drawing::Error),
    /// A table cannot be read.
    #[error(transparent)]
    Table(#[from] tables::Error),
    /// The page cannot be filled in, a bug.
    #[error("page")]
    Page(#[from] minijinja::Error),
    /// The embedded table of published results is malformed, a bug.
    #[error("published.toml")]
    Published(#[from] toml::de::Error),
}
