//! The one training loop.

use std::ops::ControlFlow;
use std::path::Path;

use cxr::OUTPUTS;
use serde::{Deserialize, Serialize};

use crate::{Evaluated, Network, OptimizerKind, Result, Schedule, View};

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Images per step; the last step of an epoch takes what remains.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum of SGD; AdamW's first beta.
    pub momentum: f64,
    /// Weight decay: added to the gradient by SGD, decoupled in AdamW.
    pub weight_decay: f64,
    /// The update rule.
    pub optimizer: OptimizerKind,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Epochs in which the learning rate rises linearly, step by step.
    pub warmup_epochs: usize,
    /// Side of the network's input in px.
    pub crop: usize,
    /// How an evaluation input is taken from a picture.
    pub view: View,
    /// Smallest area of a random resized crop, as a share of the picture; 1 turns cropping off.
    pub scale_min: f64,
    /// Whether half the inputs are mirrored.
    pub flip: bool,
    /// Largest rotation in degrees, to both sides.
    pub rotate_deg: f64,
    /// Largest change of brightness: the factor is in `1 - b ..= 1 + b`.
    pub brightness: f64,
    /// Largest change of contrast: the factor is in `1 - c ..= 1 + c`.
    pub contrast: f64,
    /// Seed of the order of the pictures and of their augmentation.
    pub seed: u64,
}

/// Pictures in memory with their targets.
#[derive(Debug, Clone, Default)]
pub struct Pictures {
    /// Side in px.
    pub size: usize,
    /// `[N, size, size]` grey.
    pub pixels: Vec<u8>,
    /// 0 or 1 per output, by picture.
    pub targets: Vec<[f32; OUTPUTS]>,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochStats {
    /// From 1.
    pub epoch: u32,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Mean loss over the training pictures as they were seen.
    pub train_loss: f64,
    /// Mean loss over the validation pictures; `None` without any.
    pub validation_loss: Option<f64>,
    /// Mean AUROC over those of the 14 findings where it is defined; `None` if nowhere.
    pub validation_auroc: Option<f64>,
    /// Wall-clock seconds of training (validation not included).
    pub seconds: f64,
    /// Training pictures per second.
    pub images_per_s: f64,
}

/// What [`fit`] tells its watcher.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A checkpoint was found; these epochs are done.
    Resumed(&'a [EpochStats]),
    /// A step is done.
    Step {
        /// Epoch, from 1.
        epoch: u32,
        /// Step in the epoch, from 1.
        step: usize,
        /// Steps per epoch.
        steps: usize,
        /// Loss of the step.
        loss: f32,
        /// Its learning rate.
        lr: f64,
    },
    /// An epoch is done and its checkpoint is on disk.
    Epoch {
        /// Its figures.
        stats: &'a EpochStats,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// What a training was.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// All epochs.
    pub epochs: Vec<EpochStats>,
    /// The epoch whose weights the network now has, from 1.
    pub best_epoch: u32,
}

/// Trains `net`; at the end it has the weights of the best epoch.
pub fn fit(
    _net: &mut Network,
    _train: &Pictures,
    _validation: &Pictures,
    _recipe: &Recipe,
    _scratch: &Path,
    _watch: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Fit> {
    unimplemented!()
}

/// Runs `net` over `pictures` in order, in batches of `batch`; `each` gets the index of the batch's first picture.
pub fn score(
    _net: &Network,
    _pictures: &Pictures,
    _crop: usize,
    _view: View,
    _batch: usize,
    _each: &mut dyn FnMut(usize, &Evaluated) -> Result<()>,
) -> Result<()> {
    unimplemented!()
}
