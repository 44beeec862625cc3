//! What every stage binary promises: configuration layers, manifest, rerun rules, atomic publish,
//! logging, progress, exit codes.
//!
//! A stage's `main` parses its arguments and hands a closure to [`main`]. The closure opens a [`Run`],
//! reads its configuration ([`Run::config`]), names its inputs ([`Run::input`]), asks whether there is
//! anything to do ([`Run::plan`]), and if so computes into a private folder ([`Run::begin`]) that
//! [`Work::publish`] exchanges with the published one in a single rename.
//!
//! This crate knows neither images nor tensors; it is the only one that prints, exits, or names a path
//! under the artefacts folder.

mod args;
mod config;
mod exit;
mod log;
mod manifest;
mod run;
mod scalars;
mod work;

pub use args::{Common, STAGES, Spec};
pub use exit::{Fail, Outcome, exit_code, main};
pub use log::{Progress, interrupted, print, progress};
pub use manifest::Manifest;
pub use run::{Input, Plan, Run};
pub use scalars::Scalars;
pub use tracing::{debug, info, warn};
pub use work::Work;
