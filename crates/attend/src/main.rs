//! Finds where the global branch looks in every image, and cuts it out.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use attend::{Config, Error, Heat, Originals, SPEC, Subjects, region};
use clap::Parser;
use cxr::{CropSource, EvalCrop, EvalFrame};
use nets::Network;
use serde_json::{Value, json};
use stage::{Fail, Input, Outcome, Plan, Run, info, warn};

/// Find the attended region of every image and crop it
///
/// Shows every image to the frozen global branch, makes a heat map of its last feature map, and boxes the largest
/// connected component above a threshold. Reads prep/images and global/weights.safetensors; writes
/// regions-NNNNN-of-NNNNN.parquet: heat map, box and crop of every image.
///
/// A run that changes only the threshold, the source or the contrast uses the heat maps of the run before.
#[derive(Parser)]
#[command(name = "attend", version)]
struct Args {
    #[command(flatten)]
    common: stage::Common,
}

fn main() -> ExitCode {
    let args = Args::parse();
    stage::main(|| run(&args))
}

fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut run = Run::open(&SPEC, &args.common)?;
    let config: Config = run.config()?;
    config.check().map_err(|message| Fail::usage(anyhow!(message)))?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    let prep = run.input("prep", &["images/"])?;
    let global = run.input("global", &["weights.safetensors"])?;
    let root = root(&mut run, &prep, &config)?;
    if let Plan::Stop(outcome) = run.plan()? {
        return Ok(outcome);
    }

    let work = run.begin()?;
    let files = prep.files("images/");
    let images = branch::images(&files, run.limit()).map_err(Fail::from)?;
    let subjects = Subjects::of(&images);
    let frame = match config.crop {
        0 => setting(&global, "crop").map_err(Fail::from)?.as_u64().unwrap_or_default() as usize,
        crop => crop,
    };
    if frame > subjects.size {
        return Err(Fail::from(Error::Crop { crop: frame, size: subjects.size }).into());
    }
    let originals = Originals::new(root, &files).map_err(Fail::from)?;

    let heat = match earlier(&run, &prep, &global, &config)? {
        Some(files) => Heat::stored(&files, &subjects).map_err(Fail::from)?,
        None => None,
    };
    let reused = heat.is_some();
    let heat = match heat {
        Some(heat) => {
            info!("uses the {} heat maps of the run before", subjects.images.len());
            heat
        }
        None => {
            let device = nets::device(run.device()).map_err(Error::from).map_err(Fail::from)?;
            let weights = global.file("weights.safetensors");
            let (network, _) = Network::open(&weights, &device).map_err(Error::from).map_err(Fail::from)?;
            Heat::computed(&network, &images, &subjects, frame, &config).map_err(Fail::from)?
        }
    };
    let frame = EvalFrame { crop: EvalCrop::Centre, image_px: subjects.size, input_px: frame };
    let regions =
        watched("regions", &subjects, |watch| region::locate(&heat.normalised(), frame, config.threshold, watch))?;
    let facts = attend::facts(&config, frame, &heat);
    let found = (&subjects, &heat, regions.as_slice());
    let attended =
        watched("crops", &subjects, |watch| attend::write(work.out(), SPEC.name, found, &facts, &originals, watch))?;
    let covers = 100.0 * attended.mean_box_frac;
    info!("a region covers {covers:.0} % of its image on average");
    if attended.fallbacks > 0 {
        warn!("{} of {} images have no region and were taken whole", attended.fallbacks, attended.images);
    }
    Ok(work.publish(json!({
        "images": attended.images,
        "fallbacks": attended.fallbacks,
        "mean_mask_frac": attended.mean_mask_frac,
        "mean_box_frac": attended.mean_box_frac,
        "reused_heat_maps": reused,
    }))?)
}

type Watch<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// Does something to all images, with a progress bar, until Ctrl-C.
fn watched<T>(what: &str, subjects: &Subjects, work: impl FnOnce(Watch) -> Result<T, Error>) -> Result<T, Fail> {
    let mut progress = stage::progress(subjects.images.len() as u64, what);
    let done = work(&mut |images| {
        progress.inc(images as u64);
        if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    progress.finish();
    Ok(done)
}

/// The folder that prep read; empty where the crops do not come from there.
fn root(run: &mut Run, prep: &Input, config: &Config) -> Result<PathBuf, Fail> {
    match (config.source, setting(prep, "root")?.as_str().unwrap_or_default()) {
        (CropSource::Prepared, _) => Ok(PathBuf::new()),
        (CropSource::Original, "phantom") => Ok(run.input("phantom", &[""])?.folder().to_owned()),
        (CropSource::Original, root) => Ok(root.into()),
    }
}

fn setting<'a>(input: &'a Input, name: &'static str) -> Result<&'a Value, Error> {
    let missing = || Error::Setting { path: input.folder().to_owned(), setting: name };
    input.config().get(name).ok_or_else(missing)
}

/// The files of the result before this one, if its heat maps would come out the same.
fn earlier(run: &Run, prep: &Input, global: &Input, config: &Config) -> Result<Option<Vec<PathBuf>>, Fail> {
    let Some(before) = run.previous()? else { return Ok(None) };
    let manifest = before.manifest();
    let was = |name: &str| manifest.config.get(name).cloned().unwrap_or_default();
    let settings = was("statistic") == json!(config.statistic)
        && was("normalise") == json!(config.normalise)
        && was("crop") == json!(config.crop);
    let inputs = [prep, global].iter().all(|input| {
        let now = &input.manifest().outputs;
        let source = manifest.inputs.iter().find(|source| source.stage == input.manifest().stage);
        source.is_some_and(|source| {
            source.files.iter().all(|(name, hash)| now.iter().any(|file| file.name == *name && file.blake3 == *hash))
        })
    });
    Ok((settings && inputs && manifest.version == SPEC.version).then(|| before.files("regions-")))
}
