//! Reads NIH's files, or any folder with a table of labels, and writes one Parquet row per image.
//!
//! [`Dataset::read`] joins label table, boxes, split and files without opening an image; [`write()`] decodes each image
//! once, makes it square and grey, and writes the shards. Nothing here knows where artefacts live.

mod archive;
mod budget;
mod by_name;
pub mod config;
pub mod dataset;
mod division;
mod error;
mod fingerprint;
pub mod folder;
mod pieces;
mod prepare;
mod rows;
mod same;
mod scan;
mod shards;
mod summary;
mod threads;
mod write;

pub use config::{Config, SPEC};
pub use dataset::{Dataset, Item, Remember};
pub use error::Error;
pub use pieces::Pieces;
pub use scan::{File, Packed};
pub use shards::Found;
pub use summary::{Counts, Summary};
pub use write::{Place, Written, write};
