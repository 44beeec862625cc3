//! The program of `global` and `local`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use candle_core::Device;
use cxr::{Split, Tta};
use nets::Network;
use serde_json::json;
use stage::{Begin, Computed, Fail, Outcome, Run, Spec, Work, info};

use crate::config::Config;
use crate::error::Error;
use crate::frozen::{self, FEATURES};
use crate::init::Init;
use crate::load::{Images, Room};
use crate::score::{frame, score};
use crate::train::{identity, train};
use crate::training::{TRAINED, training};
use crate::write::{headline, write_scores, write_training};

/// Reads images, at most so many per split, into a room.
pub type Load = fn(&[PathBuf], Option<usize>, Room) -> Result<Images, Error>;

/// Where a branch's images come from.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// The stage that publishes them.
    pub stage: &'static str,
    /// How the names of its files begin.
    pub prefix: &'static str,
    /// Their side in px, which their files say.
    pub size_px: fn(&[PathBuf]) -> Result<u32, tables::Error>,
    /// The settings that decide it; 0 leaves it to the next.
    pub size_settings: &'static [&'static str],
    /// Reads them, at most so many per split, into that room.
    pub load: Load,
}

/// Trains a branch on `source`, or takes the training from the store, and scores every image.
pub fn main(spec: &Spec, source: Source) -> ExitCode {
    nets::keep_freed_memory();
    nets::link_by_nccl();
    stage::main_together(spec, |run, config: Config| story(spec, source, run, &config))
}

fn story(spec: &Spec, source: Source, mut run: Run, config: &Config) -> Result<Outcome, Fail> {
    if run.is_divided() && !config.backbone.is_frozen() {
        let message = anyhow!("{} trains {}, which is not divided into shards", spec.name, config.backbone);
        return Err(
            Fail::usage(message).hint("shards compute the features of a frozen backbone; docs/cluster.md says why")
        );
    }
    let init = Init::find(spec.name, config)?;
    if (run.dry_run() || run.check()) && init != Init::Random {
        init.network(config, run.seed(), &Device::Cpu)?;
    }
    if run.check() {
        let said = source.size_settings.iter().filter_map(|name| run.planned(name)?.as_integer());
        if let Some(planned) = said.filter(|&side| side > 0).find_map(|side| u32::try_from(side).ok()) {
            config.fits(planned)?;
        }
    }
    let input = run.input(source.stage, &[source.prefix])?;
    init.record(&mut run);
    let world = ranks::world();
    let apart = config.norms_apart();
    if apart {
        run.also("ranks", json!(world.size()));
    }
    if !run.check() {
        config.fits((source.size_px)(&[input.first(source.prefix)?]).map_err(Error::from)?)?;
    }
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    let device = nets::device(run.device()).map_err(Error::from)?;
    let ranks = (!world.is_alone()).then_some(world.size());
    let batch_norm =
        ranks.filter(|_| !config.backbone.is_frozen()).map(|_| (if apart { "part" } else { "whole batch" }).to_owned());
    let precision = Some(config.precision_on(&device).name().to_owned());
    let computed = Computed {
        device: nets::describe(&device),
        precision,
        isa: Some(nets::isa().name().to_owned()),
        ranks,
        batch_norm,
    };
    // Before the images: a file that does not fit costs nobody an hour.
    let start = init.network(config, run.seed(), &device)?;
    let room = Room { memory_mb: config.memory_mb, folder: work.scratch() };
    let images = (source.load)(&input.files(source.prefix)?, run.limit(), room)?;
    if config.backbone.is_frozen() {
        return frozen_story(spec, &run, (config, &init), start, &images, (work, computed));
    }
    let identity = identity(&images, config, &init, run.seed())?;
    let training = training(&run, &identity, config.checkpoint_minutes, &computed, |checkpoints, out| {
        let (network, fit) = train(&images, config, start, &identity, checkpoints, &run)?;
        if world.leads() {
            write_training(out, &network, frame(&images, config), &fit)?;
        }
        Ok::<_, Error>(fit)
    })?;
    work.computed(computed);
    let [weights, epochs] = TRAINED;
    let (mut network, _) = Network::open(&training.file(weights)?, &device).map_err(Error::from)?;
    work.take(&training, epochs)?;
    // A training knows nothing of how it will be scored; whoever predicts with the weights reads it from their file.
    match config.tta {
        Tta::None => work.take(&training, weights)?,
        _ if !world.leads() => {}
        tta => {
            let frame = Some(frame(&images, config));
            network.save_scored(&work.out().join(weights), frame, tta).map_err(Error::from)?;
        }
    }
    network.set_precision(config.precision).map_err(Error::from)?;
    let what = stage::digest(&json!({ "key": work.key(), "weights": training.digest(weights) }));
    let scores = score(&network, &images, config, (&work.pass(), &what))?;
    if world.leads() {
        write_scores(work.out(), &scores, spec.name)?;
    }
    work.publish(headline(&training, &scores.predictions))
}

/// The rest of the story for a trunk that stays as it is.
fn frozen_story(
    spec: &Spec,
    run: &Run,
    (config, init): (&Config, &Init),
    mut start: Network,
    images: &Images,
    (mut work, computed): (Box<Work<'_>>, Computed),
) -> Result<Outcome, Fail> {
    info!(
        "{} is frozen: only its linear layer is trained, and scale_min, flip, rotate_deg, brightness and contrast are not used",
        config.backbone
    );
    let Some(features) = frozen::stored_features(run, &start, (images, config, init), &computed)? else {
        return Ok(Outcome::Done);
    };
    let table = tables::features::read(&features.file(FEATURES)?).map_err(Error::from)?;
    let (train, validation) =
        (frozen::rows(images, &table, Split::Train)?, frozen::rows(images, &table, Split::Validation)?);
    let identity = frozen::identity(images, [&train, &validation], (config, init, run.seed()))?;
    let training = training(run, &identity, config.checkpoint_minutes, &computed, |checkpoints, out| {
        let fit = frozen::train(&mut start, [&train, &validation], &identity, checkpoints, run)?;
        if ranks::world().leads() {
            write_training(out, &start, frame(images, config), &fit)?;
        }
        Ok::<_, Error>(fit)
    })?;
    work.computed(computed);
    for name in TRAINED {
        work.take(&training, name)?;
    }
    work.take(&features, FEATURES)?;
    let (network, _) = Network::open(&training.file(TRAINED[0])?, &Device::Cpu).map_err(Error::from)?;
    let predictions = frozen::score(&network, images, &table)?;
    if ranks::world().leads() {
        tables::predictions::write(&work.out().join("predictions.parquet"), &predictions, spec.name)
            .map_err(Error::from)?;
    }
    work.publish(headline(&training, &predictions))
}
