use std::path::Path;

use cxr::{EvalFrame, Labels, OUTPUTS, Split, metrics};
use nets::{Fit, Network};
use serde_json::{Value, json};
use stage::Input;
use tables::{epochs, features, predictions};

use crate::error::Error;
use crate::score::Scores;

/// Writes the results of a training, `weights.safetensors` and `epochs.parquet`, into `folder`.
///
/// # Errors
/// The disk is full.
pub fn write_training(folder: &Path, network: &Network, frame: EvalFrame, fit: &Fit) -> Result<(), Error> {
    network.save(&folder.join("weights.safetensors"), Some(frame))?;
    write_epochs(folder, fit)
}

/// Writes the learning curve, `epochs.parquet`, into `folder`.
///
/// # Errors
/// The disk is full.
pub fn write_epochs(folder: &Path, fit: &Fit) -> Result<(), Error> {
    let rows = fit.epochs.iter().map(|stats| epochs::Row {
        epoch: stats.epoch,
        lr: stats.lr,
        train_loss: stats.train_loss,
        validation_loss: stats.validation_loss,
        validation_auroc: stats.validation_auroc,
        best: stats.epoch == fit.best_epoch,
    });
    Ok(epochs::write(&folder.join("epochs.parquet"), &rows.collect::<Vec<_>>(), "training")?)
}

/// Writes `features.parquet` and `predictions.parquet` into `folder`.
///
/// # Errors
/// The disk is full; a score is not finite.
pub fn write_scores(folder: &Path, scores: &Scores, stage: &str) -> Result<(), Error> {
    features::write(&folder.join("features.parquet"), &scores.features, stage)?;
    Ok(predictions::write(&folder.join("predictions.parquet"), &scores.predictions, stage)?)
}

/// The headline numbers of a training and of the predictions by its weights; logs the AUROCs.
pub fn headline(training: &Input, rows: &[predictions::Row]) -> Value {
    let [validation, test] = [Split::Validation, Split::Test].map(|split| mean_auroc(rows, split));
    let show = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
    stage::info!("mean AUROC {} on validation, {} on test", show(validation), show(test));
    let mut numbers = training.manifest().metrics.clone();
    numbers["headline"] = json!(format!("mean AUROC {} on validation, {} on test", show(validation), show(test)));
    numbers["validation_mean_auroc"] = json!(validation);
    numbers["test_mean_auroc"] = json!(test);
    numbers["images"] = json!(rows.len());
    numbers
}

/// Mean AUROC over the findings of a split; `None` where none is defined.
fn mean_auroc(rows: &[predictions::Row], split: Split) -> Option<f64> {
    let rows = rows.iter().filter(|row| row.key.split == split);
    let (logits, labels): (Vec<[f32; OUTPUTS]>, Vec<Labels>) = rows.map(|row| (row.logits, row.key.labels)).unzip();
    metrics::mean_auroc(&logits, &labels).value
}
