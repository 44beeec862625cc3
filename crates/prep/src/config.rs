//! The stage's section of the configuration; `default.toml` explains every key.

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
    pub split: Kind,
    /// List of training images (with [`Kind::Official`]: of training and validation images).
    pub train_list: String,
    /// List of validation images.
    pub validation_list: String,
    /// List of test images.
    pub test_list: String,
    /// Share of the train_val images for validation.
    pub validation_fraction: f64,
    /// What to do about an image that is not there.
    pub missing: Trouble,
    /// What to do about an image that cannot be read.
    pub corrupt: Trouble,
    /// Side of the stored picture in pixels.
    pub size: u32,
    /// Contrast factor, 1 = off.
    pub contrast: f32,
}

/// How images are divided; see [`cxr::split`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// NIH's lists.
    Official,
    /// By patient.
    Random,
    /// By image.
    Paper,
    /// Three lists.
    Files,
}

impl Kind {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Official => "official",
            Kind::Random => "random",
            Kind::Paper => "paper",
            Kind::Files => "files",
        }
    }
}

/// What to do about an image in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trouble {
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
        if self.split == Kind::Files {
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
