//! The stage's section of the configuration; `default.toml` explains every key.

use cxr::SplitKind;
use serde::Deserialize;

/// The `[prep]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder with NIH's files, or [`Config::PHANTOM`].
    pub root: String,
    /// Label table, or `auto`.
    pub labels: String,
    /// Box list, `auto` or `none`.
    pub boxes: String,
    /// How images are divided.
    pub split: SplitKind,
    /// Seed of every random choice of the division.
    pub split_seed: u64,
    /// List of training images (with [`SplitKind::Official`]: of training and validation images).
    pub train_list: String,
    /// List of validation images.
    pub validation_list: String,
    /// List of test images.
    pub test_list: String,
    /// Share of the train_val images for validation.
    pub validation_fraction: f64,
    /// What to do about an image that is not there.
    pub missing: OnProblem,
    /// What to do about an image that cannot be read.
    pub corrupt: OnProblem,
    /// Side of the stored image in pixels.
    pub size: u32,
    /// Contrast factor, 1 = off.
    pub contrast: f32,
}

/// What to do about an image that is missing or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnProblem {
    /// Stop.
    Error,
    /// Leave it out, and count it.
    Skip,
}

impl Config {
    /// The `root` that means the synthetic dataset of the same run.
    pub const PHANTOM: &str = "phantom";

    /// Checks the ranges that the types do not.
    ///
    /// # Errors
    /// A message that names key, value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let Config { size, contrast, validation_fraction: fraction, .. } = self;
        if !(16..=2048).contains(size) {
            return Err(format!("prep.size = {size}, expected 16 to 2048 (px)"));
        }
        if !(*contrast > 0.0 && *contrast <= 10.0) {
            return Err(format!("prep.contrast = {contrast}, expected above 0 and at most 10"));
        }
        if !(*fraction > 0.0 && *fraction <= 0.5) {
            return Err(format!("prep.validation_fraction = {fraction}, expected above 0 and at most 0.5"));
        }
        if self.split == SplitKind::Files {
            for (key, value) in [
                ("train_list", &self.train_list),
                ("validation_list", &self.validation_list),
                ("test_list", &self.test_list),
            ] {
                if value.is_empty() {
                    return Err(format!("prep.{key} = \"\", expected a file, because prep.split = \"files\""));
                }
            }
        }
        Ok(())
    }
}
