//! From images on disk to Parquet files.

use std::path::Path;

use cxr::Split;
use tables::{Shard, images};

use crate::archive::Copies;
use crate::budget::Budget;
use crate::config::{Config, OnProblem};
use crate::dataset::{Dataset, Item};
use crate::error::Error;
use crate::prepare::{Outcome, Watch, prepare};
use crate::shards::{Finished, Found};

/// Images decoded between two writes: enough for any number of cores.
const CHUNK: usize = 256;
/// Bytes of stored images between two writes.
const CHUNK_BYTES: usize = 64 << 20;

/// Where files are written.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stage's name, which the files carry.
    pub stage: &'a str,
    /// Finished files stay here until they are published: an interrupted stage goes on behind them.
    pub scratch: &'a Path,
    /// The folder where all files lie in the end.
    pub out: &'a Path,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Images in train, validation and test.
    pub images: [u64; 3],
    /// The files, in the order of writing.
    pub shards: Vec<Shard>,
    /// How many of the images were taken over from an earlier, interrupted attempt.
    pub taken_over: u64,
    /// Damaged images, and others that the log should mention.
    pub found: Found,
}

/// Decodes the `taken` images (sorted by `image_id`) of a dataset and writes `{split}-NNNNN-of-NNNNN.parquet`. Files that an
/// earlier attempt finished are taken over where their contents are as they were; equal settings and images are the
/// caller's promise, so that the result is the same.
///
/// # Errors
/// A damaged image, unless `config.corrupt` says to skip; a split of damaged images only; an image that cannot be
/// read; [`Error::Interrupted`]; what the table's writer says.
pub fn write(
    dataset: &Dataset,
    taken: &[&Item],
    config: &Config,
    place: Place<'_>,
    watch: Watch<'_>,
) -> Result<Written, Error> {
    fs_err::create_dir_all(place.out)?;
    let finished = Finished::new(place.scratch)?;
    let budget = Budget::new(u64::from(config.memory_mb) << 20);
    let archives = taken.iter().filter_map(|item| item.file.as_ref()?.archive());
    let copies = Copies::new(&dataset.root, archives, &place.scratch.join("archives"))?;
    let mut written = Written::default();
    for split in Split::ALL {
        let items: Vec<&Item> = taken.iter().copied().filter(|item| item.split == split).collect();
        let facts = dataset.facts(config);
        let mut writer = images::Writer::new(finished.folder(), split.name(), items.len(), place.stage, facts);
        let mut before = 0;
        while let Some((name, rows)) = writer.next_file() {
            let items = &items[before..before + rows];
            before += rows;
            let found = match finished.find(&name) {
                Some(record) => {
                    writer.keep(record.rows);
                    written.taken_over += record.rows;
                    if watch(rows).is_break() {
                        return Err(Error::Interrupted);
                    }
                    record.found
                }
                None => {
                    finished.clear(&name)?;
                    let found = file(dataset, items, config, (&budget, &copies), &mut writer, watch)?;
                    let shard = writer.end_file()?;
                    finished.keep(&name, shard.rows, found.clone())?;
                    found
                }
            };
            written.found.add(found);
        }
        let shards = writer.finish()?;
        let images = shards.iter().map(|shard| shard.rows).sum();
        if images == 0 && !items.is_empty() {
            let last = written.found.first_corrupt.pop().unwrap_or_default();
            return Err(Error::AllCorrupt { split, last });
        }
        written.images[split as usize] = images;
        written.shards.extend(shards);
    }
    for shard in &written.shards {
        finished.publish(&shard.name, place.out)?;
    }
    Ok(written)
}

/// Writes the rows of one file.
fn file(
    dataset: &Dataset,
    items: &[&Item],
    config: &Config,
    within: (&Budget, &Copies),
    writer: &mut images::Writer,
    watch: Watch<'_>,
) -> Result<Found, Error> {
    let mut found = Found::default();
    for chunk in items.chunks(chunk(items, config)) {
        for outcome in prepare(&dataset.root, chunk, config, within, watch)? {
            one(outcome, config, writer, &mut found)?;
        }
    }
    Ok(found)
}

/// How many images are decoded between two writes. Images in an archive lie there in an order of their own, and it is read
/// from its beginning each time: as many as memory allows.
fn chunk(items: &[&Item], config: &Config) -> usize {
    let stored = config.size as usize * config.size as usize + 1024;
    let is_packed = items.iter().any(|item| item.file.as_ref().is_some_and(|file| file.packed.is_some()));
    match is_packed {
        true => (((config.memory_mb as usize) << 20) / 2 / stored).max(1),
        false => (CHUNK_BYTES / stored).clamp(1, CHUNK),
    }
}

/// Writes one row, or leaves it out.
fn one(outcome: Outcome, config: &Config, writer: &mut images::Writer, found: &mut Found) -> Result<(), Error> {
    match outcome {
        Ok(prepared) => {
            if let Some(bits) = prepared.bits {
                found.deep(&prepared.row.path, bits, prepared.levels, config.depth);
            }
            writer.write(prepared.row)?;
        }
        Err(Error::Picture(error)) if config.corrupt == OnProblem::Skip && error.is_corrupt() => {
            found.damaged(error.to_string());
            writer.leave_out()?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
