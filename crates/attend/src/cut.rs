//! From regions to crops, and to the table.

use std::ops::ControlFlow;
use std::path::Path;

use branch::{Images, Originals};
use cxr::heatmap::Cells;
use cxr::{BBox, CropSource, EvalFrame, ImageKey, Placement, Split};
use model::crop_of;
use model::region::Region;
use picture::Grey;
use rayon::prelude::*;
use tables::regions;

use crate::config::Config;
use crate::error::Error;
use crate::heat::{Heat, Subjects};

/// Images cut between two writes.
const CHUNK: usize = 256;

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
pub fn facts(config: &Config, frame: EvalFrame, heat: &Heat, cells: Option<Cells>) -> regions::Facts {
    let side = if config.size == 0 { frame.image_px } else { config.size };
    regions::Facts {
        frame,
        threshold: config.threshold.to_string(),
        statistic: config.statistic,
        normalise: config.normalise,
        cells,
        region: config.region,
        region_seed: (config.region == Placement::Random).then_some(config.region_seed),
        source: config.source,
        contrast: config.contrast,
        size_px: side as u32,
        heatmap: [heat.shape.0, heat.shape.1],
    }
}

/// Cuts the regions of all subjects out of `images`, in their order, and writes `regions-NNNNN-of-NNNNN.parquet` into `folder`, as the
/// stage `stage`. `watch` hears the number of images done since it was last called, and may stop the work.
///
/// # Errors
/// A file behind an image cannot be read, or has changed; the disk is full; [`Error::Interrupted`].
pub fn write(
    folder: &Path,
    stage: &str,
    (images, subjects, heat, regions): (&Images, &Subjects, &Heat, &[Region]),
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
        .zip(heat.normalised(facts.cells))
        .zip(&heat.peaks)
        .zip(regions)
        .map(|(((&(key, split, index), map), &peak), &region)| Subject {
            key,
            split,
            index,
            map: map.values(),
            peak,
            region,
        })
        .collect();
    for chunk in subjects.chunks(CHUNK) {
        let rows = chunk.par_iter().map(|subject| row(subject, images, facts, originals));
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
    /// Where the grey values of the prepared image are.
    split: Split,
    index: usize,
    map: &'a [f32],
    peak: f32,
    region: Region,
}

fn row(
    subject: &Subject<'_>,
    images: &Images,
    facts: &regions::Facts,
    originals: &Originals,
) -> Result<regions::Row, Error> {
    let &Subject { key, split, index, map, peak, region } = subject;
    let size = facts.frame.image_px;
    let bbox = region.bbox.unwrap_or(BBox::frame(size as f32, size as f32));
    let image = match facts.source {
        CropSource::Prepared => {
            let pixels = images.of(split).image(index)?.into_owned();
            Grey { width: size as u32, height: size as u32, pixels }
        }
        CropSource::Original => originals.read(&key.image_id)?,
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
        path: originals.path(&key.image_id)?.to_owned(),
    })
}
