use cxr::Split;
use nets::{Checkpoints, Fit, Identity, Network};
use serde_json::json;
use stage::{Run, info, warn};

use crate::config::Config;
use crate::error::Error;
use crate::init::Init;
use crate::load::Images;
use crate::watch::Watch;

/// What decides the weights that [`train`] ends with.
pub fn identity(images: &Images, config: &Config, init: &Init, seed: u64) -> Result<Identity, Error> {
    let mut model = config.image_recipe().model(config.backbone.name(), config.pool.name());
    if config.norms_apart() {
        model["ranks"] = json!(ranks::world().size());
    }
    Ok(Identity {
        model,
        data: images.digest(&[Split::Train, Split::Validation])?,
        start: init.digest(),
        recipe: config.recipe(seed),
    })
}

/// Trains `network` on `train`, chooses the epoch on `validation`; the network returned has that epoch's weights.
/// `identity` is that of the other arguments.
///
/// It continues from `checkpoints`, as [`nets::fit`] does. Ctrl-C stops at the next step.
///
/// # Errors
/// No images to train on; a loss that is not finite; an interruption.
pub fn train(
    images: &Images,
    config: &Config,
    mut network: Network,
    identity: &Identity,
    checkpoints: &Checkpoints,
    run: &Run,
) -> Result<(Network, Fit), Error> {
    let [train, validation, test] = Split::ALL.map(|split| images.keys(split).len());
    info!("{train} train, {validation} validation and {test} test images of {} px", images.size());
    if train == 0 {
        return Err(Error::Empty);
    }
    if validation == 0 {
        warn!("no validation images: the last epoch will be published");
    }
    network.sync_batch_norm(config.sync_batch_norm);
    let device = network.device();
    info!("trains on {}, activations {}", nets::describe(device), config.precision.on(device).name());
    let mut scalars = run.scalars();
    let mut watch = Watch::new("images trained", &identity.recipe, train, true, &mut scalars);
    let [train, validation] = [Split::Train, Split::Validation].map(|split| images.of(split));
    let recipe = config.image_recipe();
    let see = &mut |event: nets::Event| watch.see(event);
    let fit = nets::fit_network(&mut network, train, validation, &recipe, identity, checkpoints, see)?;
    watch.finish(&fit);
    Ok((network, fit))
}
