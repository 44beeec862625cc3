//! A branch whose trunk is frozen, a foundation model: the features of all images are computed once and stored, and the
//! linear layer is trained on them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use cxr::{EvalFrame, ImageKey, Split, Tta};
use nets::weights::{self, Meta};
use nets::{Checkpoints, FeatureRows, Fit, Identity, Network, Scores};
use serde_json::json;
use stage::{Computed, Fail, Input, Run, Step, info, warn};
use tables::features::Features;
use tables::{features, predictions};

use crate::config::Config;
use crate::error::Error;
use crate::init::Init;
use crate::load::Images;
use crate::score::frame;
use crate::watch::Watch;

/// What the result of [`stored_features`] is called.
pub(crate) const FEATURES: &str = "features.parquet";

/// Images between two files of features that an interrupted stage goes on from.
const SAVED: usize = 512;
/// Rows of features digested between two questions whether to go on.
const CHUNK: usize = 1024;

/// The features of all images, a result of its own: taken from the store or computed. Its key says nothing of the linear
/// layer, of labels and of splits, so that another recipe, seed or split computes none again.
///
/// # Errors
/// An interruption; the disk.
pub(crate) fn stored_features(
    run: &Run,
    network: &Network,
    (images, config, init): (&Images, &Config, &Init),
    computed: &Computed,
) -> Result<Input, Fail> {
    const STEP: &str = "features";
    let frame = frame(images, config);
    let what = json!({
        "version": 2, "backbone": config.backbone.name(), "pool": config.pool.name(), "weights": init.digest(),
        "frame": frame, "images": images.pixels_digest()?,
    });
    let mut work = match run.step(STEP, &stage::digest(&what), what)? {
        Step::Done(done) => {
            info!("the features are in the store, {}", done.manifest().made_by());
            return Ok(done);
        }
        Step::Work(work) => work,
    };
    info!("{} features of {} images on {}", config.backbone, images.len(), nets::describe(network.device()));
    let clock = Instant::now();
    let mut progress = stage::progress(images.len() as u64, "features");
    let mut computed_now = 0;
    let mut by_split = Vec::with_capacity(images.len() * network.backbone().channels());
    {
        // After Ctrl-C, what is computed is saved before the process ends.
        let _hold = stage::hold();
        for split in Split::ALL {
            let of = Part { split, ids: digest_of_ids(images.keys(split)), folder: work.scratch(), frame };
            let (pool, now) = of.pool(network, images, config.eval_batch, &mut |count| progress.inc(count as u64))?;
            by_split.extend(pool);
            computed_now += now;
        }
    }
    progress.finish();
    let seconds = clock.elapsed().as_secs_f64();
    let rate = computed_now as f64 / seconds.max(1e-9);
    info!("{computed_now} images in {seconds:.1} s, {rate:.1} images/s");
    let table = sorted(images, network.backbone().channels(), &by_split);
    features::write(&work.out().join(FEATURES), &table, STEP).map_err(Error::from)?;
    work.rows(FEATURES, images.len() as u64);
    work.computed(computed.clone());
    let headline = format!("{} features of {} images, {rate:.1} images/s", config.backbone, images.len());
    work.finish(json!({ "headline": headline, "images": images.len(), "seconds": seconds, "images_per_s": rate }))
}

/// The features of a split on their way.
struct Part<'a> {
    split: Split,
    /// Stands for the ids of its images: the same features may be wanted of other splits than were interrupted.
    ids: String,
    /// Has what was computed before.
    folder: &'a Path,
    frame: EvalFrame,
}

impl Part<'_> {
    /// The features `[N, K]` of the split's images, and how many of the images were computed now; `done` hears how many
    /// there are more.
    fn pool(
        &self,
        network: &Network,
        images: &Images,
        batch: usize,
        done: &mut dyn FnMut(usize),
    ) -> Result<(Vec<f32>, usize), Error> {
        let dim = network.backbone().channels();
        let mut pool = self.saved(network)?;
        pool.truncate(images.keys(self.split).len() * dim);
        let start = pool.len() / dim;
        done(start);
        let mut saved = start;
        let mut stopped = false;
        let evaluated = nets::evaluate_from(
            network,
            images.of(self.split),
            start,
            (self.frame, Tta::None),
            batch,
            &mut |scores: Scores| {
                pool.extend(&scores.pool);
                done(scores.logits.len());
                stopped = stage::interrupted();
                if stopped || pool.len() / dim - saved >= SAVED {
                    self.save(network, saved, &pool[saved * dim..])?;
                    saved = pool.len() / dim;
                }
                Ok::<_, Error>(if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            },
        );
        match evaluated {
            Err(_) if stopped => return Err(Error::Interrupted),
            evaluated => evaluated?,
        }
        let count = pool.len() / dim;
        if saved < count {
            self.save(network, saved, &pool[saved * dim..])?;
        }
        Ok((pool, count - start))
    }

    /// The file that begins with the features of image `first`.
    fn path(&self, first: usize) -> PathBuf {
        self.folder.join(format!("{}-{first:07}.safetensors", self.ids))
    }

    fn save(&self, network: &Network, first: usize, pool: &[f32]) -> Result<(), Error> {
        let (backbone, dim) = (network.backbone(), network.backbone().channels());
        let tensor = Tensor::from_slice(pool, (pool.len() / dim, dim), &Device::Cpu)?;
        let meta = Meta {
            backbone: backbone.name().to_owned(),
            pool: network.pool().name().to_owned(),
            frame: Some(self.frame),
            tta: Tta::None,
        };
        Ok(weights::write(&self.path(first), &[("pool".to_owned(), tensor)], &meta)?)
    }

    /// What an interrupted stage saved, up to the first file that is missing or damaged.
    fn saved(&self, network: &Network) -> Result<Vec<f32>, Error> {
        let dim = network.backbone().channels();
        let mut pool = Vec::new();
        loop {
            let path = self.path(pool.len() / dim);
            if !path.exists() {
                return Ok(pool);
            }
            match weights::read(&path, &Device::Cpu) {
                Ok((tensors, _)) => match &tensors[..] {
                    [(_, tensor)] if tensor.dims().len() == 2 && tensor.dims()[0] > 0 && tensor.dims()[1] == dim => {
                        pool.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
                    }
                    _ => return Ok(pool),
                },
                Err(error) => {
                    warn!("{error}; its features are computed again");
                    return Ok(pool);
                }
            }
        }
    }
}

/// 16 hex digits over the ids of some images, in order.
fn digest_of_ids(keys: &[ImageKey]) -> String {
    let mut hasher = blake3::Hasher::new();
    keys.iter().for_each(|key| {
        hasher.update(key.image_id.as_bytes()).update(b"\n");
    });
    hasher.finalize().to_hex()[..16].to_owned()
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

#[cfg(test)]
mod tests {
    use cxr::{EvalCrop, Labels};

    use super::*;

    /// The key of features knows no split: what was saved of one must not be taken for another's.
    #[test]
    fn saved_features_are_of_the_images_and_their_order() {
        let keys = |ids: &[&str], split: Split, labels: Labels| -> Vec<ImageKey> {
            let key = |&id: &&str| ImageKey { image_id: id.to_owned(), patient_id: 0, split, labels };
            ids.iter().map(key).collect()
        };
        let path = |keys: &[ImageKey]| {
            let frame = EvalFrame { crop: EvalCrop::Centre, image_px: 48, input_px: 42 };
            Part { split: Split::Train, ids: digest_of_ids(keys), folder: Path::new("parts"), frame }.path(512)
        };
        let known = path(&keys(&["a.png", "b.png"], Split::Train, Labels::default()));
        assert!(known.to_string_lossy().ends_with("-0000512.safetensors"), "{}", known.display());
        assert_eq!(path(&keys(&["a.png", "b.png"], Split::Test, Labels::parse("Mass").unwrap())), known);
        for other in [&["a.png"][..], &["a.png", "c.png"], &["b.png", "a.png"], &["a.pngb.png"]] {
            assert_ne!(path(&keys(other, Split::Train, Labels::default())), known, "{other:?}");
        }
    }
}
