//! What a stage is, and the flags that all stages share.

use std::path::PathBuf;

use clap::{Args, FromArgMatches};

use crate::Sharing;

/// The stages in pipeline order; also the sections that a configuration file may have.
pub const STAGES: [&str; 9] =
    ["phantom", "prep", "global", "attend", "local", "fusion", "evaluate", "report", "predict"];

/// Those whose work can be divided between processes.
const SHARDED: [&str; 5] = ["prep", "global", "attend", "local", "evaluate"];

/// What a stage is.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// One of [`STAGES`]: crate, recipe, configuration section and folder.
    pub name: &'static str,
    /// Raised by hand when the stage would compute something else from the same inputs.
    pub version: u32,
    /// Whether the result depends on `--seed`.
    pub seeded: bool,
    /// The complete, commented default configuration, with one top-level table named as the stage.
    pub defaults: &'static str,
    /// `--help`: one line, an empty line, and what it reads and writes.
    pub about: &'static str,
}

impl Spec {
    /// Parses the command line of a stage without arguments of its own; `--help` and mistakes end the process.
    pub(crate) fn parse(&self) -> Common {
        let short = self.about.lines().next().unwrap_or_default();
        let mut command = Common::augment_args(clap::Command::new(self.name));
        if SHARDED.contains(&self.name) {
            command = Sharing::augment_args(command);
        }
        // Behind the flags, which would say what they are themselves.
        let matches = command
            .version(env!("CARGO_PKG_VERSION"))
            .about(short)
            .long_about(self.about)
            .after_help(EXIT_CODES)
            .get_matches();
        let mut common = Common::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if SHARDED.contains(&self.name) {
            common.sharing = Sharing::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        }
        common
    }
}

/// The last line of every `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done or current, 1 failed, 2 usage or configuration, 3 input missing or stale, 4 bad data, 130 interrupted.";

/// Flags of every stage.
#[allow(rustdoc::invalid_html_tags)] // the placeholders of --help
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Name of the run: its results are <ARTIFACTS_DIR>/<RUN>/<stage>/
    #[arg(global = true, long, default_value = "default", value_name = "NAME")]
    pub run: String,
    /// Folder that holds the store and all runs, or a place for them in a bucket: s3://, gs:// or az://
    #[arg(global = true, long, default_value = "artifacts", value_name = "DIR")]
    pub artifacts_dir: PathBuf,
    /// Folder of this machine where results in a bucket are made and fetched to
    #[arg(global = true, long, default_value = "artifacts-cache", value_name = "DIR")]
    pub cache_dir: PathBuf,
    /// Configuration file laid over the defaults; may be given several times, the last one wins
    #[arg(global = true, long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// One setting laid over the files, e.g. attend.threshold=0.6; may be given several times
    #[arg(global = true, long, value_name = "STAGE.KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(global = true, long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Seed of trainings and of bootstrap draws; splits and the synthetic dataset have their own
    #[arg(global = true, long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// At most so many images per split, for a quick look
    #[arg(global = true, long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<usize>,
    /// Compute again although the store has the result
    #[arg(global = true, long)]
    pub force: bool,
    /// Check the contents of all files, not only sizes and dates
    #[arg(global = true, long)]
    pub verify: bool,
    /// Say what would be done and why, and do nothing
    #[arg(global = true, long)]
    pub dry_run: bool,
    /// Check the configuration and the files that it names, as a whole pipeline does before it starts, and do nothing
    #[arg(global = true, long)]
    pub check: bool,
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
    /// Which share of the work, in stages that can be divided.
    #[arg(skip)]
    pub sharing: Sharing,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(format!("{error}, expected a number of at least 1")),
    }
}
