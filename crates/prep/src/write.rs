//! From images on disk to Parquet files.

use std::path::Path;

use cxr::Split;
use tables::{Shard, images};

use crate::archive::Copies;
use crate::budget::Budget;
use crate::config::Config;
use crate::dataset::{Dataset, Item};
use crate::error::Error;
use crate::pieces::Pieces;
use crate::prepare::Watch;
use crate::rows::{By, append};
use crate::shards::{Finished, Found};

/// Where files are written.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stage's name, which the files carry.
    pub stage: &'a str,
    /// Finished files stay here until they are published: an interrupted stage goes on behind them.
    pub scratch: &'a Path,
    /// The folder where all files lie in the end.
    pub out: &'a Path,
    /// What shards have prepared.
    pub pieces: Option<&'a Pieces<'a>>,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Images in train, validation and test.
    pub images: [u64; 3],
    /// The files, in the order of writing.
    pub shards: Vec<Shard>,
    /// How many of the images were taken over from shards, or from an earlier, interrupted attempt.
    pub taken_over: u64,
    /// Damaged images, and others that the log should mention.
    pub found: Found,
}

/// Decodes the `taken` images (sorted by `image_id`) of a dataset and writes `{split}-NNNNN-of-NNNNN.parquet`. Files that an
/// earlier attempt finished, and pieces that shards did, are taken over where their contents are as they were; equal settings and images are the
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
                    let by = By { config, budget: &budget, copies: &copies };
                    let (found, taken_over) = file(dataset, items, by, place.pieces, (&name, &mut writer), watch)?;
                    written.taken_over += taken_over;
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

/// Writes the rows of one file. Those that shards have prepared are copied; says how many.
fn file(
    dataset: &Dataset,
    items: &[&Item],
    by: By<'_>,
    pieces: Option<&Pieces<'_>>,
    (name, writer): (&str, &mut images::Writer),
    watch: Watch<'_>,
) -> Result<(Found, u64), Error> {
    let (mut found, mut from, mut taken_over) = (Found::default(), 0, 0);
    for (pieces, piece) in pieces.into_iter().flat_map(|pieces| pieces.of(name).map(move |piece| (pieces, piece))) {
        let Some(record) = pieces.find(piece) else { continue };
        found.add(append(dataset, &items[from..piece.rows.start], by, writer, watch)?);
        pieces.copy(piece, &record, writer)?;
        taken_over += record.rows;
        found.add(record.found);
        if watch(piece.rows.len()).is_break() {
            return Err(Error::Interrupted);
        }
        from = piece.rows.end;
    }
    found.add(append(dataset, &items[from..], by, writer, watch)?);
    Ok((found, taken_over))
}
