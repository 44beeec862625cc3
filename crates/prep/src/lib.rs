//! Reads the NIH files and writes one Parquet row per image.
//!
//! [`Dataset::read`] joins label table, boxes, split and files without opening a picture; [`write()`] decodes each
//! picture once, makes it square and grey, and writes the shards. Nothing here knows where artefacts live.

pub mod config;
pub mod dataset;
mod error;
pub mod nih;
mod shards;

pub use config::Config;
pub use dataset::{Dataset, Item};
pub use error::Error;
pub use shards::{Written, write};

/// What the `stage` crate must know of this stage.
pub const SPEC: stage::Spec = stage::Spec { name: "prep", version: 1, defaults: include_str!("../default.toml") };
