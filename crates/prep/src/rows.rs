//! From images to rows of a file.

use tables::images;

use crate::archive::Copies;
use crate::budget::Budget;
use crate::config::{Config, OnProblem};
use crate::dataset::{Dataset, Item};
use crate::error::Error;
use crate::prepare::{Outcome, Watch, prepare};
use crate::shards::Found;

/// Images decoded between two writes: enough for any number of cores.
const CHUNK: usize = 256;
/// Bytes of stored images between two writes.
const CHUNK_BYTES: usize = 64 << 20;

/// How images are prepared, and within what.
#[derive(Clone, Copy)]
pub(crate) struct By<'a> {
    pub(crate) config: &'a Config,
    pub(crate) budget: &'a Budget,
    pub(crate) copies: &'a Copies,
}

/// Prepares images, and appends their rows to a file.
pub(crate) fn append(
    dataset: &Dataset,
    items: &[&Item],
    by: By<'_>,
    writer: &mut images::Writer,
    watch: Watch<'_>,
) -> Result<Found, Error> {
    let mut found = Found::default();
    for chunk in items.chunks(chunk(items, by.config)) {
        let outcomes = prepare(&dataset.root, chunk, by.config, (by.budget, by.copies), watch)?;
        found.add(write(outcomes, by.config, writer)?);
    }
    Ok(found)
}

/// How many images are decoded between two writes. Images in an archive lie there in an order of their own, and it is read
/// from its beginning each time: as many as memory allows.
pub(crate) fn chunk(items: &[&Item], config: &Config) -> usize {
    let stored = config.size as usize * config.size as usize + 1024;
    match is_packed(items) {
        true => (((config.memory_mb as usize) << 20) / 2 / stored).max(1),
        false => (CHUNK_BYTES / stored).clamp(1, CHUNK),
    }
}

/// Whether some of the images lie in archives.
pub(crate) fn is_packed(items: &[&Item]) -> bool {
    items.iter().any(|item| item.file.as_ref().is_some_and(|file| file.packed.is_some()))
}

/// Writes rows, and leaves out what cannot be one.
pub(crate) fn write(outcomes: Vec<Outcome>, config: &Config, writer: &mut images::Writer) -> Result<Found, Error> {
    let mut found = Found::default();
    for outcome in outcomes {
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
    }
    Ok(found)
}
