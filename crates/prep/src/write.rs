//! From images on disk to Parquet files.

use std::ops::ControlFlow;
use std::path::Path;

use cxr::{FindingBox, Split};
use picture::Radiograph;
use rayon::prelude::*;
use tables::{Shard, images};

use crate::config::{Config, OnProblem};
use crate::dataset::{Dataset, Item};
use crate::error::Error;
use crate::nih::BOX_FRAME_PX;

/// Images decoded between two writes: enough for any number of cores, and some 10 MB of PNG.
const CHUNK: usize = 256;

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Images in train, validation and test.
    pub images: [u64; 3],
    /// The files, in the order of writing.
    pub shards: Vec<Shard>,
    /// Damaged images that were left out.
    pub corrupt: Vec<picture::Error>,
}

/// Decodes the `taken` images (sorted by `image_id`) of a dataset and writes `{split}-NNNNN-of-NNNNN.parquet` into the
/// folder `out`, as the stage `stage`. `watch` hears the number of images done since it was last called, and may stop the
/// work.
///
/// # Errors
/// A damaged image, unless `config.corrupt` says to skip; a split of damaged images only; an image that cannot be
/// read; [`Error::Interrupted`]; what the table's writer says.
pub fn write(
    dataset: &Dataset,
    taken: &[&Item],
    config: &Config,
    stage: &str,
    out: &Path,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Written, Error> {
    fs_err::create_dir_all(out)?;
    let mut written = Written::default();
    for split in Split::ALL {
        let items: Vec<&Item> = taken.iter().copied().filter(|item| item.split == split).collect();
        let mut writer = images::Writer::new(out, split.name(), items.len(), stage, dataset.facts(config));
        for chunk in items.chunks(CHUNK) {
            let rows: Vec<Result<images::Row, picture::Error>> =
                chunk.par_iter().map(|item| row(&dataset.root, item, config)).collect();
            for row in rows {
                match row {
                    Ok(row) => writer.write(row)?,
                    Err(error) if config.corrupt == OnProblem::Skip && error.is_corrupt() => {
                        written.corrupt.push(error);
                        writer.leave_out()?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if watch(chunk.len()).is_break() {
                return Err(Error::Interrupted);
            }
        }
        let shards = writer.finish()?;
        written.images[split as usize] = shards.iter().map(|shard| shard.rows).sum();
        written.shards.extend(shards);
        if !items.is_empty()
            && written.images[split as usize] == 0
            && let Some(last) = written.corrupt.pop()
        {
            return Err(Error::AllCorrupt { split, last });
        }
    }
    Ok(written)
}

/// One image, read once: hashed and decoded.
fn row(root: &Path, item: &Item, config: &Config) -> Result<images::Row, picture::Error> {
    let path = item.file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
    let full = root.join(&path);
    let bytes = picture::read(&full)?;
    let source = Radiograph::decode(&full.display().to_string(), &bytes)?.image;
    let mut stored = source.square(config.size);
    stored.contrast(config.contrast);
    let scale = config.size as f32 / BOX_FRAME_PX;
    let boxes = item.boxes.iter();
    let boxes = boxes.map(|b| FindingBox { finding: b.finding, bbox: b.bbox.scaled(scale, scale) });
    Ok(images::Row {
        record: item.record.clone(),
        split: item.split,
        png: stored.encode(),
        path,
        source_blake3: blake3::hash(&bytes).to_hex().to_string(),
        width_px: stored.width,
        height_px: stored.height,
        source_width_px: source.width,
        source_height_px: source.height,
        boxes: boxes.collect(),
    })
}
