//! What every stage binary promises: typed settings, a key that means the result, an immutable store, resumable work,
//! logging, progress, exit codes.
//!
//! A stage's `main` hands a closure to [`main()`]. The closure names the inputs ([`Run::input`]), asks whether there is
//! anything to do ([`Run::begin`]), and if so computes into a private folder that [`Work::publish`] renames into the
//! store before it points the run to it. Work whose result is of use to other results too, a training, is a
//! [`Run::step`] of its own.
//!
//! This crate knows neither images nor tensors; it is the only one that prints, exits, or names a path under the
//! artefacts folder. Its program `store` lists and cleans up.

mod args;
mod bucket;
mod config;
mod fail;
mod input;
pub mod inventory;
mod log;
mod manifest;
mod memory;
mod program;
mod replace;
mod run;
mod scalars;
mod settings;
mod shard;
mod signals;
mod store;
mod together;
mod verified;
mod work;

pub use args::{Common, EXIT_CODES, STAGES, Spec};
pub use fail::{Fail, Outcome, Problem, exit_code};
pub use input::Input;
pub use log::{Progress, print, progress};
pub use manifest::{Computed, Manifest, build, rfc3339, threads};
pub use memory::{ask_memory, memory};
pub use program::{exit, main, main_together, start_log};
pub use replace::replace;
pub use run::{Begin, Run, Step};
pub use scalars::Scalars;
pub use settings::{Section, Settings, Unchecked, above_zero, digest};
pub use shard::{Incomplete, Shard, Shards, Sharing};
pub use signals::{Hold, hold, interrupted};
pub use tracing::{debug, info, warn};
pub use work::Work;
