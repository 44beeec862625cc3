use std::ops::ControlFlow;

use cxr::{EvalFrame, ImageKey, OUTPUTS, Split};
use nets::{Network, Scores as Batch};
use stage::Shards;
use tables::features::Features;
use tables::predictions;

use crate::config::Config;
use crate::error::Error;
use crate::load::Images;
use crate::parts::Parts;
use crate::together;

/// Features and logits of all images, sorted by `image_id`.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// The pooled vectors.
    pub features: Features,
    /// The logits.
    pub predictions: Vec<predictions::Row>,
}

/// Scores all images of all splits, `config.eval_batch` views at a time, which changes no result on a CPU. Scores are saved
/// on their way ([`Parts`]); `what` stands for the network's weights, the images and the configuration.
///
/// # Errors
/// [`Error::Interrupted`]; a tensor operation; the disk.
pub fn score(
    network: &Network,
    images: &Images,
    config: &Config,
    (shards, what): (&Shards, &str),
) -> Result<Scores, Error> {
    let keys: Vec<&ImageKey> = Split::ALL.iter().flat_map(|&split| images.keys(split)).collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&index| &keys[index].image_id);
    // The place, in the sorted tables, of each image in the order of the splits.
    let mut place = vec![0; keys.len()];
    order.iter().enumerate().for_each(|(to, &from)| place[from] = to);

    let dim = network.backbone().channels();
    let mut pool = vec![0.0; keys.len() * dim];
    let mut logits = vec![[0.0; OUTPUTS]; keys.len()];
    let by_split = Split::ALL.map(|split| images.keys(split));
    let mut parts = Parts::new(shards, what, by_split, (network, config.eval_batch), &|_| dim + OUTPUTS);
    let mut progress = stage::progress(parts.mine().len() as u64, "images scored");
    // After Ctrl-C, what is scored is saved before the process ends.
    let _hold = stage::hold();
    let there = parts.read(&mut |index, row| {
        let (pooled, row) = row.split_at(dim);
        pool[place[index] * dim..][..dim].copy_from_slice(pooled);
        logits[place[index]].copy_from_slice(row);
    })?;
    progress.inc(there as u64);
    let scored = Split::ALL.into_iter().try_for_each(|split| {
        let (of_split, views) = (images.of(split), (frame(images, config), config.tta));
        let before = parts.first(split);
        parts.missing(split).into_iter().try_for_each(|range| {
            nets::evaluate_range(network, of_split, range, views, config.eval_batch, &mut |batch: Batch| {
                for (index, (pooled, row)) in batch.pool.chunks_exact(dim).zip(&batch.logits).enumerate() {
                    let to = place[before + batch.first + index];
                    pool[to * dim..][..dim].copy_from_slice(pooled);
                    logits[to] = *row;
                }
                progress.inc(batch.logits.len() as u64);
                parts.add(before + batch.first, batch.logits.len(), &|index, row| {
                    row.extend_from_slice(&pool[place[index] * dim..][..dim]);
                    row.extend_from_slice(&logits[place[index]]);
                })?;
                Ok::<_, Error>(ControlFlow::Continue(()))
            })
        })
    });
    together::agree(scored)?;
    progress.finish();
    let gathered = together::gathered(&parts, |index, row| {
        row.extend_from_slice(&pool[place[index] * dim..][..dim]);
        row.extend_from_slice(&logits[place[index]]);
    });
    for (row, &to) in gathered.iter().flat_map(|rows| rows.chunks_exact(dim + OUTPUTS)).zip(&place) {
        pool[to * dim..][..dim].copy_from_slice(&row[..dim]);
        logits[to].copy_from_slice(&row[dim..]);
    }

    let rows = order.iter().zip(logits).map(|(&index, logits)| predictions::Row { key: keys[index].clone(), logits });
    let predictions: Vec<_> = rows.collect();
    let image_ids = predictions.iter().map(|row| row.key.image_id.clone()).collect();
    Ok(Scores { features: Features { image_ids, dim, pool }, predictions })
}

/// How the branch cuts evaluation inputs from its images.
pub fn frame(images: &Images, config: &Config) -> EvalFrame {
    EvalFrame { crop: config.view, image_px: images.size(), input_px: config.crop }
}
