//! What a training must remember to continue: one file, replaced after every epoch.
//!
//! A safetensors file with the weights (`net.NAME`), the optimiser's state (`optimizer.INDEX`) and the best epoch's
//! weights (`best.NAME`). Its metadata say of which training it is, and hold the figures so far. Random draws need no
//! memory: they follow from seed, epoch and picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::train::Best;
use crate::{EpochStats, Error, Network, Optimizer, Recipe, Result, weights};

const NAME: &str = "checkpoint.safetensors";
const FORMAT: &str = "agcnn-checkpoint-1";

/// Where a training's checkpoint is, and of which training it must be.
pub(crate) struct Checkpoint {
    path: PathBuf,
    training: String,
}

/// What is not a tensor.
#[derive(Serialize, Deserialize)]
struct Progress {
    steps: u64,
    epochs: Vec<EpochStats>,
    best_epoch: u32,
    best_auroc: Option<f64>,
}

impl Checkpoint {
    pub(crate) fn new(scratch: &Path, recipe: &Recipe, pictures: usize, net: &Network) -> Result<Checkpoint> {
        let (backbone, pool) = (net.backbone(), net.pool());
        let training = serde_json::json!({
            "backbone": backbone, "pool": pool, "pictures": pictures, "recipe": recipe,
        });
        Ok(Checkpoint { path: scratch.join(NAME), training: training.to_string() })
    }

    /// Writes the state after the last of `epochs`, atomically.
    pub(crate) fn write(&self, net: &Network, optimizer: &Optimizer, epochs: &[EpochStats], best: &Best) -> Result<()> {
        let (steps, state) = optimizer.state();
        let progress = Progress { steps, epochs: epochs.to_vec(), best_epoch: best.epoch, best_auroc: best.auroc };
        let metadata = BTreeMap::from([
            ("format", FORMAT.to_owned()),
            ("training", self.training.clone()),
            ("progress", serde_json::json!(progress).to_string()),
        ]);
        let named = |prefix: &str, name: &str| format!("{prefix}.{name}");
        let mut tensors: Vec<(String, &Tensor)> = Vec::new();
        tensors.extend(net.tensors().map(|(name, tensor)| (named("net", name), tensor)));
        tensors.extend(state.iter().enumerate().map(|(index, tensor)| (format!("optimizer.{index}"), tensor)));
        tensors.extend(net.tensors().zip(&best.weights).map(|((name, _), tensor)| (named("best", name), tensor)));
        weights::write_safetensors(&self.path, tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor)), &metadata)
    }

    /// Restores network and optimiser, and returns the epochs so far; `None` where there is no checkpoint.
    pub(crate) fn read(&self, net: &mut Network, optimizer: &mut Optimizer) -> Result<Option<(Vec<EpochStats>, Best)>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let (tensors, metadata) = weights::read_safetensors(&self.path, net.device())?;
        for (what, expected) in [("format", FORMAT), ("training", &self.training)] {
            let got = metadata.get(what).map_or("", String::as_str);
            if got != expected {
                let (got, expected) = (got.to_owned(), expected.to_owned());
                let (path, what) = (self.path.clone(), what.to_owned());
                return Err(Error::ForeignCheckpoint { path, what, got, expected });
            }
        }
        let progress = metadata.get("progress").map_or("", String::as_str);
        let progress: Progress = serde_json::from_str(progress)
            .map_err(|error| Error::malformed(&self.path, format!("metadata \"progress\": {error}")))?;
        let (weights, state) = (net.tensors().count(), optimizer.state().1.len());
        if tensors.len() != 2 * weights + state {
            let reason = format!("expected {} tensors, got {}", 2 * weights + state, tensors.len());
            return Err(Error::malformed(&self.path, reason));
        }
        let mut tensors = tensors.into_iter().map(|(_, tensor)| tensor);
        net.restore(tensors.by_ref().take(weights).collect())?;
        optimizer.restore(progress.steps, tensors.by_ref().take(state).collect());
        let best = Best { epoch: progress.best_epoch, auroc: progress.best_auroc, weights: tensors.collect() };
        Ok(Some((progress.epochs, best)))
    }
}
