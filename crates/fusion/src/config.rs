use branch::{LrSchedule, TrainingSettings};
use nets::OptimizerKind;
use serde::{Deserialize, Serialize};
use stage::{Fail, Section, Settings, Spec};

/// What this stage is.
pub const SPEC: Spec = Spec {
    name: "fusion",
    version: 3,
    seeded: true,
    defaults: include_str!("../default.toml"),
    about: "Train the fusion layer on the features of both branches

Reads features, predictions and weights of global and local; writes weights.safetensors, predictions.parquet and epochs.parquet. It takes seconds.",
};

/// The recipe; `default.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml has them
pub struct Config {
    pub init: Init,
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
    pub standardise: bool,
}

/// Where the weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Anew, by seed.
    Random,
    /// The mean of the two branches' logits.
    Branches,
}

impl Settings for Config {
    const EXECUTION: &'static [&'static str] = &[];

    fn check(&self, section: Section) -> Result<(), Fail> {
        if self.schedule == LrSchedule::Plateau {
            return Err(section.refuse("schedule", &"plateau", "step or cosine; plateau is for global and local"));
        }
        self.training().check(section)
    }
}

impl Config {
    pub(crate) fn training(&self) -> TrainingSettings<'_> {
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
            lr_patience: 0,
            warmup_epochs: self.warmup_epochs,
        }
    }
}
