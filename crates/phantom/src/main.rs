//! `phantom` - makes a synthetic chest X-ray dataset in NIH's own on-disk shape.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use phantom::{Config, SPEC, cohort, dataset};
use stage::{Common, Fail, Outcome, Plan, Run};

/// Makes a synthetic chest X-ray dataset in NIH's own on-disk shape.
///
/// Radiograph-like pictures of invented patients with all 14 findings as visible signs, the true box around each,
/// several images per patient, and NIH's table, lists and box file beside them. It is what `prep` reads where
/// `prep.root` is "phantom" (the default); where that names a folder, there is nothing to do here.
///
/// Reads nothing. Writes images_NNN/images/*.png, Data_Entry_2017_v2020.csv, train_val_list.txt, test_list.txt
/// and BBox_List_2017.csv into <ARTIFACTS_DIR>/<RUN>/phantom/. The same seed gives the same bytes.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let args = Args::parse();
    stage::main(|| run(&args))
}

fn run(args: &Args) -> anyhow::Result<Outcome> {
    let run = Run::open(&SPEC, &args.common)?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    if let Some(root) = run.setting("prep.root").and_then(|root| root.as_str())
        && root != "phantom"
    {
        stage::info!("phantom: current: nothing to do, prep.root is {root}");
        return Ok(Outcome::Nothing);
    }
    let config = run.config::<Config>()?.check()?;
    if let Plan::Stop(outcome) = run.plan()? {
        return Ok(outcome);
    }

    let mut exams = cohort::draw(&config);
    if let Some(limit) = run.limit() {
        exams.truncate(limit);
    }
    let work = run.begin()?;
    let progress = Mutex::new(stage::progress(exams.len() as u64, "images"));
    let done = || {
        if let Ok(mut progress) = progress.lock() {
            progress.inc(1);
        }
        if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    dataset::write(work.out(), &exams, &config, &done).map_err(|error| match error {
        dataset::Error::Interrupted => Fail::interrupted(),
        error => Fail::failed(error),
    })?;
    let patients = config.patients;
    Ok(work.publish(serde_json::json!({ "images": exams.len(), "patients": patients }))?)
}
