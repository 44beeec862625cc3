//! The on-disk contract: one module per Parquet table, each with its row type, schema, writer and reader.
//!
//! | table | one row per | file |
//! |---|---|---|
//! | [`images`] | image | `prep/images/{train,validation,test}-NNNNN-of-NNNNN.parquet` |
//! | [`class_maps`] | image with boxes | `attend/class_maps.parquet` |
//! | [`experts`] | image that radiologists read again | `prep/experts.parquet` |
//! | [`features`] | image | `{global,local}/features.parquet` |
//! | [`predictions`] | image | `{global,local,fusion}/predictions.parquet` |
//! | [`epochs`] | epoch | `{global,local,fusion}/epochs.parquet` |
//! | [`regions`] | image | `attend/regions-NNNNN-of-NNNNN.parquet` |
//! | [`answers`] | image | `predict --format parquet --out FILE` |
//! | [`metrics`] | branch, finding, metric, subset, split | `report/metrics.parquet` |
//!
//! Every file is Parquet (zstd), carries `agcnn.table`, `agcnn.schema_version` and `agcnn.stage` in its metadata, and a
//! description (and unit) on every column; its bytes depend on its content only. Tables of images are sorted by
//! `image_id`, without duplicates; they are joined by it, never by position. Images are PNG bytes in a
//! `struct<bytes, path>` with the feature metadata of Hugging Face, so that `datasets.load_dataset("parquet", ...)` shows
//! them. What holds for a whole table of `images` or `regions` is its `Facts`: JSON in the metadata `agcnn.facts`.
//!
//! Writers write to the path they are given and sync it at the end; the caller publishes. Readers trust nothing:
//! table, version, facts, column types, nulls, order, labels, shapes and ranges are checked, the latter by the same code
//! in writers, and an [`Error`] names the file, the column, and what was expected.
//!
//! ```
//! use tables::epochs;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("epochs.parquet");
//! let row = epochs::Row { epoch: 1, lr: 0.01, train_loss: 0.2, best: true, ..Default::default() };
//! epochs::write(&path, &[row], "global")?;
//! assert_eq!(epochs::read(&path)?[0].lr, 0.01);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod answers;
pub mod class_maps;
pub mod dictionary;
pub mod epochs;
pub mod experts;
pub mod features;
pub mod images;
pub mod metrics;
pub mod pictures;
pub mod predictions;
pub mod regions;

mod columns;
mod error;
mod pages;
mod schema;
mod shards;
mod sink;
mod source;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use shards::{Shard, Shards};
