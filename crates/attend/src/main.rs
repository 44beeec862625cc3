//! Finds where the global branch looks in every image, and cuts it out.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use attend::{Config, Error, Heat, SPEC, Subjects};
use branch::{Originals, Room};
use cxr::heatmap::{Alignment, Cells};
use cxr::{CropSource, EvalCrop, EvalFrame};
use nets::{Backbone, Network};
use serde_json::json;
use stage::{Begin, Computed, Fail, Input, Outcome, Run, info, warn};
use tables::{class_maps, images};

const WEIGHTS: &str = "weights.safetensors";
const IMAGES: &str = "images/";
const CLASS_MAPS: &str = "class_maps.parquet";
/// What another result of this stage may take over.
const HEAT_MAPS: &str = "heat maps";

fn main() -> ExitCode {
    nets::keep_freed_memory();
    stage::main(&SPEC, story)
}

fn story(mut run: Run, config: Config) -> Result<Outcome, Fail> {
    if run.check() {
        let planned = run.planned("prep.size").and_then(|size| usize::try_from(size.as_integer()?).ok());
        if let Some(size) = planned.filter(|&size| config.crop > size) {
            return Err(Error::Crop { crop: config.crop, size }.into());
        }
    }
    let prep = run.input("prep", &[IMAGES])?;
    let global = run.input("global", &[WEIGHTS])?;
    let root = root(&mut run, &prep, &config)?;
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    let files = prep.files(IMAGES)?;
    let originals = Originals::new(root, &files).map_err(Error::from)?;
    let room = Room { memory_mb: config.memory_mb, folder: work.scratch() };
    let pictures = branch::images(&files, run.limit(), room)?;
    let subjects = Subjects::of(&pictures);
    let frame = frame(&config, &global, subjects.size)?;
    let boxed: BTreeSet<String> = images::read_meta(&files)
        .map_err(Error::from)?
        .into_iter()
        .filter(|row| !row.boxes.is_empty())
        .map(|row| row.record.image_id)
        .collect();
    let heat_maps = stage::digest(&json!({
        "version": SPEC.version, "images": prep.digest(IMAGES), "weights": global.digest(WEIGHTS), "limit": run.limit(),
        "frame": frame, "statistic": config.statistic, "normalise": config.normalise,
    }));
    let stored = match run.reusable(SPEC.name, HEAT_MAPS, &heat_maps, "") {
        Some(earlier) => {
            let stored = Heat::stored(&earlier.files("regions-")?, &earlier.file(CLASS_MAPS)?, &subjects);
            stored.unwrap_or_else(|error| {
                warn!("not used: {error}");
                None
            })
        }
        None => None,
    };
    let reused = stored.is_some();
    let heat = match stored {
        Some(heat) => {
            info!("uses the {} heat maps that the store has", subjects.images.len());
            work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
            heat
        }
        None => {
            let device = nets::device(run.device()).map_err(Error::from)?;
            let isa = Some(nets::isa().name().to_owned());
            work.computed(Computed { device: nets::describe(&device), isa, ..Computed::default() });
            let (network, _) = Network::open(&global.file(WEIGHTS)?, &device).map_err(Error::from)?;
            Heat::computed(&network, &pictures, &subjects, &boxed, frame, &config)?
        }
    };
    work.part(HEAT_MAPS, heat_maps);
    let ids = subjects.images.iter().map(|(key, ..)| key.image_id.as_str());
    let cells = cells(&config, &global)?;
    let maps: Vec<_> = ids.zip(heat.normalised(cells)).collect();
    let regions = watched("regions", &subjects, |watch| attend::locate(&maps, frame, &config, watch))?;
    let facts = attend::facts(&config, frame, &heat, cells);
    let of_classes = attend::of_classes(&heat, &subjects, frame, cells, config.threshold);
    class_maps::write(&work.out().join(CLASS_MAPS), &of_classes, heat.shape, SPEC.name).map_err(Error::from)?;
    work.rows(CLASS_MAPS, of_classes.len() as u64);
    let found = (&pictures, &subjects, &heat, regions.as_slice());
    let attended =
        watched("crops", &subjects, |watch| attend::write(work.out(), SPEC.name, found, &facts, &originals, watch))?;
    let covers = 100.0 * attended.mean_box_frac;
    info!("a region covers {covers:.0} % of its image on average");
    let control = if config.region.is_control() { format!("{} ", config.region) } else { String::new() };
    if config.region.is_control() {
        warn!("regions are put at \"{}\", as a control: not where the network looks", config.region);
    }
    if attended.fallbacks > 0 {
        warn!("{} of {} images have no region and were taken whole", attended.fallbacks, attended.images);
    }
    work.publish(json!({
        "headline": format!("threshold {}, {control}regions of {covers:.0} % of an image", config.threshold),
        "images": attended.images,
        "fallbacks": attended.fallbacks,
        "mean_mask_frac": attended.mean_mask_frac,
        "mean_box_frac": attended.mean_box_frac,
        "reused_heat_maps": reused,
    }))
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

/// The part of an image that the global branch is shown: as in its own evaluation, or a centre crop of `attend.crop`.
fn frame(config: &Config, global: &Input, image_px: usize) -> Result<EvalFrame, Fail> {
    let weights = global.file(WEIGHTS)?;
    let frame = match config.crop {
        // Weights of version 1 do not say how their network was evaluated.
        0 => nets::weights::meta(&weights).map_err(Error::from)?.frame.ok_or(Error::NoFrame { path: weights })?,
        crop => EvalFrame { crop: EvalCrop::Centre, image_px, input_px: crop },
    };
    let frame = EvalFrame { image_px, ..frame };
    if frame.fits() { Ok(frame) } else { Err(Error::Crop { crop: frame.input_px, size: image_px }.into()) }
}

/// Where the cells of the heat maps lie; `None`: they divide the input evenly.
fn cells(config: &Config, global: &Input) -> Result<Option<Cells>, Fail> {
    match config.alignment {
        Alignment::Grid => Ok(None),
        Alignment::Receptive => {
            let meta = nets::weights::meta(&global.file(WEIGHTS)?).map_err(Error::from)?;
            let backbone: Backbone = meta.backbone.parse().map_err(Error::from)?;
            Ok(Some(backbone.cells()))
        }
    }
}

/// The folder that prep read; empty where the crops do not come from there.
fn root(run: &mut Run, prep: &Input, config: &Config) -> Result<PathBuf, Fail> {
    match config.source {
        CropSource::Prepared => Ok(PathBuf::new()),
        CropSource::Original => branch::raw_folder(run, prep),
    }
}
