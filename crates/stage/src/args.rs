//! The flags that all stages share.

use std::path::PathBuf;

/// The stages in pipeline order; also the sections that a configuration file may have.
pub const STAGES: [&str; 7] = ["phantom", "prep", "global", "attend", "local", "fusion", "report"];

/// What a stage is.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// One of [`STAGES`]: crate, recipe, configuration section and folder.
    pub name: &'static str,
    /// Raised by hand when the stage would compute something else from the same inputs.
    pub version: u32,
    /// The complete, commented default configuration, with one top-level table named as the stage.
    pub defaults: &'static str,
}

/// Flags of every stage.
#[allow(rustdoc::invalid_html_tags)] // the placeholders of --help
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Name of the run: results go to <ARTIFACTS_DIR>/<RUN>/<stage>/
    #[arg(global = true, long, default_value = "default", value_name = "NAME")]
    pub run: String,
    /// Folder that holds all runs
    #[arg(global = true, long, default_value = "artifacts", value_name = "DIR")]
    pub artifacts_dir: PathBuf,
    /// Take stages that this run lacks from that run, by reference
    #[arg(global = true, long, value_name = "RUN")]
    pub base: Option<String>,
    /// Configuration file laid over the defaults; may be given several times, the last one wins
    #[arg(global = true, long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// One setting laid over the files, e.g. attend.threshold=0.6; may be given several times
    #[arg(global = true, long, value_name = "STAGE.KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(global = true, long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Seed of everything random
    #[arg(global = true, long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// At most so many images per split, for a quick look
    #[arg(global = true, long, value_name = "N")]
    pub limit: Option<usize>,
    /// Run although nothing changed
    #[arg(global = true, long)]
    pub force: bool,
    /// Say what would be done and why, and do nothing
    #[arg(global = true, long)]
    pub dry_run: bool,
    /// Print this stage's effective configuration as TOML, and do nothing
    #[arg(global = true, long)]
    pub print_config: bool,
    /// Write TensorBoard event files of the trainings to <DIR>/<RUN>/<stage>-<key>/
    #[arg(global = true, long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// Say more
    #[arg(global = true, short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say errors only
    #[arg(global = true, short, long)]
    pub quiet: bool,
}
