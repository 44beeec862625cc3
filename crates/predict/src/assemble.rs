//! From a trained run to a model.

use std::collections::HashMap;
use std::path::Path;

use cxr::{Labels, OUTPUTS, Split};
use model::{Attention, Conformal, Decision, Novelty, Preparation, folder};
use serde_json::json;
use stage::{Begin, Computed, Fail, Input, Outcome, Run, info};
use tables::{features, images, predictions, regions};

use crate::config::Config;
use crate::error::Error;

const IMAGES: &str = "images/";
const REGIONS: &str = "regions-";
const WEIGHTS: &str = "weights.safetensors";
const FEATURES: &str = "features.parquet";
const PREDICTIONS: &str = "predictions.parquet";

/// The model of the run: current, or made of its weights and validation images and published as `predict`. `None` where
/// `--dry-run` asks for nothing to be done.
///
/// # Errors
/// A stage has not run or is stale; there are no validation images; the disk is full.
pub fn model_of(run: &mut Run, config: &Config) -> Result<Option<Input>, Fail> {
    let prep = run.input("prep", &[IMAGES])?;
    let global = run.input("global", &[FEATURES, WEIGHTS])?;
    let attend = run.input("attend", &[REGIONS])?;
    let local = run.input("local", &[WEIGHTS])?;
    let fusion = run.input("fusion", &[PREDICTIONS, WEIGHTS])?;
    match run.begin()? {
        Begin::Stop(Outcome::Nothing) => return Ok(None),
        Begin::Stop(_) => {}
        Begin::Work(mut work) => {
            let prepared = images::facts(&prep.files(IMAGES)).map_err(Error::from)?;
            let preparation = Preparation { size_px: prepared.size_px, contrast: prepared.contrast };
            let attention = attention(&attend)?;
            let predictions = predictions::read(&fusion.file(PREDICTIONS)).map_err(Error::from)?;
            let (logits, labels) = validation(&predictions);
            info!("fits thresholds and novelty on {} validation images", logits.len());
            let novelty = novelty(&global.file(FEATURES), &predictions)?;
            for (input, name) in [&global, &local, &fusion].into_iter().zip(folder::names::WEIGHTS) {
                work.take_as(input, WEIGHTS, name)?;
            }
            let backbone = |input: &Input| nets::weights::meta(&input.file(WEIGHTS)).map(|meta| meta.backbone);
            let parts = folder::Parts {
                preparation,
                attention,
                backbones: [backbone(&global).map_err(Error::from)?, backbone(&local).map_err(Error::from)?],
                decision: Decision::fit(&logits, &labels, config.criterion),
                gate: config.gate(preparation.size_px),
                novelty: &novelty,
                conformal: &Conformal::fit(&logits, &labels),
            };
            folder::write(work.out(), &parts).map_err(Error::from)?;
            work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
            let temperature = parts.decision.temperature;
            let shown = temperature.map_or("none".to_owned(), |temperature| format!("{temperature:.3}"));
            work.publish(json!({
                "headline": format!("temperature {shown}, from {} validation images", logits.len()),
                "temperature": temperature,
                "validation_images": logits.len(),
            }))?;
        }
    }
    run.input("predict", &[""]).map(Some)
}

/// How regions are found and cut, from the facts of attend's table.
fn attention(attend: &Input) -> Result<Attention, Error> {
    let facts = regions::facts(&attend.files(REGIONS))?;
    let threshold = facts.threshold.parse().map_err(|expected: &str| {
        let path = attend.folder().to_owned();
        Error::Path { path, problem: format!("attend's threshold is {:?}, expected {expected}", facts.threshold) }
    })?;
    Ok(Attention {
        frame: facts.frame,
        threshold,
        statistic: facts.statistic,
        normalise: facts.normalise,
        source: facts.source,
        contrast: facts.contrast,
        size_px: facts.size_px,
    })
}

/// The fusion branch's logits and the labels of the validation images.
fn validation(predictions: &[predictions::Row]) -> (Vec<[f32; OUTPUTS]>, Vec<Labels>) {
    let rows = predictions.iter().filter(|row| row.key.split == Split::Validation);
    rows.map(|row| (row.logits, row.key.labels)).unzip()
}

/// Measures the training images' features; `predictions` say which those are.
fn novelty(features: &Path, predictions: &[predictions::Row]) -> Result<Novelty, Error> {
    let features = features::read(features)?;
    let splits: HashMap<&str, Split> =
        predictions.iter().map(|row| (row.key.image_id.as_str(), row.key.split)).collect();
    let mut rows: [Vec<&[f32]>; 3] = Default::default();
    for (index, image_id) in features.image_ids.iter().enumerate() {
        let split = splits.get(image_id.as_str()).ok_or_else(|| Error::Unmatched {
            image_id: image_id.clone(),
            present: "global/features.parquet",
            absent: "fusion/predictions.parquet",
        })?;
        rows[*split as usize].push(features.row(index));
    }
    Ok(Novelty::fit(&rows[Split::Train as usize], &rows[Split::Validation as usize])?)
}

