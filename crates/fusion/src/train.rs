use std::ops::ControlFlow;

use branch::Watch;
use candle_nn::Linear;
use cxr::Split;
use nets::{Checkpoints, Event, Fit, Identity};
use serde_json::json;
use stage::{Scalars, info, warn};

use crate::config::Config;
use crate::error::Error;
use crate::join::Samples;
use crate::layer::{Layer, TrainingRows};
use crate::standard::Standard;

/// What decides the weights that [`train`] ends with.
///
/// # Errors
/// A tensor operation failed.
pub fn identity(samples: &Samples, config: &Config, start: &Linear, seed: u64) -> Result<Identity, Error> {
    let mut hasher = blake3::Hasher::new();
    for tensor in [Some(start.weight()), start.bias()].into_iter().flatten() {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        hasher.update(format!("{:?}\n", tensor.dims()).as_bytes());
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    Ok(Identity {
        model: json!({ "fusion": samples.dims(), "standardise": config.standardise, "validated": "by row" }),
        data: samples.digest(&[Split::Train, Split::Validation]),
        start: hasher.finalize().to_hex().to_string(),
        recipe: config.training().recipe(seed),
    })
}

/// Trains on `train`, chooses the epoch on `validation`. The layer returned has that epoch's weights, for features as they
/// are. `identity` is that of the other arguments.
///
/// The same identity gives the same weights, bit for bit, on any number of threads. It continues from `checkpoints`, as
/// [`nets::fit`] does. Ctrl-C stops at the next step. The epochs' figures go to `scalars`.
///
/// # Errors
/// No images to train on; a loss that is not finite; an interruption.
pub fn train(
    samples: &Samples,
    config: &Config,
    start: &Linear,
    identity: &Identity,
    checkpoints: &Checkpoints,
    scalars: &mut Scalars,
) -> Result<(Linear, Fit), Error> {
    let [train, validation, test] = Split::ALL.map(|split| samples.of(split));
    let [global, local] = samples.dims();
    info!(
        "{} train, {} validation and {} test images of {global} + {local} features",
        train.len(),
        validation.len(),
        test.len()
    );
    if train.is_empty() {
        return Err(Error::Empty);
    }
    if validation.is_empty() {
        warn!("no validation images: the last epoch will be published");
    }
    let mut watch = Watch::new("images fused", &identity.recipe, train.len(), false, scalars);
    let trained = fit(samples, config, start, identity, checkpoints, &mut |event| watch.see(event))?;
    watch.finish(&trained.1);
    Ok(trained)
}

/// As [`train`], for any watcher.
///
/// # Errors
/// As [`train`].
pub fn fit(
    samples: &Samples,
    config: &Config,
    start: &Linear,
    identity: &Identity,
    checkpoints: &Checkpoints,
    watch: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(Linear, Fit), Error> {
    let [train, validation] = [Split::Train, Split::Validation].map(|split| samples.of(split));
    let standard = config.standardise.then(|| Standard::of(samples, &train));
    let mut layer = Layer::new(start, standard.as_ref())?;
    let rows =
        TrainingRows { samples, train, validation, standard: standard.as_ref(), device: start.weight().device() };
    let fit = nets::fit(&mut layer, &rows, identity, checkpoints, watch)?;
    Ok((layer.plain()?, fit))
}
