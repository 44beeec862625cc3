pub(crate) mod defaults;
mod options;

use std::ops::Bound;

use candle_core::Device;
use cxr::{EvalCrop, Tta};
use nets::{Backbone, ImageRecipe, Loss, OptimizerKind, Pool, Precision, Recipe, Schedule};
use serde::{Deserialize, Serialize};
use stage::{Fail, Section, Settings, above_zero};

use self::defaults::LossName;
use crate::error::Error;

/// The recipe of a branch; `default.toml` of `global` and `local` explain every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml has them
pub struct Config {
    pub backbone: Backbone,
    pub pool: Pool,
    pub init: String,
    #[serde(default, skip_serializing_if = "defaults::off")]
    pub stream: u64,
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
    pub precision: Precision,
    pub eval_batch: usize,
    pub checkpoint_minutes: f64,
    pub memory_mb: usize,
    #[serde(default = "defaults::sync_batch_norm", skip_serializing_if = "defaults::is_sync_batch_norm")]
    pub sync_batch_norm: bool,
    #[serde(default, skip_serializing_if = "defaults::off")]
    pub loss: LossName,
    #[serde(default = "defaults::focal_alpha", skip_serializing_if = "defaults::is_focal_alpha")]
    pub focal_alpha: f64,
    #[serde(default = "defaults::focal_gamma", skip_serializing_if = "defaults::is_focal_gamma")]
    pub focal_gamma: f64,
    #[serde(default = "defaults::gamma_positive", skip_serializing_if = "defaults::is_gamma_positive")]
    pub gamma_positive: f64,
    #[serde(default = "defaults::gamma_negative", skip_serializing_if = "defaults::is_gamma_negative")]
    pub gamma_negative: f64,
    #[serde(default = "defaults::probability_clip", skip_serializing_if = "defaults::is_probability_clip")]
    pub probability_clip: f64,
    #[serde(default, skip_serializing_if = "defaults::off")]
    pub label_smoothing: f64,
    #[serde(default, skip_serializing_if = "defaults::off")]
    pub clip_norm: f64,
    #[serde(default, skip_serializing_if = "defaults::off")]
    pub ema_decay: f64,
    #[serde(default, skip_serializing_if = "defaults::off")]
    pub ema_warmup: bool,
    #[serde(default = "defaults::lr_patience", skip_serializing_if = "defaults::is_lr_patience")]
    pub lr_patience: usize,
    #[serde(default = "defaults::ratio_max", skip_serializing_if = "defaults::is_ratio_max")]
    pub ratio_max: f64,
    #[serde(default, skip_serializing_if = "defaults::off")]
    pub crop_schedule: Vec<(usize, usize)>,
    #[serde(default, skip_serializing_if = "defaults::off")]
    pub tta: Tta,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// By `lr_factor` once after each of the `lr_milestones`.
    Step,
    /// Half a cosine, to 0.
    Cosine,
    /// By `lr_factor` whenever the validation loss has not fallen for more than `lr_patience` epochs.
    Plateau,
}

/// The settings that every training has, of a branch and of the fusion layer.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // default.toml has them
pub struct TrainingSettings<'a> {
    pub epochs: usize,
    pub batch: usize,
    pub optimizer: OptimizerKind,
    pub lr: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub schedule: LrSchedule,
    pub lr_milestones: &'a [usize],
    pub lr_factor: f64,
    pub lr_patience: usize,
    pub warmup_epochs: usize,
}

impl TrainingSettings<'_> {
    /// Checks all ranges.
    ///
    /// # Errors
    /// Exit code 2, naming key, value and allowed range.
    pub fn check(&self, section: Section) -> Result<(), Fail> {
        section.within("epochs", self.epochs, 1..=10_000)?;
        section.within("batch", self.batch, 1..=65_536)?;
        section.within("lr", self.lr, above_zero(10.0))?;
        section.within("momentum", self.momentum, 0.0..1.0)?;
        section.within("weight_decay", self.weight_decay, 0.0..=1.0)?;
        section.within("lr_factor", self.lr_factor, above_zero(1.0))?;
        section.within("warmup_epochs", self.warmup_epochs, 0..=self.epochs)?;
        let milestones = self.lr_milestones;
        if milestones.first() == Some(&0) || !milestones.is_sorted_by(|a, b| a < b) {
            let got = format!("{milestones:?}");
            return Err(section.refuse("lr_milestones", &got, "ascending numbers of epochs, each at least 1"));
        }
        Ok(())
    }

    /// What the training loop needs to know; all options of a branch are off.
    pub fn recipe(&self, seed: u64) -> Recipe {
        let milestones = self.lr_milestones.to_vec();
        Recipe {
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            optimizer: self.optimizer,
            schedule: match self.schedule {
                LrSchedule::Step => Schedule::Step { milestones, factor: self.lr_factor },
                LrSchedule::Cosine => Schedule::Cosine,
                LrSchedule::Plateau => Schedule::Plateau { patience: self.lr_patience, factor: self.lr_factor },
            },
            warmup_epochs: self.warmup_epochs,
            seed,
            loss: Loss::Bce,
            label_smoothing: 0.0,
            clip_norm: None,
            ema: None,
        }
    }
}

fn centre() -> EvalCrop {
    EvalCrop::Centre
}

impl Settings for Config {
    // The contents of a weights file are an input of their own, wherever it lies.
    const EXECUTION: &'static [&'static str] =
        &["init", "eval_batch", "checkpoint_minutes", "memory_mb", "sync_batch_norm"];

    fn check(&self, section: Section) -> Result<(), Fail> {
        self.training().check(section)?;
        section.within("batch", self.batch, 1..=4096)?;
        section.within("eval_batch", self.eval_batch, 1..=4096)?;
        section.within("memory_mb", self.memory_mb, 0..=1 << 24)?;
        section.within("crop", self.crop, self.backbone.min_side()..=2048)?;
        self.check_trunk(section)?;
        section.within("rotate_deg", self.rotate_deg, 0.0..=180.0)?;
        section.within("scale_min", self.scale_min, above_zero(1.0))?;
        section.within("brightness", self.brightness, 0.0..1.0)?;
        section.within("contrast", self.contrast, 0.0..1.0)?;
        section.within(
            "checkpoint_minutes",
            self.checkpoint_minutes,
            (Bound::Included(0.0), Bound::Included(1440.0)),
        )?;
        if self.init.is_empty() {
            let expected = "\"imagenet\", \"imagenet:PATH\", \"random\" or the path of a weights file";
            return Err(section.refuse("init", &"\"\"", expected));
        }
        self.check_options(section)
    }
}

impl Config {
    /// What a frozen trunk cannot do, or only it can.
    fn check_trunk(&self, section: Section) -> Result<(), Fail> {
        let (backbone, patch) = (self.backbone, self.backbone.patch_px());
        if !self.crop.is_multiple_of(patch) {
            let expected = format!("a multiple of {patch}, the side of a patch of {backbone}");
            return Err(section.refuse("crop", &self.crop, &expected));
        }
        if self.pool == Pool::Class && !backbone.has_class_token() {
            return Err(section.refuse(
                "pool",
                &"\"class\"",
                &format!("max, avg or lse: {backbone} has no class token"),
            ));
        }
        if !backbone.is_frozen() {
            return Ok(());
        }
        if self.init == "random" {
            let expected = format!("pretrained weights: {backbone} is frozen, and would stay random");
            return Err(section
                .refuse("init", &"\"random\"", &expected)
                .hint("docs/foundation.md says where to get them"));
        }
        if !self.precision.suits(backbone) {
            return Err(section.refuse(
                "precision",
                &self.precision,
                &format!("f32 or auto: {backbone} computes in f32"),
            ));
        }
        // The features of an image are computed once, from one view of it.
        if self.tta != Tta::None {
            return Err(section.refuse(
                "tta",
                &self.tta,
                &format!("none: {backbone} is frozen, its features are of one view"),
            ));
        }
        if !self.crop_schedule.is_empty() {
            let expected = format!("none: {backbone} is frozen, its features are computed once");
            return Err(section.refuse("crop_schedule", &format!("{:?}", self.crop_schedule), &expected));
        }
        Ok(())
    }

    /// Whether the batch norms of a training are those of each rank's part of a batch: the weights then depend on the number of
    /// ranks.
    pub(crate) fn norms_apart(&self) -> bool {
        !self.sync_batch_norm && !self.backbone.is_frozen() && !ranks::world().is_alone()
    }

    /// In what numbers the network computes on a device.
    pub(crate) fn precision_on(&self, device: &Device) -> Precision {
        self.precision.of(self.backbone, device)
    }

    fn training(&self) -> TrainingSettings<'_> {
        TrainingSettings {
            epochs: self.epochs,
            batch: self.batch,
            optimizer: self.optimizer,
            lr: self.lr,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            schedule: self.schedule,
            lr_milestones: &self.lr_milestones,
            lr_factor: self.lr_factor,
            lr_patience: self.lr_patience,
            warmup_epochs: self.warmup_epochs,
        }
    }

    /// The seed of the branch in a run with `seed`: the same, or of another stream. The step between streams is that of
    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), so that no stream of a small seed is another small seed's.
    pub fn seed(&self, seed: u64) -> u64 {
        seed.wrapping_add(self.stream.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// What the training loop needs to know, in a run with `seed`.
    pub fn recipe(&self, seed: u64) -> Recipe {
        Recipe {
            loss: self.loss(),
            label_smoothing: self.label_smoothing,
            clip_norm: (self.clip_norm > 0.0).then_some(self.clip_norm),
            ema: self.ema(),
            ..self.training().recipe(self.seed(seed))
        }
    }

    /// Refuses an input larger than the images, of side `size_px`, that it is cut from, and one as large where corners are
    /// to be cut.
    pub(crate) fn fits(&self, size_px: u32) -> Result<(), Error> {
        let size = size_px as usize;
        if self.tta == Tta::TenCrop && self.crop == size {
            return Err(Error::NoCorners { size });
        }
        match self.view == EvalCrop::Centre && self.crop > size {
            true => Err(Error::Crop { crop: self.crop, size }),
            false => Ok(()),
        }
    }

    /// How the network is shown images.
    pub fn image_recipe(&self) -> ImageRecipe {
        ImageRecipe {
            input_px: self.crop,
            crop: self.view,
            crop_schedule: self.crop_schedule.clone(),
            scale_min: self.scale_min,
            ratio_max: self.ratio_max,
            flip: self.flip,
            rotate_deg: self.rotate_deg,
            brightness: self.brightness,
            contrast: self.contrast,
            precision: self.precision,
        }
    }
}
