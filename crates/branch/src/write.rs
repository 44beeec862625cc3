use std::path::Path;

use cxr::{EvalFrame, Labels, OUTPUTS, Split, metrics};
use nets::{Fit, Network};
use serde_json::{Value, json};
use tables::{Stamp, epochs, features, predictions};

use crate::{Error, Scores};

/// Writes the results of a training, `weights.safetensors` and `epochs.parquet`, into `folder`.
///
/// # Errors
/// The disk is full.
pub fn write_training(
    folder: &Path,
    network: &Network,
    frame: EvalFrame,
    fit: &Fit,
    stamp: &Stamp,
) -> Result<(), Error> {
    network.save(&folder.join("weights.safetensors"), Some(frame))?;
    write_epochs(folder, fit, stamp)
}

/// Writes the learning curve, `epochs.parquet`, into `folder`.
///
/// # Errors
/// The disk is full.
pub fn write_epochs(folder: &Path, fit: &Fit, stamp: &Stamp) -> Result<(), Error> {
    let rows = fit.epochs.iter().map(|stats| epochs::Row {
        epoch: stats.epoch,
        lr: stats.lr,
        train_loss: stats.train_loss,
        validation_loss: stats.validation_loss,
        validation_auroc: stats.validation_auroc,
        seconds: stats.seconds,
        images_per_s: stats.images_per_s,
        best: stats.epoch == fit.best_epoch,
    });
    Ok(epochs::write(&folder.join("epochs.parquet"), &rows.collect::<Vec<_>>(), stamp)?)
}

/// Writes `features.parquet` and `predictions.parquet` into `folder`.
///
/// # Errors
/// The disk is full; a score is not finite.
pub fn write_scores(folder: &Path, scores: &Scores, stamp: &Stamp) -> Result<(), Error> {
    features::write(&folder.join("features.parquet"), &scores.features, stamp)?;
    Ok(predictions::write(&folder.join("predictions.parquet"), &scores.predictions, stamp)?)
}

/// The headline numbers of a training and the predictions after it; logs the AUROCs.
pub fn headline(fit: &Fit, rows: &[predictions::Row]) -> Value {
    let [validation, test] = [Split::Validation, Split::Test].map(|split| mean_auroc(rows, split));
    let show = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
    stage::info!("mean AUROC {} on validation, {} on test", show(validation), show(test));
    json!({
        "best_epoch": fit.best_epoch,
        "validation_mean_auroc": validation,
        "test_mean_auroc": test,
        "train_seconds": fit.epochs.iter().map(|stats| stats.seconds).sum::<f64>(),
        "train_images_per_s":
            fit.epochs.iter().map(|stats| stats.images_per_s).sum::<f64>() / fit.epochs.len().max(1) as f64,
        "images": rows.len(),
    })
}

/// Mean AUROC over the findings of a split; `None` where none is defined.
fn mean_auroc(rows: &[predictions::Row], split: Split) -> Option<f64> {
    let rows = rows.iter().filter(|row| row.split == split);
    let (logits, labels): (Vec<[f32; OUTPUTS]>, Vec<Labels>) = rows.map(|row| (row.logits, row.labels)).unzip();
    metrics::mean_auroc(&logits, &labels).value
}
