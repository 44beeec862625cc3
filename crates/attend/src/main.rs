//! Finds where the global branch looks in every image, and cuts it out.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use attend::{Config, Error, Heat, SPEC, Subjects, check_crop, check_precision, has_class_maps};
use branch::{Originals, Parts, Room};
use cxr::heatmap::{Alignment, Cells};
use cxr::{CropSource, EvalCrop, EvalFrame};
use nets::weights::{self, Meta};
use nets::{Backbone, Network, Pool};
use serde_json::json;
use stage::{Begin, Computed, Fail, Input, Outcome, Run, info, warn};
use tables::{class_maps, images};

const WEIGHTS: &str = "weights.safetensors";
const IMAGES: &str = "images/";
const CLASS_MAPS: &str = "class_maps.parquet";
/// What another result of this stage may take over.
const HEAT_MAPS: &str = "heat maps";

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: nets::OnLines = nets::OnLines;

fn main() -> ExitCode {
    nets::keep_freed_memory();
    stage::main(&SPEC, story)
}

fn story(mut run: Run, config: Config) -> Result<Outcome, Fail> {
    if run.check() {
        check_planned(&run, &config)?;
    }
    let prep = run.input("prep", &[IMAGES])?;
    let global = run.input("global", &[WEIGHTS])?;
    let root = root(&mut run, &prep, &config)?;
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    let files = prep.files(IMAGES)?;
    let weights = global.file(WEIGHTS)?;
    let meta = weights::meta(&weights).map_err(Error::from)?;
    let backbone: Backbone = meta.backbone.parse().map_err(Error::from)?;
    let pool: Pool = meta.pool.parse().map_err(Error::from)?;
    // Before the images: a crop that cannot be costs nobody an hour.
    let image_px = branch::images_px(&files).map_err(Error::from)? as usize;
    let frame = frame(&config, (&weights, &meta), image_px)?;
    check_crop(frame.input_px, backbone)?;
    check_precision(config.precision, backbone)?;
    let originals = Originals::new(root, &files).map_err(Error::from)?;
    let room = Room { memory_mb: config.memory_mb, folder: work.scratch() };
    let shards = run.shards();
    let share = |counts| Parts::mine_of(counts, config.eval_batch, &shards);
    let pictures = branch::images_of(&files, run.limit(), room, &share)?;
    let subjects = Subjects::of(&pictures);
    let boxed = if has_class_maps(pool, config.normalise) { Some(boxed(&files)?) } else { None };
    let heat_maps = stage::digest(&json!({
        "version": SPEC.version, "images": prep.digest(IMAGES), "limit": run.limit(), "frame": frame,
        "weights": weights::digest(&weights).map_err(Error::from)?, "statistic": config.statistic,
        "normalise": config.normalise, "precision": config.precision,
    }));
    let stored = match run.reusable(SPEC.name, HEAT_MAPS, &heat_maps, "") {
        Some(earlier) => stored(&earlier, &subjects)?,
        None => None,
    };
    let reused = stored.is_some();
    let (heat, parts) = match stored {
        Some(heat) => {
            info!("uses the {} heat maps that the store has", subjects.images.len());
            work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
            (heat, None)
        }
        None => {
            let device = nets::device(run.device()).map_err(Error::from)?;
            let isa = Some(nets::isa().name().to_owned());
            let precision = config.precision.of(backbone, &device);
            let name = Some(precision.name().to_owned());
            work.computed(Computed { device: nets::describe(&device), precision: name, isa, ..Computed::default() });
            let (mut network, _) = Network::open(&weights, &device).map_err(Error::from)?;
            network.evaluate_in(precision);
            info!("heat maps of {} images on {}", subjects.images.len(), nets::describe(&device));
            let saved = (&shards, heat_maps.as_str());
            let (heat, parts) = Heat::computed(&network, &pictures, &subjects, boxed.as_ref(), frame, &config, saved)?;
            (heat, Some(parts))
        }
    };
    if shards.mine().is_some() {
        return work.share(|shard| parts.as_ref().is_some_and(|parts| parts.is_missing(shard)));
    }
    work.part(HEAT_MAPS, heat_maps);
    let ids = subjects.images.iter().map(|(key, ..)| key.image_id.as_str());
    let cells = cells(&config, backbone);
    let maps: Vec<_> = ids.zip(heat.normalised(cells)).collect();
    let regions = watched("regions", &subjects, |watch| attend::locate(&maps, frame, &config, watch))?;
    let facts = attend::facts(&config, frame, &heat, cells);
    if let Some(of_classes) = attend::of_classes(&heat, &subjects, frame, cells, config.threshold) {
        class_maps::write(&work.out().join(CLASS_MAPS), &of_classes, heat.shape, SPEC.name).map_err(Error::from)?;
        work.rows(CLASS_MAPS, of_classes.len() as u64);
    }
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

/// Refuses a crop and numbers that do not fit the images and the network that this configuration leads to.
fn check_planned(run: &Run, config: &Config) -> Result<(), Fail> {
    let crop = config.crop;
    let size = run.planned("prep.size").and_then(|size| usize::try_from(size.as_integer()?).ok());
    if let Some(size) = size.filter(|&size| crop > size) {
        return Err(Error::Crop { crop, size }.into());
    }
    let backbone = run.planned("global.backbone").and_then(|name| name.as_str()?.parse::<Backbone>().ok());
    if let Some(backbone) = backbone {
        check_precision(config.precision, backbone)?;
        if crop > 0 {
            check_crop(crop, backbone)?;
        }
    }
    Ok(())
}

/// The images that have boxes.
fn boxed(files: &[PathBuf]) -> Result<BTreeSet<String>, Fail> {
    let rows = images::read_meta(files).map_err(Error::from)?.into_iter();
    Ok(rows.filter(|row| !row.boxes.is_empty()).map(|row| row.record.image_id).collect())
}

/// The heat maps of an earlier result, where it has those of all images.
fn stored(earlier: &Input, subjects: &Subjects) -> Result<Option<Heat>, Fail> {
    let has_class_maps = earlier.manifest().outputs.iter().any(|file| file.name == CLASS_MAPS);
    let class_maps = has_class_maps.then(|| earlier.file(CLASS_MAPS)).transpose()?;
    let stored = Heat::stored(&earlier.files("regions-")?, class_maps.as_deref(), subjects);
    Ok(stored.unwrap_or_else(|error| {
        warn!("not used: {error}");
        None
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
fn frame(config: &Config, (weights, meta): (&Path, &Meta), image_px: usize) -> Result<EvalFrame, Fail> {
    let frame = match config.crop {
        // Weights of version 1 do not say how their network was evaluated.
        0 => meta.frame.ok_or_else(|| Error::NoFrame { path: weights.to_owned() })?,
        crop => EvalFrame { crop: EvalCrop::Centre, image_px, input_px: crop },
    };
    let frame = EvalFrame { image_px, ..frame };
    if frame.fits() { Ok(frame) } else { Err(Error::Crop { crop: frame.input_px, size: image_px }.into()) }
}

/// Where the cells of the heat maps lie; `None`: they divide the input evenly.
fn cells(config: &Config, backbone: Backbone) -> Option<Cells> {
    match config.alignment {
        Alignment::Grid => None,
        Alignment::Receptive => Some(backbone.cells()),
    }
}

/// The folder that prep read; empty where the crops do not come from there.
fn root(run: &mut Run, prep: &Input, config: &Config) -> Result<PathBuf, Fail> {
    match config.source {
        CropSource::Prepared => Ok(PathBuf::new()),
        CropSource::Original => branch::raw_folder(run, prep),
    }
}
