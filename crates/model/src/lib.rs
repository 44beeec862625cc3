//! AG-CNN after training: one image in, what the three branches see in it out, and whether it should have been asked.
//!
//! [`AgCnn`] runs the three branches over an image of any size, as `prep`, `global`, `attend`, `local` and `fusion` do, bit
//! for bit on a CPU; the latter use the same functions for what is done to one image ([`heat_map`], [`region`],
//! [`crop_of`], [`fusion`]). A [`Model`] is a folder that needs nothing else: weights, preprocessing, [`Decision`]
//! (temperature and thresholds), [`Conformal`] abstention, and the [`Gate`] with its [`Novelty`] reference.
//! [`Model::answer`] is what a user wants.
//!
//! Nothing here knows tables, stages or the network.

mod agcnn;
mod answer;
mod crop;
mod decision;
mod error;
pub mod folder;
pub mod fusion;
mod gate;
pub mod heat_map;
mod layout;
mod novelty;
pub mod region;
mod validation;

pub use agcnn::{AgCnn, Attention, Preparation, Sight};
pub use answer::{Answer, Question, Seen, probability};
pub use crop::{crop_of, in_image};
pub use decision::{Conformal, Decision, Verdict};
pub use error::Error;
pub use folder::Model;
pub use gate::{Gate, Refusal};
pub use novelty::{Described, MOST, Novelty};
pub use validation::Validation;
