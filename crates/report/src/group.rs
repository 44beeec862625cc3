//! Several trainings beside each other: one recipe with several seeds, or a study of several arms with the same seeds.
//!
//! All are measured on the same images and on the same draws of patients, so every difference is paired; means over
//! seeds have intervals over patients and seeds, see [`cxr::metrics::seeds`].

mod arms;
mod measure;
mod text;

pub use arms::{Arm, Group};
pub use measure::measure;
pub use text::{sentences, text};
pub(crate) use text::{spread, wins};
