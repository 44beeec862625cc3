//! A synthetic chest X-ray dataset in NIH ChestX-ray14's own on-disk shape.
//!
//! It is the embedded default of the pipeline and the ground truth of its tests: [`cohort::draw`] invents patients
//! with their follow-ups and findings, [`radiograph::render`] draws each radiograph with a box around every sign, and
//! [`dataset::write`] lays everything out as NIH does. The images are caricatures; nothing learnt from them is medicine.
//!
//! The same seed gives the same bytes, whatever the number of threads: every image has its own random stream.

mod anatomy;
pub mod cohort;
pub mod config;
pub mod dataset;
mod findings;
pub mod radiograph;
mod raster;

pub use config::{Config, SPEC};
