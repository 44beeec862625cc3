//! Settings of the generator.

use serde::Deserialize;
use stage::{Fail, Spec};

/// The stage.
pub const SPEC: Spec = Spec { name: "phantom", version: 3, defaults: include_str!("../default.toml") };

/// How often findings occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prevalence {
    /// Every finding in about one image of nine.
    Balanced,
    /// As in ChestX-ray14.
    Nih,
}

/// The section `[phantom]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of the whole dataset.
    pub seed: u64,
    /// Number of patients.
    pub patients: u32,
    /// Mean number of images per patient.
    pub images_per_patient: f64,
    /// Width and height of the images in pixels.
    pub size: usize,
    /// How often findings occur.
    pub prevalence: Prevalence,
    /// Strength of the signs.
    pub contrast: f32,
}

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Exit code 2, naming key, value and range.
    pub fn check(self) -> Result<Self, Fail> {
        let range = |ok: bool, key: &str, value: String, allowed: &str| match ok {
            true => Ok(()),
            false => Err(Fail::usage(anyhow::anyhow!("phantom.{key} = {value}, expected {allowed}"))),
        };
        range((10..=100_000).contains(&self.patients), "patients", self.patients.to_string(), "10 to 100000")?;
        let mean = self.images_per_patient;
        range((1.0..=8.0).contains(&mean), "images_per_patient", mean.to_string(), "1 to 8")?;
        range((64..=2048).contains(&self.size), "size", self.size.to_string(), "64 to 2048")?;
        range((0.1..=3.0).contains(&self.contrast), "contrast", self.contrast.to_string(), "0.1 to 3")?;
        Ok(self)
    }
}
