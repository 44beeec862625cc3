//! A branch whose trunk is frozen, a foundation model: the features of all images are computed once and stored, and the
//! linear layer is trained on them.

use std::ops::ControlFlow;
use std::time::Instant;

use cxr::{EvalFrame, Split, Tta};
use nets::{Checkpoints, FeatureRows, Fit, Identity, Network, Scores};
use serde_json::json;
use stage::{Computed, Fail, Input, Run, Shards, Step, info, warn};
use tables::features::Features;
use tables::{features, predictions};

use crate::config::Config;
use crate::error::Error;
use crate::init::Init;
use crate::load::Images;
use crate::parts::Parts;
use crate::score::frame;
use crate::together;
use crate::watch::Watch;

/// What the result of [`stored_features`] is called.
pub(crate) const FEATURES: &str = "features.parquet";

/// Rows of features digested between two questions whether to go on.
const CHUNK: usize = 1024;

/// The features of all images, a result of its own: taken from the store or computed. Its key says nothing of the linear
/// layer, of labels and of splits, so that another recipe, seed or split computes none again. A shard computes its share, and
/// has no result.
///
/// # Errors
/// An interruption; the disk.
pub(crate) fn stored_features(
    run: &Run,
    network: &Network,
    (images, config, init): (&Images, &Config, &Init),
    computed: &Computed,
) -> Result<Option<Input>, Fail> {
    const STEP: &str = "features";
    let frame = frame(images, config);
    let what = json!({
        "version": 2, "backbone": config.backbone.name(), "pool": config.pool.name(), "weights": init.digest(),
        "frame": frame, "images": images.pixels_digest()?,
    });
    let key = stage::digest(&what);
    let mut work = match run.divided_step(STEP, &key, what)? {
        Step::Done(done) => {
            info!("the features are in the store, {}", done.manifest().made_by());
            return Ok(run.shards().mine().is_none().then_some(done));
        }
        Step::Work(work) => work,
    };
    info!("{} features of {} images on {}", config.backbone, images.len(), nets::describe(network.device()));
    let clock = Instant::now();
    let (by_split, now, parts) = pool(network, images, (frame, config.eval_batch), (&work.pass(), &key))?;
    let seconds = clock.elapsed().as_secs_f64();
    let rate = now as f64 / seconds.max(1e-9);
    info!("{now} images in {seconds:.1} s, {rate:.1} images/s");
    if work.shards().mine().is_some() {
        work.share(|shard| parts.is_missing(shard))?;
        return Ok(None);
    }
    if ranks::world().leads() {
        let table = sorted(images, network.backbone().channels(), &by_split);
        features::write(&work.out().join(FEATURES), &table, STEP).map_err(Error::from)?;
    }
    work.rows(FEATURES, images.len() as u64);
    work.computed(computed.clone());
    let headline = format!("{} features of {} images, {rate:.1} images/s", config.backbone, images.len());
    let figures = json!({ "headline": headline, "images": images.len(), "seconds": seconds, "images_per_s": rate });
    work.finish(figures).map(Some)
}

/// The features `[N, K]` of all images, in the order of the splits, those of a shard's share at least; how many of the images
/// were computed now; and what is saved on the way. `key` stands for what they are computed from.
fn pool(
    network: &Network,
    images: &Images,
    (frame, batch): (EvalFrame, usize),
    (shards, key): (&Shards, &str),
) -> Result<(Vec<f32>, usize, Parts), Error> {
    let dim = network.backbone().channels();
    let mut pool = vec![0.0; images.len() * dim];
    let keys = Split::ALL.map(|split| images.keys(split));
    let mut parts = Parts::new(shards, key, keys, (network, batch), &|_| dim);
    let mut progress = stage::progress(parts.mine().len() as u64, "features");
    // After Ctrl-C, what is computed is saved before the process ends.
    let _hold = stage::hold();
    let there = parts.read(&mut |index, row| pool[index * dim..][..dim].copy_from_slice(row))?;
    progress.inc(there as u64);
    let mut now = 0;
    let computed = Split::ALL.into_iter().try_for_each(|split| {
        let (before, of_split) = (parts.first(split), images.of(split));
        parts.missing(split).into_iter().try_for_each(|range| {
            nets::evaluate_range(network, of_split, range, (frame, Tta::None), batch, &mut |scores: Scores| {
                let first = before + scores.first;
                pool[first * dim..][..scores.pool.len()].copy_from_slice(&scores.pool);
                progress.inc(scores.logits.len() as u64);
                now += scores.logits.len();
                parts.add(first, scores.logits.len(), &|index, row| {
                    row.extend_from_slice(&pool[index * dim..][..dim]);
                })?;
                Ok::<_, Error>(ControlFlow::Continue(()))
            })
        })
    });
    together::agree(computed)?;
    progress.finish();
    let pool =
        together::gathered(&parts, |index, row| row.extend_from_slice(&pool[index * dim..][..dim])).unwrap_or(pool);
    Ok((pool, now, parts))
}

/// The table of features that are in the order of the splits.
fn sorted(images: &Images, dim: usize, by_split: &[f32]) -> Features {
    let mut order: Vec<(&str, &[f32])> = Vec::with_capacity(images.len());
    let ids = Split::ALL.iter().flat_map(|&split| images.keys(split)).map(|key| key.image_id.as_str());
    order.extend(ids.zip(by_split.chunks_exact(dim)));
    order.sort_by_key(|&(image_id, _)| image_id);
    let (ids, rows): (Vec<_>, Vec<_>) = order.into_iter().unzip();
    Features { image_ids: ids.into_iter().map(str::to_owned).collect(), dim, pool: rows.concat() }
}

/// The features of a split's images, in their order.
pub(crate) fn rows(images: &Images, table: &Features, split: Split) -> Result<FeatureRows, Error> {
    let mut rows = FeatureRows { dim: table.dim, pool: Vec::new(), labels: Vec::new() };
    for key in images.keys(split) {
        let at = table.image_ids.binary_search(&key.image_id).map_err(|_| Error::Unmatched {
            image_id: key.image_id.clone(),
            present: "the images",
            absent: "their features",
        })?;
        rows.pool.extend_from_slice(table.row(at));
        rows.labels.push(key.labels);
    }
    Ok(rows)
}

/// What decides the weights that [`train`] ends with.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn identity(
    images: &Images,
    [train, validation]: [&FeatureRows; 2],
    (config, init, seed): (&Config, &Init, u64),
) -> Result<Identity, Error> {
    let mut hasher = blake3::Hasher::new();
    for (split, rows) in [(Split::Train, train), (Split::Validation, validation)] {
        hasher.update(format!("{split} {} images of {} features\n", rows.labels.len(), rows.dim).as_bytes());
        for (keys, pool) in images.keys(split).chunks(CHUNK).zip(rows.pool.chunks(CHUNK * rows.dim)) {
            keys.iter().for_each(|key| {
                hasher.update(format!("{} {}\n", key.image_id, key.labels).as_bytes());
            });
            hasher.update(&pool.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            if stage::interrupted() {
                return Err(Error::Interrupted);
            }
        }
    }
    Ok(Identity {
        model: json!({
            "backbone": config.backbone.name(), "pool": config.pool.name(), "frozen": true, "crop": config.crop,
            "view": config.view,
        }),
        data: hasher.finalize().to_hex().to_string(),
        start: init.digest(),
        recipe: config.recipe(seed),
    })
}

/// Trains the linear layer of `network` on `train`, chooses the epoch on `validation`.
///
/// # Errors
/// No images to train on; a loss that is not finite; an interruption.
pub(crate) fn train(
    network: &mut Network,
    [train, validation]: [&FeatureRows; 2],
    identity: &Identity,
    checkpoints: &Checkpoints,
    run: &Run,
) -> Result<Fit, Error> {
    if train.labels.is_empty() {
        return Err(Error::Empty);
    }
    if validation.labels.is_empty() {
        warn!("no validation images: the last epoch will be published");
    }
    let (count, of_validation) = (train.labels.len(), validation.labels.len());
    info!("{count} train and {of_validation} validation images of {} features", train.dim);
    let mut scalars = run.scalars();
    let mut watch = Watch::new("images trained", &identity.recipe, count, false, &mut scalars);
    let fit = nets::fit_head(network, train, validation, identity, checkpoints, &mut |event| watch.see(event))?;
    watch.finish(&fit);
    Ok(fit)
}

/// The predictions for all images, sorted by `image_id`.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn score(network: &Network, images: &Images, table: &Features) -> Result<Vec<predictions::Row>, Error> {
    let mut scored = Vec::with_capacity(images.len());
    for split in Split::ALL {
        let go_on = &mut |_| if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let logits = nets::score_features(network, &rows(images, table, split)?, go_on)?;
        let keys = images.keys(split).iter().cloned();
        scored.extend(keys.zip(logits).map(|(key, logits)| predictions::Row { key, logits }));
    }
    scored.sort_by(|a, b| a.key.image_id.cmp(&b.key.image_id));
    Ok(scored)
}
