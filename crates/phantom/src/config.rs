//! Settings of the generator.

use serde::{Deserialize, Serialize};
use stage::{Fail, Section, Settings, Spec};

/// What this stage is.
pub const SPEC: Spec = Spec {
    name: "phantom",
    version: 3,
    seeded: false,
    defaults: include_str!("../default.toml"),
    about: "Make a synthetic chest X-ray dataset in NIH's own on-disk shape

Radiograph-like images of invented patients with all 14 findings as visible signs, the true box around each, several images per patient, and NIH's table, lists and box file beside them. It is what `prep` reads where `prep.root` is \"phantom\" (the default); where that names a folder, there is nothing to do here.

Reads nothing. Writes images_NNN/images/*.png, Data_Entry_2017_v2020.csv, train_val_list.txt, test_list.txt and BBox_List_2017.csv. The same phantom.seed gives the same bytes.",
};

/// How often findings occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prevalence {
    /// Every finding in about one image of nine.
    Balanced,
    /// As in ChestX-ray14.
    Nih,
}

/// The section `[phantom]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

impl Settings for Config {
    const EXECUTION: &'static [&'static str] = &[];

    fn check(&self, section: Section) -> Result<(), Fail> {
        section.within("patients", self.patients, 10..=100_000)?;
        section.within("images_per_patient", self.images_per_patient, 1.0..=8.0)?;
        section.within("size", self.size, 64..=2048)?;
        section.within("contrast", self.contrast, 0.1..=3.0)
    }
}
