//! Findings, labels, patients, splits, boxes and metrics: pure, no I/O, no tensors.
//!
//! The vocabulary of chest X-ray classification on NIH ChestX-ray14 that every other crate speaks:
//! [`Finding`] and [`Labels`] (what an image shows), [`ImageRecord`] (whose image it is),
//! [`Split`] (what it may be used for) and [`BBox`] (where something lies in it).

mod bbox;
mod branch;
mod expert;
mod finding;
mod frame;
pub mod heatmap;
pub mod metrics;
mod names;
mod record;
pub mod split;
mod views;

pub use bbox::{BBox, InvalidBox};
pub use branch::Branch;
pub use expert::{Expert, ExpertLabels, any_of};
pub use finding::{Finding, Labels, OUTPUTS, output_names};
pub use frame::{CropSource, EvalCrop, EvalFrame, Placement};
pub use names::UnknownName;
pub use record::{DatasetKind, FindingBox, ImageKey, ImageRecord, Sex, Split, ViewPosition};
pub use split::SplitKind;
pub use views::{Tta, View};
