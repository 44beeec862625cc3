//! Trains the global branch on whole images, then scores every image.

use std::process::ExitCode;

use anyhow::anyhow;
use branch::{Config, Init};
use clap::Parser;
use global::SPEC;
use stage::{Fail, Outcome, Plan, Run};

/// Train the global branch on whole images
///
/// Reads prep/images; writes weights.safetensors, features.parquet, predictions.parquet and epochs.parquet. Ctrl-C stops
/// at once; the same command continues after the last finished epoch.
#[derive(Parser)]
#[command(name = "global", version)]
struct Args {
    #[command(flatten)]
    common: stage::Common,
}

fn main() -> ExitCode {
    let args = Args::parse();
    stage::main(|| run(&args))
}

fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut run = Run::open(&SPEC, &args.common)?;
    let config: Config = run.config()?;
    config.check(SPEC.name).map_err(|message| Fail::usage(anyhow!(message)))?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    let prep = run.input("prep", &["images/"])?;
    let init = Init::find(&mut run, SPEC.name, &config)?;
    if let Plan::Stop(outcome) = run.plan()? {
        return Ok(outcome);
    }

    let work = run.begin()?;
    let images = branch::images(&prep.files("images/"), run.limit()).map_err(Fail::from)?;
    let (network, fit) = branch::train(&images, &config, &init, &run, work.scratch()).map_err(Fail::from)?;
    let scores = branch::score(&network, &images, &config).map_err(Fail::from)?;
    let metrics = branch::write(work.out(), &network, &fit, &scores, SPEC.name, &run.key()).map_err(Fail::from)?;
    Ok(work.publish(metrics)?)
}
