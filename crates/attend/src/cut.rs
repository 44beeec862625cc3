//! From a box to a crop, and to a row of the table.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use branch::ImageKey;
use cxr::BBox;
use picture::Grey;
use rayon::prelude::*;
use tables::{Stamp, regions};

use crate::region::{self, Region};
use crate::{Config, Error, Heat, Source, Subjects};

/// Rows per file, at most.
const SHARD: usize = 4000;
/// Images cut between two writes.
const CHUNK: usize = 256;

/// Where the files behind the prepared pictures are.
pub struct Originals {
    /// What the paths start from: `prep.root`.
    pub root: PathBuf,
    /// `prep.contrast`: what prep did to every picture.
    pub contrast: f32,
    /// Path below `root`, by `image_id`.
    pub paths: HashMap<String, String>,
}

impl Originals {
    /// Takes the paths from the files of `prep/images`.
    ///
    /// # Errors
    /// A file that is no `images` table.
    pub fn new(root: PathBuf, contrast: f32, files: &[PathBuf]) -> Result<Originals, Error> {
        let rows = tables::images::read_meta(files)?;
        let paths = rows.into_iter().map(|row| (row.record.image_id, row.path)).collect();
        Ok(Originals { root, contrast, paths })
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Attended {
    /// Images.
    pub images: usize,
    /// Images without a region, taken whole.
    pub fallbacks: usize,
    /// Mean share of the evaluation frame above the threshold.
    pub mean_mask_frac: f64,
    /// Mean share of the prepared picture that the box covers.
    pub mean_box_frac: f64,
}

/// Finds the region of one subject and cuts it out; `frame` is the evaluation frame's side, px.
///
/// # Errors
/// The original cannot be read.
pub fn cut(
    subjects: &Subjects,
    index: usize,
    heat: &Heat,
    frame: usize,
    config: &Config,
    originals: &Originals,
) -> Result<regions::Row, Error> {
    let ((key, pixels), size) = (subjects.images[index], subjects.size);
    let Region { bbox, tau, mask_frac } =
        region::find(heat.map(index), heat.shape, frame, config.threshold, config.normalise);
    let whole = BBox::new(0.0, 0.0, size as f32, size as f32);
    let offset = ((size - frame) / 2) as f32;
    let area = bbox.map_or(whole, |area| {
        BBox::new(area.x_min + offset, area.y_min + offset, area.x_max + offset, area.y_max + offset)
    });
    let path = original(originals, key)?;
    let side = if config.size == 0 { size } else { config.size } as u32;
    let mut crop = match config.source {
        Source::Prepared => {
            let (width, height) = (size as u32, size as u32);
            crop_of(&Grey { width, height, pixels: pixels.to_vec() }, area, size, side)
        }
        Source::Original => {
            let mut picture = Grey::read(&originals.root.join(path))?;
            picture.contrast(originals.contrast);
            crop_of(&picture, area, size, side)
        }
    };
    crop.contrast(config.contrast);
    Ok(regions::Row {
        image_id: key.image_id.clone(),
        patient_id: key.patient_id,
        split: key.split,
        labels: key.labels,
        heatmap: heat.map(index).to_vec(),
        heatmap_height: heat.shape.0,
        heatmap_width: heat.shape.1,
        threshold: tau,
        statistic: config.statistic.name().to_owned(),
        normalise: config.normalise.name().to_owned(),
        source: config.source.name().to_owned(),
        bbox: area,
        mask_frac,
        peak: heat.peaks[index],
        fallback: bbox.is_none(),
        crop_png: crop.encode(),
        path: path.to_owned(),
    })
}

fn original<'a>(originals: &'a Originals, key: &ImageKey) -> Result<&'a str, Error> {
    originals.paths.get(&key.image_id).map(String::as_str).ok_or_else(|| Error::Unmatched {
        image_id: key.image_id.clone(),
        present: "the pictures".to_owned(),
        absent: "prep/images".to_owned(),
    })
}

/// The part of a picture under `area`, which is in a frame of `size` px, as a square of `side` px.
fn crop_of(picture: &Grey, area: BBox, size: usize, side: u32) -> Grey {
    let [x, y] = [picture.width, picture.height].map(|side| f64::from(side) / size as f64);
    let [left, right] = [area.x_min, area.x_max].map(|value| f64::from(value) * x);
    let [top, bottom] = [area.y_min, area.y_max].map(|value| f64::from(value) * y);
    picture.crop([left, top, right, bottom], side)
}

/// Cuts all regions, in parallel, and writes `regions-NNNNN-of-NNNNN.parquet` into `folder`.
///
/// # Errors
/// As [`cut`]; the disk is full; [`Error::Interrupted`].
pub fn write(
    folder: &Path,
    subjects: &Subjects,
    heat: &Heat,
    frame: usize,
    config: &Config,
    originals: &Originals,
    stamp: &Stamp,
) -> Result<Attended, Error> {
    let count = subjects.images.len();
    let shards = count.div_ceil(SHARD);
    let mut attended = Attended { images: count, ..Default::default() };
    let mut progress = stage::progress(count as u64, "regions");
    for shard in 0..shards {
        let mut writer = regions::Writer::create(folder, shard, shards, heat.shape, stamp)?;
        let range = shard * count / shards..(shard + 1) * count / shards;
        for first in range.clone().step_by(CHUNK) {
            if stage::interrupted() {
                return Err(Error::Interrupted);
            }
            let chunk = first..(first + CHUNK).min(range.end);
            let rows = chunk.into_par_iter().map(|index| cut(subjects, index, heat, frame, config, originals));
            for row in rows.collect::<Result<Vec<_>, Error>>()? {
                attended.fallbacks += usize::from(row.fallback);
                attended.mean_mask_frac += f64::from(row.mask_frac) / count as f64;
                let share = row.bbox.width() * row.bbox.height() / (subjects.size * subjects.size) as f32;
                attended.mean_box_frac += f64::from(share) / count as f64;
                writer.write(&row)?;
                progress.inc(1);
            }
        }
        writer.finish()?;
    }
    progress.finish();
    Ok(attended)
}
