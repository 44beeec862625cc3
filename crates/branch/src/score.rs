use std::path::Path;

use cxr::{Labels, OUTPUTS, Split, metrics};
use nets::{Evaluated, Fit, Network};
use tables::features::Features;
use tables::{epochs, features, predictions};

use crate::{Config, Error, Images, Key};

/// What a network says about all images, sorted by `image_id`.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// The pooled vectors.
    pub features: Features,
    /// The logits.
    pub predictions: Vec<predictions::Row>,
}

/// Scores all images of all splits.
///
/// # Errors
/// A tensor operation failed.
pub fn score(network: &Network, images: &Images, config: &Config) -> Result<Scores, Error> {
    let keys: Vec<&Key> = Split::ALL.iter().flat_map(|&split| images.keys(split)).collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&index| &keys[index].image_id);
    // Where the next image, in the order of the splits, goes.
    let mut place = vec![0; keys.len()];
    order.iter().enumerate().for_each(|(to, &from)| place[from] = to);

    let dim = network.backbone().channels();
    let mut pool = vec![0.0; keys.len() * dim];
    let mut logits = vec![[0.0; OUTPUTS]; keys.len()];
    let mut progress = stage::progress(keys.len() as u64, "images scored");
    let mut first_of_split = 0;
    for split in Split::ALL {
        let pictures = images.pictures(split);
        let what = |evaluated: &Evaluated| Ok(vec![evaluated.pool.clone(), evaluated.logits.clone()]);
        nets::score(network, pictures, config.crop, config.view, config.eval_batch, &what, &mut |first, values| {
            let rows = values[1].chunks_exact(OUTPUTS);
            let count = rows.len();
            for (index, (pooled, row)) in values[0].chunks_exact(dim).zip(rows).enumerate() {
                let to = place[first_of_split + first + index];
                pool[to * dim..][..dim].copy_from_slice(pooled);
                logits[to].copy_from_slice(row);
            }
            progress.inc(count as u64);
            Ok(())
        })?;
        first_of_split += pictures.targets.len();
    }
    progress.finish();

    let rows = order.iter().zip(logits).map(|(&index, logits)| predictions::Row { key: keys[index].clone(), logits });
    let predictions: Vec<_> = rows.collect();
    let image_ids = predictions.iter().map(|row| row.key.image_id.clone()).collect();
    Ok(Scores { features: Features { image_ids, dim, pool }, predictions })
}

impl Scores {
    /// Mean AUROC over the findings of a split; `None` where none is defined.
    pub fn mean_auroc(&self, split: Split) -> Option<f64> {
        let rows = self.predictions.iter().filter(|row| row.key.split == split);
        let (logits, labels): (Vec<[f32; OUTPUTS]>, Vec<Labels>) = rows.map(|row| (row.logits, row.key.labels)).unzip();
        metrics::mean_auroc(&logits, &labels).value
    }
}

/// Writes `weights.safetensors`, `features.parquet`, `predictions.parquet` and `epochs.parquet` into `folder`; returns
/// the headline numbers.
///
/// # Errors
/// The disk is full; a score is not finite.
pub fn write(
    folder: &Path,
    network: &Network,
    fit: &Fit,
    scores: &Scores,
    stage: &str,
    key: &str,
) -> Result<serde_json::Value, Error> {
    network.save(&folder.join("weights.safetensors"), key)?;
    features::write(&folder.join("features.parquet"), &scores.features, stage)?;
    predictions::write(&folder.join("predictions.parquet"), &scores.predictions, stage)?;
    let rows = fit.epochs.iter().map(|stats| epochs::Row {
        epoch: stats.epoch,
        lr: stats.lr,
        train_loss: stats.train_loss,
        validation_loss: stats.validation_loss,
        validation_auroc: stats.validation_auroc,
        best: stats.epoch == fit.best_epoch,
    });
    epochs::write(&folder.join("epochs.parquet"), &rows.collect::<Vec<_>>(), stage)?;

    let [validation, test] = [Split::Validation, Split::Test].map(|split| scores.mean_auroc(split));
    let show = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
    stage::info!("mean AUROC {} on validation, {} on test", show(validation), show(test));
    let (count, seconds) = (fit.epochs.len() as f64, fit.epochs.iter().map(|stats| stats.seconds).sum::<f64>());
    Ok(serde_json::json!({
        "best_epoch": fit.best_epoch,
        "validation_mean_auroc": validation,
        "test_mean_auroc": test,
        "train_seconds": seconds,
        "train_images_per_s": fit.epochs.iter().map(|stats| stats.images_per_s).sum::<f64>() / count,
        "images": scores.predictions.len(),
    }))
}
