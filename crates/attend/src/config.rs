use std::ops::Bound;

use cxr::heatmap::{Alignment, Normalise, Statistic};
use cxr::{CropSource, Placement};
use model::region::Threshold;
use nets::Precision;
use serde::{Deserialize, Serialize};
use stage::{Fail, Section, Settings, Spec};

/// What this stage is.
pub const SPEC: Spec = Spec {
    name: "attend",
    version: 6,
    seeded: false,
    defaults: include_str!("../default.toml"),
    about: "Find the attended region of every image and crop it

Shows every image to the frozen global branch, makes a heat map of its last feature map, and boxes the largest connected component above a threshold. Reads prep/images and global/weights.safetensors; writes regions-NNNNN-of-NNNNN.parquet: heat map, box and crop of every image; and class_maps.parquet: the class activation maps of the images that have boxes, to be held against them (none with normalise = \"none\", or where the global branch has pool = \"class\").

Heat maps that the store has, of whatever run and threshold, are used again.",
};

/// The section `[attend]`; `default.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml has them
pub struct Config {
    pub threshold: Threshold,
    pub statistic: Statistic,
    pub normalise: Normalise,
    pub alignment: Alignment,
    pub crop: usize,
    pub region: Placement,
    pub region_seed: u64,
    pub source: CropSource,
    pub size: usize,
    pub contrast: f32,
    pub precision: Precision,
    pub eval_batch: usize,
    pub memory_mb: usize,
}

impl Settings for Config {
    const EXECUTION: &'static [&'static str] = &["eval_batch", "memory_mb"];

    fn check(&self, section: Section) -> Result<(), Fail> {
        if let Threshold::Tau(tau) = self.threshold {
            let (range, expected) = match self.normalise {
                Normalise::None => (0.0..f32::INFINITY, "at least 0, or \"otsu\""),
                Normalise::Minmax | Normalise::Max => (0.0..1.0, "at least 0, below 1, or \"otsu\""),
            };
            if !range.contains(&tau) {
                return Err(section.refuse("threshold", &tau, expected));
            }
        }
        section.within("crop", self.crop, 0..=2048)?;
        if self.size != 0 && !(16..=2048).contains(&self.size) {
            return Err(section.refuse("size", &self.size, "16 to 2048, or 0"));
        }
        section.within("contrast", self.contrast, (Bound::Excluded(0.0), Bound::Included(10.0)))?;
        section.within("memory_mb", self.memory_mb, 0..=1 << 24)?;
        section.within("eval_batch", self.eval_batch, 1..=4096)
    }
}
