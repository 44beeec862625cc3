//! The stage's section of the configuration; `default.toml` explains every key.

use std::ops::Bound;

use cxr::SplitKind;
use serde::{Deserialize, Serialize};
use stage::{Fail, Section, Settings, Spec};

/// What this stage is.
pub const SPEC: Spec = Spec {
    name: "prep",
    version: 2,
    seeded: false,
    defaults: include_str!("../default.toml"),
    about: "Read the NIH files and write one Parquet row per image, with its split

Reads the label table, the box list, the split lists and the PNG files of the folder prep.root; writes images/{train,validation,test}-NNNNN-of-NNNNN.parquet. With --dry-run, prints what the folder holds and opens no image: it also works before the images have arrived.",
};

/// The `[prep]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl Settings for Config {
    // The contents of the raw data are an input of their own, wherever they lie.
    const EXECUTION: &'static [&'static str] = &["root"];

    fn check(&self, section: Section) -> Result<(), Fail> {
        section.within("size", self.size, 16..=2048)?;
        section.within("contrast", self.contrast, (Bound::Excluded(0.0), Bound::Included(10.0)))?;
        section.within(
            "validation_fraction",
            self.validation_fraction,
            (Bound::Excluded(0.0), Bound::Included(0.5)),
        )?;
        let lists = [
            ("train_list", &self.train_list),
            ("validation_list", &self.validation_list),
            ("test_list", &self.test_list),
        ];
        match lists.into_iter().find(|(_, list)| self.split == SplitKind::Files && list.is_empty()) {
            Some((key, _)) => Err(section.refuse(key, &"\"\"", "a file, because prep.split = \"files\"")),
            None => Ok(()),
        }
    }
}
