//! Reads NIH's files, or any folder with a table of labels, and writes one Parquet row per image.
//!
//! [`Dataset::read`] joins label table, boxes, split and files without opening an image; [`write()`] decodes each image
//! once, makes it square and grey, and writes the shards. Nothing here knows where artefacts live.

pub mod config;
pub mod dataset;
mod division;
mod error;
pub mod folder;
pub mod nih;
mod scan;
mod summary;
mod texts;
mod write;

pub use config::{Config, SPEC};
pub use dataset::{Dataset, Item};
pub use error::Error;
pub use scan::File;
pub use summary::{Counts, Summary};
pub use write::{Written, write};
