//! External evaluation: a trained model on images of another place.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use branch::{Originals, Parts, raw_folder};
use candle_core::Device;
use cxr::{BBox, Branch, CropSource, ImageKey, Labels, OUTPUTS, Placement, Split, metrics};
use model::region::Region;
use model::{Model, Sight, folder};
use picture::Grey;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stage::{Begin, Common, Computed, Fail, Outcome, Run, Section, Settings, Shards, Spec, info, warn};
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
    let keys = test_images(&files, run.limit())?;
    let shards = run.shards();
    let what = work.key().to_owned();
    let (seen, parts) = score(&model, (&files, &keys), &originals, (&shards, &what), work.out())?;
    if shards.mine().is_some() {
        return work.share(|shard| parts.is_missing(shard));
    }
    let seen: Vec<Seen> = seen.into_iter().flatten().collect();
    let isa = Some(nets::isa().name().to_owned());
    work.computed(Computed { device: nets::describe(&device), isa, ..Computed::default() });
    let mut numbers = Vec::new();
    for branch in Branch::ALL {
        let folder = work.out().join(branch.name());
        fs_err::create_dir(&folder)?;
        let rows = rows((&keys, &seen), &model, branch);
        predictions::write(&folder.join("predictions.parquet"), &rows, SPEC.name).map_err(Error::from)?;
        numbers.push((branch.name().to_owned(), json!(mean_auroc(&rows))));
    }
    let images = keys.len();
    let novel = seen.iter().filter(|seen| seen.novelty > model.gate.max_novelty).count();
    let share = novel as f64 / images.max(1) as f64;
    info!("{:.1} % of the images are farther from the training images than the model's gate allows", 100.0 * share);
    let fusion = numbers.last().and_then(|(_, value)| value.as_f64());
    let shown = fusion.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
    work.publish(json!({
        "headline": format!("mean AUROC {shown} on {images} images of another place"),
        "test_mean_auroc": serde_json::Map::from_iter(numbers),
        "images": images,
        "refused_by_the_gate": novel,
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

/// What the model says of an image, but for the crop, which can be cut again.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    novelty: f32,
    region: Region,
    peak: f32,
    /// By branch, in the order of [`Branch::ALL`].
    logits: [[f32; OUTPUTS]; 3],
    heat_map: Vec<f32>,
}

impl Seen {
    /// Values of a row in front of the heat map.
    const FIRST: usize = 9 + 3 * OUTPUTS;

    fn of(sight: &Sight, novelty: f32) -> Seen {
        let Sight { region, peak, logits, .. } = *sight;
        Seen { novelty, region, peak, logits, heat_map: sight.heat_map.clone() }
    }

    /// Appends all of it to a row.
    fn add(&self, row: &mut Vec<f32>) {
        let edges = self.region.bbox.map_or([0.0; 5], |b| [1.0, b.x_min, b.y_min, b.x_max, b.y_max]);
        row.extend([self.novelty, self.region.tau, self.region.mask_frac, self.peak]);
        row.extend(edges);
        row.extend(self.logits.as_flattened());
        row.extend(&self.heat_map);
    }

    /// What [`Seen::add`] appended; `None` for a row that is none.
    fn from_row(row: &[f32]) -> Option<Seen> {
        let (first, heat_map) = row.split_at_checked(Seen::FIRST)?;
        let (&[novelty, tau, mask_frac, peak, has_box, x_min, y_min, x_max, y_max], logits) =
            first.split_first_chunk()?;
        let bbox = match has_box > 0.0 {
            true => Some(BBox::new(x_min, y_min, x_max, y_max).ok()?),
            false => None,
        };
        let logits = logits.as_chunks().0.try_into().ok()?;
        Some(Seen { novelty, region: Region { bbox, tau, mask_frac }, peak, logits, heat_map: heat_map.to_vec() })
    }
}

/// An image of prep's table.
struct Loaded {
    key: ImageKey,
    prepared: Grey,
    /// Below the raw folder.
    path: String,
}

/// The keys of the test images, at most `limit`.
fn test_images(files: &[PathBuf], limit: Option<usize>) -> Result<Vec<ImageKey>, Fail> {
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
    let rows = images::read_meta(files).map_err(Error::from)?.into_iter();
    let keys = rows.filter(|row| row.split == Split::Test).map(|row| row.key());
    Ok(keys.take(limit.unwrap_or(test)).collect())
}

/// Asks the model about the images with these keys, a shard about its share, and writes the regions of all into `out`.
/// `what` stands for everything that the answers are made of.
fn score(
    model: &Model,
    (files, keys): (&[PathBuf], &[ImageKey]),
    originals: &Originals,
    (shards, what): (&Shards, &str),
    out: &Path,
) -> Result<(Vec<Option<Seen>>, Parts), Fail> {
    let [global, _] = model.network.branches();
    let facts = facts(model);
    let row = Seen::FIRST + facts.heatmap[0] * facts.heatmap[1];
    let mut parts = Parts::new(shards, what, [&[], &[], keys], (global, BATCH), &|_| row);
    let mut seen: Vec<Option<Seen>> = vec![None; keys.len()];
    // After Ctrl-C, what is known is saved before the process ends.
    let _hold = stage::hold();
    let there = parts.read(&mut |index, row| seen[index] = Seen::from_row(row)).map_err(Error::from)?;
    let mut asked = vec![false; keys.len()];
    parts.missing(Split::Test).into_iter().for_each(|range| asked[range].fill(true));
    let is_shard = shards.mine().is_some();
    let mut scoring = Scoring {
        model,
        originals,
        seen,
        parts,
        regions: (!is_shard).then(|| regions::Writer::new(out, "regions", keys.len(), SPEC.name, facts)),
        progress: stage::progress(keys.len() as u64, "images"),
    };
    if is_shard {
        scoring.progress.inc(there as u64);
    }
    let (mut next, mut waiting) = (0, Vec::new());
    images::read(files, |row| -> Result<(), Error> {
        if row.split != Split::Test || next == keys.len() {
            return Ok(());
        }
        let (index, is_asked) = (next, asked[next]);
        next += 1;
        if waiting.len() == BATCH || (index > 0 && asked[index - 1] != is_asked) {
            scoring.batch(index, std::mem::take(&mut waiting))?;
        }
        if is_asked || !is_shard {
            let prepared = Grey::decode_stored(&row.record.image_id, &row.png)?;
            waiting.push(Loaded { key: row.key(), prepared, path: row.path });
        }
        Ok(())
    })?;
    scoring.batch(next, waiting)?;
    let Scoring { seen, parts, regions, progress, .. } = scoring;
    progress.finish();
    if let Some(regions) = regions {
        regions.finish().map_err(Error::from)?;
    }
    Ok((seen, parts))
}

struct Scoring<'a> {
    model: &'a Model,
    originals: &'a Originals,
    seen: Vec<Option<Seen>>,
    parts: Parts,
    /// A shard writes none.
    regions: Option<regions::Writer>,
    progress: stage::Progress,
}

impl Scoring<'_> {
    /// Neighbours in front of the image `end`, about all of which the model is asked, or about none.
    fn batch(&mut self, end: usize, loaded: Vec<Loaded>) -> Result<(), Error> {
        let network = &self.model.network;
        let first = end - loaded.len();
        let Some(known) = self.seen.get(first..end).filter(|seen| !seen.is_empty()) else { return Ok(()) };
        let known: Option<Vec<Seen>> = known.iter().cloned().collect();
        let sources: Vec<Grey> = match network.attention().source {
            CropSource::Prepared => Vec::new(),
            CropSource::Original => {
                let source = |loaded: &Loaded| self.originals.source(&loaded.key.image_id);
                loaded.par_iter().map(source).collect::<Result<_, branch::Error>>()?
            }
        };
        let prepared: Vec<Grey> = loaded.iter().map(|loaded| loaded.prepared.clone()).collect();
        let sources: Vec<&Grey> = if sources.is_empty() { prepared.iter().collect() } else { sources.iter().collect() };
        let crops: Vec<Grey> = match known {
            Some(known) => {
                let crop =
                    |((seen, prepared), source): ((&Seen, &Grey), &&Grey)| network.crop(&seen.region, prepared, source);
                known.par_iter().zip(&prepared).zip(&sources).map(crop).collect()
            }
            None => {
                let sights = network.see_prepared(prepared.clone(), &sources)?;
                for (seen, sight) in self.seen[first..end].iter_mut().zip(&sights) {
                    *seen = Some(Seen::of(sight, self.model.novelty(sight)));
                }
                let seen = &self.seen;
                self.parts.add(first, loaded.len(), &|index, row| {
                    seen[index].iter().for_each(|seen| seen.add(row));
                })?;
                sights.into_iter().map(|sight| sight.crop).collect()
            }
        };
        self.progress.inc(loaded.len() as u64);
        if let Some(writer) = &mut self.regions {
            let shape = facts(self.model).heatmap;
            for ((Loaded { key, path, .. }, seen), crop) in loaded.into_iter().zip(&self.seen[first..end]).zip(crops) {
                let Some(seen) = seen else { continue };
                writer.write(region(key, path, (seen, network.bbox(&seen.region), shape), &crop))?;
            }
        }
        if stage::interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

fn region(key: ImageKey, path: String, (seen, bbox, shape): (&Seen, BBox, [usize; 2]), crop: &Grey) -> regions::Row {
    regions::Row {
        key,
        heatmap_height: shape[0],
        heatmap_width: shape[1],
        heatmap: seen.heat_map.clone(),
        threshold: seen.region.tau,
        bbox,
        mask_frac: seen.region.mask_frac,
        peak: seen.peak,
        fallback: seen.region.bbox.is_none(),
        crop_png: crop.encode(),
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
fn rows((keys, seen): (&[ImageKey], &[Seen]), model: &Model, branch: Branch) -> Vec<predictions::Row> {
    let own = model.validation.of(branch).iter().zip(&model.validation.labels).zip(1..);
    let own = own.map(|((&logits, &labels), number)| {
        let image_id = format!("{VALIDATION}{number:06}");
        predictions::Row { key: ImageKey { image_id, patient_id: number, split: Split::Validation, labels }, logits }
    });
    let theirs = keys.iter().zip(seen);
    let theirs = theirs.map(|(key, seen)| predictions::Row { key: key.clone(), logits: seen.logits[branch as usize] });
    let mut rows: Vec<predictions::Row> = own.chain(theirs).collect();
    rows.sort_by(|a, b| a.key.image_id.cmp(&b.key.image_id));
    rows
}

fn mean_auroc(rows: &[predictions::Row]) -> Option<f64> {
    let rows = rows.iter().filter(|row| row.key.split == Split::Test);
    let (logits, labels): (Vec<[f32; OUTPUTS]>, Vec<Labels>) = rows.map(|row| (row.logits, row.key.labels)).unzip();
    metrics::mean_auroc(&logits, &labels).value
}
