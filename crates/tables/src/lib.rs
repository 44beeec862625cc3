//! The on-disk contract: one module per Parquet table, each with its row type, schema, writer and reader.
//!
//! | table | one row per | file |
//! |---|---|---|
//! | [`images`] | image | `prep/images/{train,validation,test}-NNNNN-of-NNNNN.parquet` |
//! | [`features`] | image | `{global,local}/features.parquet` |
//! | [`predictions`] | image | `{global,local,fusion}/predictions.parquet` |
//! | [`epochs`] | epoch | `{global,local,fusion}/epochs.parquet` |
//! | [`regions`] | image | `attend/regions-NNNNN-of-NNNNN.parquet` |
//! | [`metrics`] | branch, finding, metric, subset, split | `report/metrics.parquet` |
//!
//! Every file is Parquet (zstd), carries `agcnn.table`, `agcnn.schema_version`, `agcnn.stage` and `agcnn.key` in its
//! metadata, and a description (and unit) on every column. Tables of images are sorted by `image_id`, without
//! duplicates; they are joined by it, never by position. Pictures are PNG bytes in a `struct<bytes, path>` with the
//! feature metadata of Hugging Face, so that `datasets.load_dataset("parquet", ...)` shows them.
//!
//! Writers write to the path they are given and sync it at the end; the caller publishes. Readers trust nothing:
//! table, version, column types, nulls, order, labels and shapes are checked, and an [`Error`] names the file, the
//! column, and what was expected.
//!
//! ```
//! use tables::{Stamp, epochs};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("epochs.parquet");
//! let stamp = Stamp { stage: "global".into(), key: "0123abcd".into() };
//! let row = epochs::Row { epoch: 1, lr: 0.01, train_loss: 0.2, seconds: 3.0, images_per_s: 40.0, best: true, ..Default::default() };
//! epochs::write(&path, &[row], &stamp)?;
//! assert_eq!(epochs::read(&path)?[0].lr, 0.01);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod dictionary;
pub mod epochs;
pub mod features;
pub mod images;
pub mod metrics;
pub mod predictions;
pub mod regions;

mod columns;
mod error;
mod schema;
mod sink;
mod source;

#[cfg(test)]
mod tests;

pub use error::Error;

/// Who made a file; stored in its metadata, so that a copied file still says where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The stage, e.g. `global`.
    pub stage: String,
    /// The stage's key: a hash of its configuration and inputs.
    pub key: String,
}
