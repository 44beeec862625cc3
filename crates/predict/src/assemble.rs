//! From a trained run to a model.

use std::path::Path;

use cxr::{Branch, Split};
use model::{Attention, Decision, Described, Novelty, Preparation, Validation, folder};
use picture::Grey;
use rayon::prelude::*;
use serde_json::json;
use stage::{Begin, Computed, Fail, Input, Outcome, Run, info};
use tables::features::Features;
use tables::{features, images, predictions, regions};

use crate::config::Config;
use crate::error::Error;

const IMAGES: &str = "images/";
const REGIONS: &str = "regions-";
const WEIGHTS: &str = "weights.safetensors";
const FEATURES: &str = "features.parquet";
const PREDICTIONS: &str = "predictions.parquet";
/// Images decoded at a time.
const CHUNK: usize = 256;

/// The model of the run: current, or made of its weights and validation images and published as `predict`. `None` where
/// `--dry-run` asks for nothing to be done.
///
/// # Errors
/// A stage has not run or is stale; its regions are controls; there are no validation images; the disk is full.
pub fn model_of(run: &mut Run, config: &Config) -> Result<Option<Input>, Fail> {
    let prep = run.input("prep", &[IMAGES])?;
    let global = run.input("global", &[FEATURES, PREDICTIONS, WEIGHTS])?;
    let attend = run.input("attend", &[REGIONS])?;
    let local = run.input("local", &[PREDICTIONS, WEIGHTS])?;
    let fusion = run.input("fusion", &[PREDICTIONS, WEIGHTS])?;
    if !run.check() {
        let region = regions::facts(&[attend.first(REGIONS)?]).map_err(Error::from)?.region;
        if region.is_control() {
            return Err(Error::Control { region }.into());
        }
    }
    match run.begin()? {
        Begin::Stop(Outcome::Nothing) => return Ok(None),
        Begin::Stop(_) => {}
        Begin::Work(mut work) => {
            let prepared = images::facts(&[prep.first(IMAGES)?]).map_err(Error::from)?;
            let preparation = Preparation { size_px: prepared.size_px, contrast: prepared.contrast };
            let attention = attention(&attend)?;
            let read = |input: &Input| -> Result<_, Fail> {
                Ok(predictions::read(&input.file(PREDICTIONS)?).map_err(Error::from)?)
            };
            let predictions = [read(&global)?, read(&local)?, read(&fusion)?];
            let validation = validation(&predictions)?;
            let labels = &validation.labels;
            info!("fits thresholds and novelty on {} validation images", labels.len());
            let novelty = novelty(&global.file(FEATURES)?, &prep)?;
            for (input, name) in [&global, &local, &fusion].into_iter().zip(folder::names::WEIGHTS) {
                work.take_as(input, WEIGHTS, name)?;
            }
            let backbone = |input: &Input| -> Result<_, Fail> {
                Ok(nets::weights::meta(&input.file(WEIGHTS)?).map_err(Error::from)?.backbone)
            };
            let parts = folder::Parts {
                preparation,
                attention,
                backbones: [backbone(&global)?, backbone(&local)?],
                decision: Decision::fit(validation.of(Branch::Fusion), labels, config.criterion),
                gate: config.gate(preparation.size_px),
                novelty: &novelty,
                validation: &validation,
            };
            folder::write(work.out(), &parts).map_err(Error::from)?;
            work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
            let temperature = parts.decision.temperature;
            let shown = temperature.map_or("none".to_owned(), |temperature| format!("{temperature:.3}"));
            work.publish(json!({
                "headline": format!("temperature {shown}, from {} validation images", labels.len()),
                "temperature": temperature,
                "validation_images": labels.len(),
            }))?;
        }
    }
    run.input("predict", &[""]).map(Some)
}

/// How regions are found and cut, from the facts of attend's table.
fn attention(attend: &Input) -> Result<Attention, Fail> {
    let facts = regions::facts(&[attend.first(REGIONS)?]).map_err(Error::from)?;
    let threshold = facts.threshold.parse().map_err(|expected: &str| {
        let path = attend.folder().to_owned();
        Error::Path { path, problem: format!("attend's threshold is {:?}, expected {expected}", facts.threshold) }
    })?;
    Ok(Attention {
        frame: facts.frame,
        threshold,
        statistic: facts.statistic,
        normalise: facts.normalise,
        cells: facts.cells,
        source: facts.source,
        contrast: facts.contrast,
        size_px: facts.size_px,
    })
}

/// Logits of all branches, and labels, of the validation images.
fn validation(predictions: &[Vec<predictions::Row>; 3]) -> Result<Validation, Error> {
    let of = |branch: usize| predictions[branch].iter().filter(|row| row.key.split == Split::Validation);
    let [global, local, fusion] = [0, 1, 2].map(|branch| of(branch).collect::<Vec<_>>());
    for (one, two) in [(&global, &local), (&global, &fusion)] {
        let ids = [one, two].map(|rows| rows.iter().map(|row| row.key.image_id.as_str()).collect::<Vec<_>>());
        if ids[0] != ids[1] {
            let apart = ids[0].iter().zip(&ids[1]).find(|(a, b)| a != b).map_or("", |(a, _)| a);
            let (present, absent) = ("global/predictions.parquet", "another branch's");
            return Err(Error::Unmatched { image_id: apart.to_owned(), present, absent });
        }
    }
    Ok(Validation {
        labels: global.iter().map(|row| row.key.labels).collect(),
        logits: [global, local, fusion].map(|rows| rows.into_iter().map(|row| row.logits).collect()),
    })
}

/// Describes the training and the validation images, and holds the latter against the former.
fn novelty(features: &Path, prep: &Input) -> Result<Novelty, Fail> {
    let features = features::read(features).map_err(Error::from)?;
    let [training, validation] = [Split::Train, Split::Validation].map(|split| described(&features, prep, split));
    Ok(Novelty::fit(&training?, &validation?).map_err(Error::from)?)
}

/// The images of a split in two descriptions; of many, [`model::MOST`], evenly spread.
fn described(features: &Features, prep: &Input, split: Split) -> Result<Vec<Described>, Fail> {
    let files = prep.files(&format!("{IMAGES}{split}-"))?;
    let rows = images::rows(&files).map_err(Error::from)?[split as usize];
    let kept = rows.min(model::MOST);
    let mut described = Vec::with_capacity(kept);
    let (mut row, mut waiting) = (0, Vec::new());
    let mut progress = stage::progress(rows as u64, "images described");
    images::read(&files, |image| -> Result<(), Error> {
        // The k-th that is kept is row k * rows / kept.
        if row * kept % rows < kept {
            waiting.push((image.record.image_id, image.png));
        }
        row += 1;
        progress.inc(1);
        if waiting.len() >= CHUNK || row == rows {
            described.extend(describe(features, &std::mem::take(&mut waiting))?);
        }
        if stage::interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    })?;
    progress.finish();
    Ok(described)
}

fn describe(features: &Features, images: &[(String, Vec<u8>)]) -> Result<Vec<Described>, Error> {
    // With --limit, the branch saw a part of the images.
    let describe = |(image_id, png): &(String, Vec<u8>)| {
        let at = features.image_ids.binary_search(image_id).ok()?;
        Some(Grey::decode_stored(image_id, png).map(|image| Described::new(features.row(at), &image)))
    };
    Ok(images.par_iter().filter_map(describe).collect::<Result<_, picture::Error>>()?)
}
