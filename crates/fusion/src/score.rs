use std::path::Path;

use candle_core::{Module, Tensor};
use candle_nn::Linear;
use cxr::{Labels, OUTPUTS, Split, metrics};
use nets::Fit;
use nets::weights::{self, Meta};
use tables::predictions::Row;
use tables::{epochs, predictions};

use crate::{Error, Samples};

/// Images scored at a time.
const BATCH: usize = 1024;

/// Scores all images of all splits, sorted by `image_id`.
///
/// # Errors
/// A layer of another shape than `[15, D]`.
pub fn score(layer: &Linear, samples: &Samples) -> Result<Vec<Row>, Error> {
    let all: Vec<usize> = (0..samples.rows().len()).collect();
    let logits = logits_of(layer, samples, &all)?;
    Ok(samples.rows().iter().zip(logits).map(|(row, logits)| Row { logits, ..row.clone() }).collect())
}

/// The logits of some images.
pub(crate) fn logits_of(layer: &Linear, samples: &Samples, indices: &[usize]) -> Result<Vec<[f32; OUTPUTS]>, Error> {
    let mut logits = Vec::with_capacity(indices.len());
    for batch in indices.chunks(BATCH) {
        let shape = (batch.len(), samples.dim());
        let inputs = Tensor::from_vec(samples.inputs(batch), shape, layer.weight().device())?;
        let values = layer.forward(&inputs)?.flatten_all()?.to_vec1::<f32>()?;
        logits.extend(values.as_chunks::<OUTPUTS>().0);
    }
    Ok(logits)
}

/// Binary cross-entropy, averaged over images and outputs.
pub(crate) fn mean_loss(logits: &[[f32; OUTPUTS]], labels: &[Labels]) -> f64 {
    let targets = labels.iter().flat_map(|labels| labels.targets());
    let terms = logits.as_flattened().iter().zip(targets).map(|(&logit, target)| {
        let (logit, target) = (f64::from(logit), f64::from(target));
        logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p()
    });
    terms.sum::<f64>() / (logits.len() * OUTPUTS) as f64
}

/// Mean AUROC over the findings of a split; `None` where none is defined.
fn mean_auroc(rows: &[Row], split: Split) -> Option<f64> {
    let rows = rows.iter().filter(|row| row.key.split == split);
    let (logits, labels): (Vec<[f32; OUTPUTS]>, Vec<Labels>) = rows.map(|row| (row.logits, row.key.labels)).unzip();
    metrics::mean_auroc(&logits, &labels).value
}

/// Writes `weights.safetensors` (`fc.weight [15, D]`, `fc.bias [15]`), `predictions.parquet` and `epochs.parquet` into
/// `folder`; returns the headline numbers.
///
/// # Errors
/// The disk is full; a score is not finite.
pub fn write(
    folder: &Path,
    layer: &Linear,
    fit: &Fit,
    rows: &[Row],
    stage: &str,
    key: &str,
) -> Result<serde_json::Value, Error> {
    let mut tensors = vec![("fc.weight".to_owned(), layer.weight().clone())];
    tensors.extend(layer.bias().map(|bias| ("fc.bias".to_owned(), bias.clone())));
    let meta = Meta { backbone: "fusion".to_owned(), pool: String::new(), key: key.to_owned() };
    weights::write(&folder.join("weights.safetensors"), &tensors, &meta)?;
    predictions::write(&folder.join("predictions.parquet"), rows, stage)?;
    let curve = fit.epochs.iter().map(|stats| epochs::Row {
        epoch: stats.epoch,
        lr: stats.lr,
        train_loss: stats.train_loss,
        validation_loss: stats.validation_loss,
        validation_auroc: stats.validation_auroc,
        best: stats.epoch == fit.best_epoch,
    });
    epochs::write(&folder.join("epochs.parquet"), &curve.collect::<Vec<_>>(), stage)?;

    let [validation, test] = [Split::Validation, Split::Test].map(|split| mean_auroc(rows, split));
    let show = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
    stage::info!("mean AUROC {} on validation, {} on test", show(validation), show(test));
    let count = fit.epochs.len().max(1) as f64;
    Ok(serde_json::json!({
        "best_epoch": fit.best_epoch,
        "validation_mean_auroc": validation,
        "test_mean_auroc": test,
        "train_seconds": fit.epochs.iter().map(|stats| stats.seconds).sum::<f64>(),
        "train_images_per_s": fit.epochs.iter().map(|stats| stats.images_per_s).sum::<f64>() / count,
        "images": rows.len(),
    }))
}
