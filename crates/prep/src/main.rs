//! Reads the NIH files and writes one Parquet row per image.

use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use prep::{Config, Dataset, SPEC, Written};
use serde_json::json;
use stage::{Fail, Outcome, Plan, Run, info, warn};

/// Read the NIH files and write one Parquet row per image, with its split
///
/// Reads the label table, the box list, the split lists and the PNG files of the folder `prep.root`; writes
/// images/{train,validation,test}-NNNNN-of-NNNNN.parquet. With --dry-run, prints what the folder holds and opens no
/// picture: it also works before the pictures have arrived.
#[derive(Parser)]
#[command(name = "prep", version)]
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
    config.check().map_err(|message| Fail::usage(anyhow!(message)))?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }

    let phantom = config.root == Config::PHANTOM;
    let root = if phantom { run.input("phantom", &[""])?.folder().to_owned() } else { config.root.clone().into() };
    let dataset = Dataset::read(&root, &config).map_err(Fail::from)?;
    let taken = dataset.take(config.missing, run.limit());
    if run.dry_run() {
        stage::print(&dataset.summary.to_string())?;
    }
    let taken = match taken {
        Ok(taken) => taken,
        Err(error) if run.dry_run() => {
            warn!("{error}");
            Vec::new()
        }
        Err(error) => return Err(Fail::from(error).into()),
    };
    // The phantom's pictures are known by the hashes in its manifest, others by path, size and time.
    run.outside("raw data", dataset.quick_fingerprint(if phantom { &[] } else { &taken }));
    if let Plan::Stop(outcome) = run.plan()? {
        return Ok(outcome);
    }
    dataset.summary.sentences().iter().for_each(|line| info!("{line}"));
    dataset.summary.warning().iter().for_each(|line| warn!("{line}"));

    let mut work = run.begin()?;
    let mut progress = stage::progress(taken.len() as u64, "images");
    let written = prep::write(&dataset, &taken, &config, SPEC.name, &work.out().join("images"), &mut |done| {
        progress.inc(done as u64);
        if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(Fail::from)?;
    progress.finish();
    for shard in &written.shards {
        work.rows(&format!("images/{}", shard.name), shard.rows);
    }
    report(&written);
    Ok(work.publish(metrics(&dataset, &written))?)
}

/// Says what was written, and what was left out.
fn report(written: &Written) {
    for error in written.corrupt.iter().take(10) {
        warn!("left out: {error}");
    }
    if !written.corrupt.is_empty() {
        warn!("{} damaged images were left out", written.corrupt.len());
    }
    let [train, validation, test] = written.images;
    info!("wrote {train} train, {validation} validation and {test} test images");
}

/// The manifest's headline numbers.
fn metrics(dataset: &Dataset, written: &Written) -> serde_json::Value {
    let summary = &dataset.summary;
    let [train, validation, test] = written.images;
    json!({
        "labels": summary.label_table,
        "rows": summary.rows,
        "patients": summary.patients,
        "train_images": train,
        "validation_images": validation,
        "test_images": test,
        "missing_images": summary.images() - summary.present(),
        "corrupt_images": written.corrupt.len(),
        "impossible_ages": summary.impossible_ages,
        "boxes": summary.boxes,
        "boxed_images": summary.boxed_images,
        "shared_patients": summary.shared_patients,
        "known_as": summary.known_as,
    })
}
