//! Metrics with intervals, figures and one HTML page.
//!
//! Reads the predictions of `global`, `local` and `fusion`, the regions of `attend` and the images of `prep`, and writes
//!
//! - `metrics.parquet`: every number below with its interval and positives;
//! - `index.html`: the report, one file without external parts;
//! - `figures/*.svg`, `figures/*.png`; `overlays/*.png`.
//!
//! `report seeds` and `report study` measure several trainings beside each other ([`group`]), and publish a table, a page and
//! figures of their own.
//! `report sweep` reads the `metrics.parquet` of several runs, and draws mean AUROC against `attend.threshold`.
//! `report import` scores the predictions of other models, and publishes them as runs of their own.
//! `report experts` holds NIH's labels and models against what radiologists said of the same images.
//! `report leaderboard` puts all models on one page, apart where they were evaluated on other images.
//! `report show` and `report compare` print to the terminal and publish nothing.

pub mod beside;
pub mod cases;
pub mod cohort;
pub mod commands;
pub mod compare;
pub mod config;
pub mod drawing;
mod error;
pub mod experts;
pub mod facts;
pub mod figures;
pub mod gallery;
pub mod group;
pub mod import;
pub mod leaderboard;
pub mod localisation;
pub mod measure;
pub mod overlay;
pub mod page;
pub mod plan;
pub mod provenance;
pub mod published;
pub mod results;
pub mod show;
pub mod study;
pub mod sweep;

pub use config::{Config, SPEC};
pub use error::Error;
