//! `predict` asks a trained run about images that no table has, and makes a model of it that travels.
//!
//! [`assemble`] makes a [`model::Model`] of a run's weights and validation images; [`mod@ask`] asks it about [`sources`] and
//! [`output`] writes the answers; [`export`] makes a folder of it that needs nothing else, with a model [`card`] and
//! reference images, which [`mod@selftest`] recomputes; [`mod@serve`] asks it for a browser or a program on this machine.
//! [`commands`] are the program's.

pub mod ask;
pub mod assemble;
pub mod card;
pub mod commands;
mod config;
mod error;
pub mod evaluate;
pub mod export;
pub mod output;
pub mod overlays;
pub mod selftest;
pub mod serve;
pub mod sources;

pub use config::{Config, SPEC};
pub use error::Error;
pub use output::Format;
