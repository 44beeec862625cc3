use std::fmt::Display;
use std::ops::RangeInclusive;

use cxr::EvalCrop;
use nets::{Backbone, ImageRecipe, OptimizerKind, Pool, Precision, Recipe, Schedule};
use serde::Deserialize;

/// The recipe of a branch; `default.toml` of `global` and `local` explain every key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml has them
pub struct Config {
    pub backbone: Backbone,
    pub pool: Pool,
    pub init: String,
    pub crop: usize,
    #[serde(default = "centre")]
    pub view: EvalCrop,
    pub epochs: usize,
    pub batch: usize,
    pub optimizer: OptimizerKind,
    pub lr: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub schedule: LrSchedule,
    pub lr_milestones: Vec<usize>,
    pub lr_factor: f64,
    pub warmup_epochs: usize,
    pub scale_min: f64,
    pub flip: bool,
    pub rotate_deg: f64,
    pub brightness: f64,
    pub contrast: f64,
    pub eval_batch: usize,
    pub precision: Precision,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// By `lr_factor` once after each of the `lr_milestones`.
    Step,
    /// Half a cosine, to 0.
    Cosine,
}

fn centre() -> EvalCrop {
    EvalCrop::Centre
}

impl Config {
    /// Checks all ranges; `section` is the stage's name.
    ///
    /// # Errors
    /// A message with key, value and allowed range.
    pub fn check(&self, section: &str) -> Result<(), String> {
        let key = |name: &str| format!("{section}.{name}");
        within(&key("epochs"), self.epochs, 1..=10_000)?;
        within(&key("batch"), self.batch, 1..=4096)?;
        within(&key("eval_batch"), self.eval_batch, 1..=4096)?;
        within(&key("crop"), self.crop, self.backbone.min_side()..=2048)?;
        if !self.lr_milestones.is_sorted_by(|a, b| a < b) || self.lr_milestones.first() == Some(&0) {
            let (key, got) = (key("lr_milestones"), &self.lr_milestones);
            return Err(format!("{key} = {got:?}, expected ascending numbers of epochs, at least 1"));
        }
        within(&key("warmup_epochs"), self.warmup_epochs, 0..=self.epochs)?;
        within(&key("weight_decay"), self.weight_decay, 0.0..=1.0)?;
        within(&key("rotate_deg"), self.rotate_deg, 0.0..=180.0)?;
        above_zero(&key("lr"), self.lr, 10.0)?;
        above_zero(&key("lr_factor"), self.lr_factor, 1.0)?;
        above_zero(&key("scale_min"), self.scale_min, 1.0)?;
        below_one(&key("momentum"), self.momentum)?;
        below_one(&key("brightness"), self.brightness)?;
        below_one(&key("contrast"), self.contrast)?;
        if self.init.is_empty() {
            let expected = "\"imagenet\", \"imagenet:PATH\", \"random\" or the path of a weights file";
            return Err(format!("{} = \"\", expected {expected}", key("init")));
        }
        Ok(())
    }

    /// What the training loop needs to know.
    pub fn recipe(&self, seed: u64) -> Recipe {
        Recipe {
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            optimizer: self.optimizer,
            schedule: match self.schedule {
                LrSchedule::Step => Schedule::Step { milestones: self.lr_milestones.clone(), factor: self.lr_factor },
                LrSchedule::Cosine => Schedule::Cosine,
            },
            warmup_epochs: self.warmup_epochs,
            seed,
        }
    }

    /// How the network is shown images.
    pub fn image_recipe(&self) -> ImageRecipe {
        ImageRecipe {
            input_px: self.crop,
            crop: self.view,
            scale_min: self.scale_min,
            flip: self.flip,
            rotate_deg: self.rotate_deg,
            brightness: self.brightness,
            contrast: self.contrast,
            precision: self.precision,
        }
    }
}

fn within<T: PartialOrd + Display>(key: &str, value: T, range: RangeInclusive<T>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value}, expected {} to {}", range.start(), range.end()))
}

fn above_zero(key: &str, value: f64, most: f64) -> Result<(), String> {
    if value > 0.0 && value <= most {
        Ok(())
    } else {
        Err(format!("{key} = {value}, expected above 0, at most {most}"))
    }
}

fn below_one(key: &str, value: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(format!("{key} = {value}, expected at least 0, below 1")) }
}
