//! `report` - measures the three branches on patients they have not seen, and writes what it finds.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
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
    /// Score a file of predictions of any other model as if it were a branch
    ///
    /// Reads a table of scores (CSV, .gz too) and NIH's label table and lists from --root, as prep finds them; needs no
    /// images and no run. Joins them by image, says what it recognised and assumed, and prints the AUROC of every finding
    /// and their mean, each with the interval of draws of patients:
    ///
    ///     Mean                0.8383 [0.8324-0.8443]
    ///
    /// The file has a column of images (Image Index, image, filename, path, ...; folders and endings do not matter) and one
    /// for each finding, or for some of them, with or without something beside the name (prob_Mass, Mass, Mass_logit);
    /// probabilities or logits, with or without No Finding. An image stands there once.
    ///
    /// The predictions become the run <NAME> of the store, which `report compare RUN NAME` and `report leaderboard` read,
    /// and `--set 'report.peers=["NAME"]'` of a report. With --run, the run's branches are printed beside them.
    Import {
        /// What the model is called from now on: the name of a new run
        name: String,
        /// The predictions
        file: PathBuf,
        /// Folder with NIH's label table and lists
        #[arg(long, value_name = "FOLDER")]
        root: PathBuf,
        /// Label table in that folder, if not the first of Data_Entry_2017_v2020.csv, Data_Entry_2017.csv, ...
        #[arg(long, value_name = "FILE")]
        labels: Option<String>,
        /// What stands beside the findings in the names of the columns, where there are several sets: prob for prob_Mass
        #[arg(long, value_name = "TEXT")]
        columns: Option<String>,
        /// Score only images of NIH's official test list
        #[arg(long)]
        official: bool,
    },
    /// Hold NIH's labels, and models, against what radiologists said of the same images
    ///
    /// Reads Google's labels of NIH images (Majkowska et al., Radiology 2020: four_findings_expert_labels_*.csv,
    /// all_findings_expert_labels_*.csv, or torchxrayvision's google2019_nih-chest-xray-labels.csv.gz) and NIH's label table
    /// and lists from --root; needs no images. Prints NIH's sensitivity, precision and kappa, and the AUROC of every model
    /// against the experts beside the same model's against NIH's labels on the same images.
    /// Which of NIH's findings make one of the experts' is in report.experts.
    Experts {
        /// The experts' labels
        file: PathBuf,
        /// Runs and imported models to hold against them
        #[arg(value_name = "MODEL")]
        models: Vec<String>,
        /// Folder with NIH's label table and lists
        #[arg(long, value_name = "FOLDER")]
        root: PathBuf,
        /// All images of the file, not only those of the official test list
        #[arg(long)]
        all: bool,
    },
    /// Put imported models and the branches of runs on one page
    ///
    /// Goes to <ARTIFACTS_DIR>/<RUN>/leaderboard/: index.html and leaderboard.csv. Models are ranked only within a table of
    /// those with the same images, labels and findings; differences there are paired.
    Leaderboard {
        /// Runs and imported models; all that the artefacts folder has, if none is named
        #[arg(value_name = "MODEL")]
        models: Vec<String>,
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
    let matches = Args::command().get_matches();
    let Args { command, common } = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // The default run is no run that somebody asked for.
    let beside = (matches.value_source("run") == Some(ValueSource::CommandLine)).then(|| common.run.clone());
    stage::exit(|| match command {
        None => commands::report(&common),
        Some(Command::Show { image_id, output }) => commands::show(&common, &image_id, output.as_deref()),
        Some(Command::Compare { run_a, run_b, branch }) => commands::compare(&common, [&run_a, &run_b], branch),
        Some(Command::Seeds { runs }) => commands::seeds(&common, &runs),
        Some(Command::Study { plan }) => commands::study(&common, plan),
        Some(Command::Import { name, file, root, labels, columns, official }) => {
            let asked = commands::Import { name, file, root, labels, columns, official, beside };
            commands::import(&common, &asked)
        }
        Some(Command::Experts { file, models, root, all }) => {
            commands::against(&common, &commands::Against { file, root, models, all })
        }
        Some(Command::Leaderboard { models }) => commands::leaderboard(&common, &models),
        Some(Command::Sweep { runs }) => commands::sweep(&common, &runs),
    })
}
