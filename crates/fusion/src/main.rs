//! Trains the fusion layer on the features of both branches, then scores every image.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use fusion::{Branch, Config, Error, SPEC};
use stage::{Fail, Input, Outcome, Plan, Run};

/// Train the fusion layer on the features of both branches
///
/// Reads features, predictions and weights of global and local; writes weights.safetensors, predictions.parquet and
/// epochs.parquet. It takes seconds; after Ctrl-C, the same command starts over.
#[derive(Parser)]
#[command(name = "fusion", version)]
struct Args {
    #[command(flatten)]
    common: stage::Common,
}

/// What fusion reads of a branch.
const FILES: [&str; 3] = [FEATURES, PREDICTIONS, WEIGHTS];
const FEATURES: &str = "features.parquet";
const PREDICTIONS: &str = "predictions.parquet";
const WEIGHTS: &str = "weights.safetensors";

fn main() -> ExitCode {
    let args = Args::parse();
    stage::main(|| run(&args))
}

fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut run = Run::open(&SPEC, &args.common)?;
    let config: Config = run.config()?;
    config.check().map_err(|message| Fail::usage(anyhow!(message)))?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    let global = run.input("global", &FILES)?;
    let local = run.input("local", &FILES)?;
    if let Plan::Stop(outcome) = run.plan()? {
        return Ok(outcome);
    }

    let work = run.begin()?;
    let metrics = fuse(&run, &config, &global, &local, work.out()).map_err(Fail::from)?;
    Ok(work.publish(metrics)?)
}

fn fuse(run: &Run, config: &Config, global: &Input, local: &Input, out: &Path) -> Result<serde_json::Value, Error> {
    let device = nets::device(run.device())?;
    let read = |branch: &Input| Branch::read(&branch.file(FEATURES), &branch.file(PREDICTIONS));
    let mut samples = fusion::join(read(global)?, read(local)?)?;
    if let Some(limit) = run.limit() {
        samples.limit(limit);
    }
    let weights = [global, local].map(|branch| branch.file(WEIGHTS));
    let start = fusion::start(config, &samples, weights.each_ref().map(PathBuf::as_path), run.seed(), &device)?;
    let (layer, fit) = fusion::train(&samples, config, &start, run.seed(), &mut run.scalars())?;
    let predictions = fusion::score(&layer, &samples)?;
    fusion::write(out, &layer, &fit, &predictions, SPEC.name, &run.key())
}
