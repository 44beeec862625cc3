//! From pictures to Parquet files.

use std::ops::ControlFlow;
use std::path::Path;

use cxr::{FindingBox, Split};
use rayon::prelude::*;
use tables::{Stamp, images};

use crate::config::{Config, Trouble};
use crate::nih::BOX_FRAME_PX;
use crate::{Error, Item};
use picture::Grey;

/// Images per file, at most.
const SHARD: usize = 4000;
/// Images decoded between two writes: enough for any number of cores, and some 10 MB of PNG.
const CHUNK: usize = 256;

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Images in train, validation and test.
    pub images: [u64; 3],
    /// File names and their rows, in the order of writing.
    pub shards: Vec<(String, u64)>,
    /// Damaged pictures that were left out.
    pub corrupt: Vec<picture::Error>,
}

/// Decodes `items` (sorted by `image_id`, files below `root`) and writes `{split}-NNNNN-of-NNNNN.parquet` into the folder
/// `out`. `watch` hears the number of images done since it was last called, and may stop the work.
///
/// # Errors
/// A damaged picture, unless `config.corrupt` says to skip; a split of damaged pictures only; a picture that cannot be
/// read; [`Error::Interrupted`]; what the table's writer says.
pub fn write(
    root: &Path,
    items: &[&Item],
    config: &Config,
    stamp: &Stamp,
    out: &Path,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Written, Error> {
    fs_err::create_dir_all(out)?;
    let mut written = Written::default();
    for split in Split::ALL {
        let items: Vec<&Item> = items.iter().copied().filter(|item| item.split == split).collect();
        let shards = items.len().div_ceil(SHARD);
        for shard in 0..shards {
            let range = shard * items.len() / shards..(shard + 1) * items.len() / shards;
            let mut writer = images::Writer::create(out, split, shard, shards, stamp)?;
            for chunk in items[range].chunks(CHUNK) {
                let rows: Vec<Result<images::Row, picture::Error>> =
                    chunk.par_iter().map(|item| row(root, item, config)).collect();
                for row in rows {
                    match row {
                        Ok(row) => writer.write(&row)?,
                        Err(error) if config.corrupt == Trouble::Skip && error.is_corrupt() => {
                            written.corrupt.push(error);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                if watch(chunk.len()).is_break() {
                    return Err(Error::Interrupted);
                }
            }
            let rows = writer.finish()?;
            written.images[split as usize] += rows;
            written.shards.push((format!("{split}-{shard:05}-of-{shards:05}.parquet"), rows));
        }
        if !items.is_empty()
            && written.images[split as usize] == 0
            && let Some(last) = written.corrupt.pop()
        {
            return Err(Error::AllCorrupt { split, last });
        }
    }
    Ok(written)
}

/// One image, decoded.
fn row(root: &Path, item: &Item, config: &Config) -> Result<images::Row, picture::Error> {
    let path = item.file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
    let source = Grey::read(&root.join(&path))?;
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
        width_px: stored.width,
        height_px: stored.height,
        source_width_px: source.width,
        source_height_px: source.height,
        boxes: boxes.collect(),
    })
}
