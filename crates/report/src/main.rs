//! `report` - measures the three branches on patients they have not seen, and writes what it finds.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use cxr::Branch;
use report::{SPEC, commands};
use stage::{Common, EXIT_CODES};

#[derive(Debug, Parser)]
#[command(
    version,
    about = SPEC.about.lines().next().unwrap_or_default(),
    long_about = SPEC.about,
    subcommand_precedence_over_arg = true,
    after_help = EXIT_CODES
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print one image's labels and the probabilities of the three branches, and write its overlay
    ///
    /// The overlay has three panels: the radiograph with the attended region (orange) and drawn boxes (turquoise), the heat
    /// map over it, and the crop that the local branch sees.
    Show {
        /// NIH's Image Index, e.g. 00000001_000.png
        image_id: String,
        /// Where the overlay goes [default: <IMAGE_ID without .png>-overlay.png, here]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the paired difference in AUROC of two runs, on the images that both report on
    ///
    /// Intervals are from draws of patients, p from DeLong's test. Only images that are in the reported split of both
    /// runs count.
    Compare {
        /// First run
        run_a: String,
        /// Second run
        run_b: String,
        /// global, local or fusion
        #[arg(long, default_value = "fusion", value_parser = branches())]
        branch: Branch,
    },
    /// Mean over runs that differ in their seed: spread, intervals over patients and seeds, the ensemble
    ///
    /// Goes to <ARTIFACTS_DIR>/<RUN>/seeds/; `just seeds` trains the runs first.
    Seeds {
        /// The runs, each with its own --seed
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
    },
    /// Compare the arms of the study that the section [study] of the configuration describes
    ///
    /// Goes to <ARTIFACTS_DIR>/<RUN>/study/; `just study` trains the runs first, which are named
    /// <RUN>-<ARM>-seed-<SEED>.
    Study {
        /// Print the flags of every training, one line each, separated by tabs, and measure nothing
        #[arg(long)]
        plan: bool,
    },
    /// Draw mean AUROC against attend.threshold over the reports of several runs
    ///
    /// Goes to <ARTIFACTS_DIR>/<RUN>/sweep/; the report of that run shows it from then on.
    Sweep {
        /// The runs, each with its own attend.threshold
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
    },
}

/// Reads a branch from its name.
fn branches() -> impl TypedValueParser<Value = Branch> {
    PossibleValuesParser::new(Branch::ALL.map(Branch::name)).try_map(|name| name.parse())
}

fn main() -> ExitCode {
    let Args { command, common } = Args::parse();
    stage::exit(|| match command {
        None => commands::report(&common),
        Some(Command::Show { image_id, output }) => commands::show(&common, &image_id, output.as_deref()),
        Some(Command::Compare { run_a, run_b, branch }) => commands::compare(&common, [&run_a, &run_b], branch),
        Some(Command::Seeds { runs }) => commands::seeds(&common, &runs),
        Some(Command::Study { plan }) => commands::study(&common, plan),
        Some(Command::Sweep { runs }) => commands::sweep(&common, &runs),
    })
}
