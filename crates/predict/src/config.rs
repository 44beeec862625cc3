use cxr::metrics::decision::Criterion;
use model::Gate;
use serde::{Deserialize, Serialize};
use stage::{Fail, Section, Settings, Spec};

/// What this program is.
pub const SPEC: Spec = Spec {
    name: "predict",
    version: 1,
    seeded: false,
    defaults: include_str!("../default.toml"),
    about: "Ask a trained model about new images

Takes PNG, JPEG and DICOM files, folders of them, Parquet tables with images, or a list on stdin (-), and says for each image: the probabilities of the three branches, those of the fusion branch calibrated, the calls at thresholds from validation, the attended box, the novelty, and why an image was refused. --run NAME asks a trained run, --model FOLDER an exported model, which needs nothing else.

With a run, the model is made first, of its weights and its validation images, and published as <ARTIFACTS_DIR>/<RUN>/predict/; that takes seconds, once.

Not for clinical use.",
};

/// The section `[predict]`; `default.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml has them
pub struct Config {
    pub criterion: Criterion,
    pub min_side_px: u32,
    pub max_colour: f32,
    pub min_deviation: f32,
    pub min_levels: u32,
    pub max_novelty: f32,
}

impl Settings for Config {
    const EXECUTION: &'static [&'static str] = &[];

    fn check(&self, section: Section) -> Result<(), Fail> {
        section.within("min_side_px", self.min_side_px, 0..=4096)?;
        section.within("max_colour", self.max_colour, 0.0..=255.0)?;
        section.within("min_deviation", self.min_deviation, 0.0..=127.0)?;
        section.within("min_levels", self.min_levels, 0..=256)?;
        section.within("max_novelty", self.max_novelty, 0.0..=100.0)
    }
}

impl Config {
    /// The gate of a model whose prepared images have a side of `size_px`.
    pub fn gate(&self, size_px: u32) -> Gate {
        Gate {
            min_side_px: if self.min_side_px == 0 { size_px } else { self.min_side_px },
            max_colour: self.max_colour,
            min_deviation: self.min_deviation,
            min_levels: self.min_levels,
            max_novelty: self.max_novelty,
        }
    }
}
