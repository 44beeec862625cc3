use cxr::CropSource;
use cxr::heatmap::{Normalise, Statistic};
use serde::Deserialize;

use crate::region::Threshold;

/// The section `[attend]`; `default.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml has them
pub struct Config {
    pub threshold: Threshold,
    pub statistic: Statistic,
    pub normalise: Normalise,
    pub crop: usize,
    pub source: CropSource,
    pub size: usize,
    pub contrast: f32,
    pub eval_batch: usize,
}

impl Config {
    /// Checks all ranges.
    ///
    /// # Errors
    /// A message with key, value and allowed range.
    pub fn check(&self) -> Result<(), String> {
        if let Threshold::Tau(tau) = self.threshold {
            let range = match self.normalise {
                Normalise::None => 0.0..f32::INFINITY,
                Normalise::Minmax | Normalise::Max => 0.0..1.0,
            };
            if !range.contains(&tau) {
                let below = if range.end == 1.0 { ", below 1" } else { "" };
                return Err(format!("attend.threshold = {tau}, expected at least 0{below}, or \"otsu\""));
            }
        }
        if self.crop > 2048 {
            return Err(format!("attend.crop = {}, expected 0 to 2048", self.crop));
        }
        if self.size != 0 && !(16..=2048).contains(&self.size) {
            return Err(format!("attend.size = {}, expected 16 to 2048, or 0", self.size));
        }
        if !(self.contrast > 0.0 && self.contrast <= 10.0) {
            return Err(format!("attend.contrast = {}, expected above 0, at most 10", self.contrast));
        }
        if !(1..=4096).contains(&self.eval_batch) {
            return Err(format!("attend.eval_batch = {}, expected 1 to 4096", self.eval_batch));
        }
        Ok(())
    }
}
