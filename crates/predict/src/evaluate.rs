//! External evaluation: a trained model on images of another place.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use branch::{Originals, raw_folder};
use candle_core::Device;
use cxr::{Branch, CropSource, ImageKey, Labels, OUTPUTS, Placement, Split, metrics};
use model::{Model, Sight, folder};
use picture::Grey;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stage::{Begin, Common, Computed, Fail, Outcome, Run, Section, Settings, Spec, info, warn};
use tables::{images, predictions, regions};

use crate::commands::BATCH;
use crate::error::Error;

/// What this command is: a stage between `prep` and `report`, in place of those that train.
pub const SPEC: Spec = Spec {
    name: "evaluate",
    version: 2,
    seeded: false,
    defaults: include_str!("../evaluate.toml"),
    about: "Evaluate a trained model on another prepared dataset

Reads prep/images and an exported model; trains nothing. Writes predictions of the three branches and the attended regions, of which `report` makes the whole report, with thresholds and temperature from the model's own validation images.",
};

/// The section `[evaluate]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The exported model's folder.
    pub model: String,
}

impl Settings for Config {
    // The contents of a model are an input of their own, wherever it lies.
    const EXECUTION: &'static [&'static str] = &["model"];

    fn check(&self, _: Section) -> Result<(), Fail> {
        Ok(())
    }
}

const IMAGES: &str = "images/";
/// How the names of the model's own validation images begin; they have predictions, and no image.
const VALIDATION: &str = "model-validation-";

/// Publishes the predictions and regions of `model`, or of the configured one, for all images of the run.
///
/// # Errors
/// No model; images that were prepared in another way than the model's; a run in which a model was trained; what the
/// network says.
pub fn evaluate(common: &Common, model: Option<&Path>) -> Result<Outcome, Fail> {
    let (mut run, config) = Run::open::<Config>(&SPEC, common)?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    let place = match model {
        Some(model) => model.to_owned(),
        None if !config.model.is_empty() => PathBuf::from(&config.model),
        None => {
            return Err(Fail::usage(anyhow!("evaluate needs a model"))
                .hint("--model FOLDER, which `just predict export --run RUN FOLDER` writes"));
        }
    };
    for branch in Branch::ALL {
        if run.optional_input(branch.name(), &["predictions.parquet"])?.is_some() {
            return Err(Fail::usage(anyhow!("run {} has a model of its own", run.name()))
                .hint("an external evaluation needs a run of its own: --run ELSEWHERE"));
        }
    }
    let attention = folder::Config::read(&place).map_err(Error::from)?.attention;
    if run.dry_run() || run.check() {
        Model::open(&place, &Device::Cpu).map_err(Error::from)?;
    }
    let prep = run.input("prep", &[IMAGES])?;
    let digest = folder::digest(&place.join(folder::names::CONFIG)).map_err(Error::from)?;
    run.outside("model", digest, Some(&place));
    let facts = images::facts(&[prep.first(IMAGES)?]).map_err(Error::from)?;
    let root = match attention.source {
        CropSource::Original => raw_folder(&mut run, &prep)?,
        CropSource::Prepared => PathBuf::new(),
    };
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    let files = prep.files(IMAGES)?;
    let device = nets::device(run.device()).map_err(Error::from)?;
    let model = Model::open(&place, &device).map_err(Error::from)?;
    fits(&facts, &model)?;
    let originals = Originals::new(root, &files)?;
    let scored = score(&model, &files, run.limit(), &originals, work.out())?;
    let isa = Some(nets::isa().name().to_owned());
    work.computed(Computed { device: nets::describe(&device), isa, ..Computed::default() });
    let mut numbers = Vec::new();
    for branch in Branch::ALL {
        let folder = work.out().join(branch.name());
        fs_err::create_dir(&folder)?;
        let rows = rows(&scored, &model, branch);
        predictions::write(&folder.join("predictions.parquet"), &rows, SPEC.name).map_err(Error::from)?;
        numbers.push((branch.name().to_owned(), json!(mean_auroc(&rows))));
    }
    let images = scored.keys.len();
    let share = scored.novel as f64 / images.max(1) as f64;
    info!("{:.1} % of the images are farther from the training images than the model's gate allows", 100.0 * share);
    let fusion = numbers.last().and_then(|(_, value)| value.as_f64());
    let shown = fusion.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
    work.publish(json!({
        "headline": format!("mean AUROC {shown} on {images} images of another place"),
        "test_mean_auroc": serde_json::Map::from_iter(numbers),
        "images": images,
        "refused_by_the_gate": scored.novel,
        "model": model.digest,
    }))
}

/// The images were prepared as the model's own.
fn fits(facts: &images::Facts, model: &Model) -> Result<(), Fail> {
    let wanted = model.network.preparation();
    if (facts.size_px, facts.contrast) == (wanted.size_px, wanted.contrast) {
        return Ok(());
    }
    Err(Fail::usage(anyhow!(
        "the images were prepared with prep.size = {}, prep.contrast = {}, the model expects {} and {}",
        facts.size_px,
        facts.contrast,
        wanted.size_px,
        wanted.contrast
    ))
    .hint(format!(
        "run just prep again with --set prep.size={} --set prep.contrast={}",
        wanted.size_px, wanted.contrast
    )))
}

/// What the model says of all images, by `image_id`.
struct Scored {
    keys: Vec<ImageKey>,
    /// By branch, in the order of [`Branch::ALL`].
    logits: [Vec<[f32; OUTPUTS]>; 3],
    /// Images whose novelty the gate would refuse.
    novel: usize,
}

/// An image of prep's table.
struct Loaded {
    key: ImageKey,
    prepared: Grey,
    /// Below the raw folder.
    path: String,
}

/// Asks the model about the images of the test split, at most `limit`, and writes their regions into `out`.
fn score(
    model: &Model,
    files: &[PathBuf],
    limit: Option<usize>,
    originals: &Originals,
    out: &Path,
) -> Result<Scored, Fail> {
    let rows = images::rows(files).map_err(Error::from)?;
    let test = rows[Split::Test as usize];
    if test == 0 {
        return Err(Fail::bad_data(anyhow!("no images in the split `test`"))
            .hint("--set prep.split=test makes all images test images"));
    }
    let others = rows.iter().sum::<usize>() - test;
    if others > 0 {
        warn!("{others} images of the splits train and validation are left out; prep.split = \"test\" takes all");
    }
    let count = test.min(limit.unwrap_or(test));
    let mut scoring = Scoring {
        model,
        originals,
        scored: Scored { keys: Vec::new(), logits: Default::default(), novel: 0 },
        regions: regions::Writer::new(out, "regions", count, SPEC.name, facts(model)),
        progress: stage::progress(count as u64, "images"),
    };
    let (mut taken, mut waiting) = (0, Vec::new());
    images::read(files, |row| -> Result<(), Error> {
        if row.split != Split::Test || taken == count {
            return Ok(());
        }
        taken += 1;
        let prepared = Grey::decode_stored(&row.record.image_id, &row.png)?;
        waiting.push(Loaded { key: row.key(), prepared, path: row.path });
        if waiting.len() == BATCH { scoring.batch(std::mem::take(&mut waiting)) } else { Ok(()) }
    })?;
    scoring.batch(waiting)?;
    let Scoring { scored, regions, progress, .. } = scoring;
    progress.finish();
    regions.finish().map_err(Error::from)?;
    Ok(scored)
}

struct Scoring<'a> {
    model: &'a Model,
    originals: &'a Originals,
    scored: Scored,
    regions: regions::Writer,
    progress: stage::Progress,
}

impl Scoring<'_> {
    fn batch(&mut self, loaded: Vec<Loaded>) -> Result<(), Error> {
        let network = &self.model.network;
        let sources: Vec<Grey> = match network.attention().source {
            CropSource::Prepared => Vec::new(),
            CropSource::Original => {
                let source = |loaded: &Loaded| self.originals.source(&loaded.key.image_id);
                loaded.par_iter().map(source).collect::<Result<_, branch::Error>>()?
            }
        };
        let prepared: Vec<Grey> = loaded.iter().map(|loaded| loaded.prepared.clone()).collect();
        let sources: Vec<&Grey> = if sources.is_empty() { prepared.iter().collect() } else { sources.iter().collect() };
        let sights = network.see_prepared(prepared.clone(), &sources)?;
        for (Loaded { key, path, .. }, sight) in loaded.into_iter().zip(sights) {
            let novelty = self.model.novelty(&sight);
            self.scored.novel += usize::from(novelty > self.model.gate.max_novelty);
            for (rows, logits) in self.scored.logits.iter_mut().zip(sight.logits) {
                rows.push(logits);
            }
            self.scored.keys.push(key.clone());
            self.regions.write(region(key, path, sight))?;
            self.progress.inc(1);
        }
        if stage::interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

fn region(key: ImageKey, path: String, sight: Sight) -> regions::Row {
    regions::Row {
        key,
        heatmap_height: sight.heat_map_shape.0,
        heatmap_width: sight.heat_map_shape.1,
        heatmap: sight.heat_map,
        threshold: sight.region.tau,
        bbox: sight.bbox,
        mask_frac: sight.region.mask_frac,
        peak: sight.peak,
        fallback: sight.region.bbox.is_none(),
        crop_png: sight.crop.encode(),
        path,
    }
}

/// What holds for all regions of the model.
fn facts(model: &Model) -> regions::Facts {
    let attention = model.network.attention();
    let [global, _] = model.network.branches();
    let side = global.backbone().map_side(attention.frame.input_px);
    regions::Facts {
        frame: attention.frame,
        threshold: attention.threshold.to_string(),
        statistic: attention.statistic,
        normalise: attention.normalise,
        cells: attention.cells,
        region: Placement::Attended,
        region_seed: None,
        source: attention.source,
        contrast: attention.contrast,
        size_px: attention.size_px,
        heatmap: [side, side],
    }
}

/// A branch's predictions: of the images, and of the model's own validation images, on which thresholds and temperature
/// are chosen.
fn rows(scored: &Scored, model: &Model, branch: Branch) -> Vec<predictions::Row> {
    let own = model.validation.of(branch).iter().zip(&model.validation.labels).zip(1..);
    let own = own.map(|((&logits, &labels), number)| {
        let image_id = format!("{VALIDATION}{number:06}");
        predictions::Row { key: ImageKey { image_id, patient_id: number, split: Split::Validation, labels }, logits }
    });
    let theirs = scored.keys.iter().zip(&scored.logits[branch as usize]);
    let theirs = theirs.map(|(key, &logits)| predictions::Row { key: key.clone(), logits });
    let mut rows: Vec<predictions::Row> = own.chain(theirs).collect();
    rows.sort_by(|a, b| a.key.image_id.cmp(&b.key.image_id));
    rows
}

fn mean_auroc(rows: &[predictions::Row]) -> Option<f64> {
    let rows = rows.iter().filter(|row| row.key.split == Split::Test);
    let (logits, labels): (Vec<[f32; OUTPUTS]>, Vec<Labels>) = rows.map(|row| (row.logits, row.key.labels)).unzip();
    metrics::mean_auroc(&logits, &labels).value
}
