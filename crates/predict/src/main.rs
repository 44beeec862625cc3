//! `predict` - asks a trained run, or a model that was made of one, about images that no table has.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use nets::Precision;
use predict::commands::{self, Asked, Exported, Served};
use predict::serve::Limits;
use predict::{Format, SPEC};
use stage::{Common, EXIT_CODES, Sharing};

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
    /// Images, folders of images, Parquet tables with images; - for a list of paths on stdin
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Ask this exported model instead of a run
    #[arg(global = true, long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// How answers are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write the answers into a file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a picture of every image into a folder: radiograph with the attended box, heat map, crop
    #[arg(long, value_name = "FOLDER")]
    overlay: Option<PathBuf>,
    /// Ask about refused images too; the answers still say why they were refused
    #[arg(long)]
    no_gate: bool,
    /// Say of each finding whether it is present or absent at this error rate, and abstain otherwise, e.g. 0.1
    #[arg(long, value_name = "RATE", value_parser = rate)]
    abstain: Option<f64>,
    /// What the networks multiply: f32, tf32, bf16, or auto, bf16 where the device multiplies it fast; bf16 has three digits
    #[arg(long, default_value_t = Precision::F32, value_name = "NUMBERS", value_parser = precision)]
    precision: Precision,
    /// Memory for files and decoded images, MiB, beside that of the networks; an image that needs more is refused
    #[arg(long, default_value_t = 2048, value_name = "MIB", value_parser = clap::value_parser!(u64).range(64..=1 << 20))]
    memory_mb: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a run's model as one folder that needs nothing else, in Hugging Face's layout
    ///
    /// The folder has the weights, config.json, the preprocessing, thresholds and temperature, the novelty reference, a
    /// model card written from the run's report, and reference images with the answers that they should have.
    Export {
        /// The folder; it must not exist yet
        folder: PathBuf,
        /// Write ONNX files too, for ONNX Runtime and others
        #[arg(long)]
        onnx: bool,
        /// How many of the run's test images go into the folder as references [default: 4 of NIH's or the phantom's, 0 of
        /// any other dataset, whose images may have to stay in the house]
        #[arg(long, value_name = "N")]
        references: Option<usize>,
        /// SPDX identifier of the weights' licence, for the model card
        #[arg(long, default_value = "mit", value_name = "SPDX")]
        license: String,
    },
    /// Evaluate a model on another prepared dataset: --model FOLDER --run ELSEWHERE
    ///
    /// Reads the images that `prep` prepared in that run, and trains nothing. `report` then makes the whole report, with
    /// thresholds and temperature from the model's own validation images.
    Evaluate {
        #[command(flatten)]
        sharing: Sharing,
    },
    /// Recompute the reference answers of an exported model, and say whether they are equal or how far apart
    Selftest,
    /// Serve a page and a JSON API on this machine, until Ctrl-C
    ///
    /// The page takes an image and shows what the model says of it. Programs send images to /v1/predict; /openapi.json
    /// describes the API. Nothing is written to disk.
    Serve {
        /// Port; 0 takes any free one
        #[arg(long, default_value_t = 8765)]
        port: u16,
        /// Address; one that other machines reach needs --allow-remote
        #[arg(long, default_value_t = IpAddr::from([127, 0, 0, 1]), value_name = "ADDRESS")]
        host: IpAddr,
        /// Let other machines ask: there is no password and no encryption
        #[arg(long)]
        allow_remote: bool,
        /// What the networks multiply: f32, tf32, bf16, or auto, bf16 where the device multiplies it fast
        #[arg(long, default_value_t = Precision::F32, value_name = "NUMBERS", value_parser = precision)]
        precision: Precision,
        /// The largest image, MiB
        #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u16).range(1..=256))]
        max_mb: u16,
        /// The most pixels of an image, in millions; the largest detectors have 19
        #[arg(long, default_value_t = 40, value_name = "MEGAPIXELS", value_parser = clap::value_parser!(u16).range(1..=67))]
        max_megapixels: u16,
        /// The longest that a request may take to arrive, s
        #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u16).range(1..=3600))]
        seconds: u16,
        /// Images that are looked at at a time; others wait
        #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
        parallel: u16,
    },
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate < 1.0 => Ok(rate),
        _ => Err("expected a number above 0, below 1".to_owned()),
    }
}

fn precision(text: &str) -> Result<Precision, String> {
    text.parse().map_err(|_| "expected f32, tf32, bf16 or auto".to_owned())
}

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: nets::OnLines = nets::OnLines;

fn main() -> ExitCode {
    nets::keep_freed_memory();
    let Args { command, files, model, format, out, overlay, no_gate, abstain, precision, memory_mb, common } =
        Args::parse();
    stage::exit(|| match command {
        None => {
            let (memory, error_rate) = (memory_mb << 20, abstain);
            commands::ask(
                &common,
                &Asked { files, model, format, out, overlay, no_gate, precision, memory, error_rate },
            )
        }
        Some(Command::Export { folder, onnx, references, license }) => {
            commands::export(&common, model.as_deref(), &Exported { folder, onnx, references, license })
        }
        Some(Command::Evaluate { sharing }) => {
            predict::evaluate::evaluate(&Common { sharing, ..common }, model.as_deref())
        }
        Some(Command::Selftest) => commands::selftest(&common, model.as_deref()),
        Some(Command::Serve { port, host, allow_remote, precision, max_mb, max_megapixels, seconds, parallel }) => {
            let limits = Limits {
                body_bytes: usize::from(max_mb) << 20,
                pixels: u64::from(max_megapixels) * 1_000_000,
                patience: Duration::from_secs(u64::from(seconds)),
                parallel: usize::from(parallel),
            };
            commands::serve(
                &common,
                &Served { model, address: SocketAddr::new(host, port), allow_remote, precision, limits },
            )
        }
    })
}
