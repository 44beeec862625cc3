//! From regions to crops, and to the table.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cxr::{BBox, CropSource, EvalFrame, ImageKey};
use picture::{Grey, Radiograph};
use rayon::prelude::*;
use tables::{images, regions};

use crate::config::Config;
use crate::error::Error;
use crate::heat::{Heat, Subjects};
use crate::region::Region;

/// Images cut between two writes.
const CHUNK: usize = 256;

/// The files behind the prepared images.
pub struct Originals {
    root: PathBuf,
    /// What prep did to every image.
    contrast: f32,
    /// By `image_id`.
    files: HashMap<String, Original>,
}

/// One file behind a prepared image.
struct Original {
    /// Below the root.
    path: String,
    /// BLAKE3 as prep read it.
    blake3: String,
}

impl Originals {
    /// Takes paths, hashes and contrast from the files of `prep/images`; paths start from `root`, which is `prep.root`.
    ///
    /// # Errors
    /// A file that is no `images` table.
    pub fn new(root: PathBuf, files: &[PathBuf]) -> Result<Originals, Error> {
        let contrast = images::facts(files)?.contrast;
        let rows = images::read_meta(files)?.into_iter();
        let original = |row: images::Row| (row.record.image_id, Original { path: row.path, blake3: row.source_blake3 });
        Ok(Originals { root, contrast, files: rows.map(original).collect() })
    }

    fn of(&self, key: &ImageKey) -> Result<&Original, Error> {
        self.files.get(&key.image_id).ok_or_else(|| Error::Unmatched {
            image_id: key.image_id.clone(),
            present: "the images".to_owned(),
            absent: "prep/images".to_owned(),
        })
    }

    /// Reads a file, which must be the one that prep read, at full size and with prep's contrast.
    fn read(&self, key: &ImageKey) -> Result<Grey, Error> {
        let Original { path, blake3 } = self.of(key)?;
        let path = self.root.join(path);
        let bytes = picture::read(&path)?;
        if blake3::hash(&bytes).to_hex().as_str() != blake3 {
            return Err(Error::Changed { image_id: key.image_id.clone(), path });
        }
        let mut image = Radiograph::decode(&path.display().to_string(), &bytes)?.image;
        image.contrast(self.contrast);
        Ok(image)
    }
}

/// All regions in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Attended {
    /// Images.
    pub images: usize,
    /// Images without a region, taken whole.
    pub fallbacks: usize,
    /// Mean share of the evaluation frame above the threshold.
    pub mean_mask_frac: f64,
    /// Mean share of the prepared image that the box covers.
    pub mean_box_frac: f64,
}

/// What holds for all regions of a table.
pub fn facts(config: &Config, frame: EvalFrame, heat: &Heat) -> regions::Facts {
    let side = if config.size == 0 { frame.image_px } else { config.size };
    regions::Facts {
        frame,
        threshold: config.threshold.to_string(),
        statistic: config.statistic,
        normalise: config.normalise,
        source: config.source,
        contrast: config.contrast,
        size_px: side as u32,
        heatmap: [heat.shape.0, heat.shape.1],
    }
}

/// Cuts the regions of all subjects, in their order, and writes `regions-NNNNN-of-NNNNN.parquet` into `folder`, as the
/// stage `stage`. `watch` hears the number of images done since it was last called, and may stop the work.
///
/// # Errors
/// A file behind an image cannot be read, or has changed; the disk is full; [`Error::Interrupted`].
pub fn write(
    folder: &Path,
    stage: &str,
    (subjects, heat, regions): (&Subjects, &Heat, &[Region]),
    facts: &regions::Facts,
    originals: &Originals,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Attended, Error> {
    let count = subjects.images.len();
    let mut attended = Attended { images: count, ..Default::default() };
    let mut writer = regions::Writer::new(folder, "regions", count, stage, facts.clone());
    let subjects: Vec<Subject<'_>> = subjects
        .images
        .iter()
        .zip(heat.normalised())
        .zip(&heat.peaks)
        .zip(regions)
        .map(|(((&(key, pixels), map), &peak), &region)| Subject { key, pixels, map: map.values(), peak, region })
        .collect();
    for chunk in subjects.chunks(CHUNK) {
        let rows = chunk.par_iter().map(|subject| row(subject, facts, originals));
        for row in rows.collect::<Result<Vec<_>, Error>>()? {
            attended.fallbacks += usize::from(row.fallback);
            attended.mean_mask_frac += f64::from(row.mask_frac) / count as f64;
            let share = row.bbox.area() / (facts.frame.image_px * facts.frame.image_px) as f32;
            attended.mean_box_frac += f64::from(share) / count as f64;
            writer.write(row)?;
        }
        if watch(chunk.len()).is_break() {
            return Err(Error::Interrupted);
        }
    }
    writer.finish()?;
    Ok(attended)
}

/// One image, with all that its row needs.
struct Subject<'a> {
    key: &'a ImageKey,
    /// Grey values of the prepared image.
    pixels: &'a [u8],
    map: &'a [f32],
    peak: f32,
    region: Region,
}

fn row(subject: &Subject<'_>, facts: &regions::Facts, originals: &Originals) -> Result<regions::Row, Error> {
    let &Subject { key, pixels, map, peak, region } = subject;
    let size = facts.frame.image_px;
    let bbox = region.bbox.unwrap_or(BBox::frame(size as f32, size as f32));
    let image = match facts.source {
        CropSource::Prepared => Grey { width: size as u32, height: size as u32, pixels: pixels.to_vec() },
        CropSource::Original => originals.read(key)?,
    };
    let mut crop = crop_of(&image, bbox, size, facts.size_px);
    crop.contrast(facts.contrast);
    Ok(regions::Row {
        key: key.clone(),
        heatmap: map.to_vec(),
        heatmap_height: facts.heatmap[0],
        heatmap_width: facts.heatmap[1],
        threshold: region.tau,
        bbox,
        mask_frac: region.mask_frac,
        peak,
        fallback: region.bbox.is_none(),
        crop_png: crop.encode(),
        path: originals.of(key)?.path.clone(),
    })
}

/// The part of an image under `area`, which is in a frame of `size` px, as a square of `side` px.
fn crop_of(image: &Grey, area: BBox, size: usize, side: u32) -> Grey {
    let [x, y] = [image.width, image.height].map(|side| f64::from(side) / size as f64);
    let [left, right] = [area.x_min, area.x_max].map(|value| f64::from(value) * x);
    let [top, bottom] = [area.y_min, area.y_max].map(|value| f64::from(value) * y);
    image.crop([left, top, right, bottom], side)
}
