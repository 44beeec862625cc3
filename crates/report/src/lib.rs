//! Metrics with intervals, figures and one HTML page.
//!
//! Reads the predictions of `global`, `local` and `fusion`, the regions of `attend` and the images of `prep`, and writes
//!
//! - `metrics.parquet`: AUROC and average precision for every branch, finding and mean, their paired differences, and
//!   how well the attended regions fit the drawn boxes. All else below is read from this table;
//! - `index.html`: the report, one file without external parts;
//! - `figures/*.svg`, `figures/*.png`; `overlays/*.png`.
//!
//! With `--sweep`, it reads the `metrics.parquet` of several runs instead, and draws mean AUROC against `attend.threshold`.

pub mod drawing;
pub mod figures;
pub mod localisation;
pub mod overlay;
pub mod page;
pub mod published;
pub mod results;
pub mod sweep;

use cxr::Split;
use serde::Deserialize;

/// What this stage is.
pub const SPEC: stage::Spec = stage::Spec { name: "report", version: 2, defaults: include_str!("../default.toml") };

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
    /// Number of overlays.
    pub overlays: usize,
}

impl Config {
    /// Checks the ranges; returns the split that is reported, and the other one.
    ///
    /// # Errors
    /// A text that names key, value and what is allowed.
    pub fn check(&self) -> Result<(Split, Split), String> {
        if self.draws > 100_000 {
            return Err(format!("report.draws = {}, expected 0 to 100000", self.draws));
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            let got = self.confidence;
            return Err(format!("report.confidence = {got}, expected above 0 and below 1"));
        }
        if self.overlays > 200 {
            return Err(format!("report.overlays = {}, expected 0 to 200", self.overlays));
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
