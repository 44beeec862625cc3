//! `phantom` - makes a synthetic chest X-ray dataset in NIH's own on-disk shape.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Mutex;

use phantom::{Config, SPEC, cohort, dataset};
use serde_json::json;
use stage::{Begin, Computed, Fail, Outcome, Run};

fn main() -> ExitCode {
    stage::main(&SPEC, story)
}

fn story(run: Run, config: Config) -> Result<Outcome, Fail> {
    if let Some(root) = run.setting("prep.root").and_then(|root| root.as_str())
        && root != "phantom"
    {
        stage::info!("phantom: current: nothing to do, prep.root is {root}");
        return Ok(Outcome::Nothing);
    }
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    let mut exams = cohort::draw(&config);
    if let Some(limit) = run.limit() {
        exams.truncate(limit);
    }
    let progress = Mutex::new(stage::progress(exams.len() as u64, "images"));
    let done = || {
        if let Ok(mut progress) = progress.lock() {
            progress.inc(1);
        }
        if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    dataset::write(work.out(), &exams, &config, &done)?;
    work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
    let (images, patients) = (exams.len(), config.patients);
    work.publish(json!({ "headline": format!("{images} images"), "images": images, "patients": patients }))
}
