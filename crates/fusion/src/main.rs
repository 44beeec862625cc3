//! Trains the fusion layer on the features of both branches, then scores every image.

use std::path::PathBuf;
use std::process::ExitCode;

use branch::{TRAINED, headline, training};
use fusion::{Branch, Config, Error, SPEC};
use model::fusion::FusionLayer;
use stage::{Begin, Computed, Fail, Input, Outcome, Run};

/// What fusion reads of a branch.
const FEATURES: &str = "features.parquet";
const PREDICTIONS: &str = "predictions.parquet";
const WEIGHTS: &str = "weights.safetensors";
/// Minutes between two checkpoints; the whole training takes seconds.
const CHECKPOINT_MINUTES: f64 = 10.0;

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: nets::OnLines = nets::OnLines;

fn main() -> ExitCode {
    nets::keep_freed_memory();
    stage::main(&SPEC, story)
}

/// All features are held at once: as they were read, as they are trained on, and, for a moment, twice as they grow.
fn enough_memory(branches: [&Input; 2]) -> Result<(), Fail> {
    let mut bytes = 0;
    let mut images = 0;
    for branch in branches {
        let [rows, dim] = tables::features::shape(&branch.file(FEATURES)?).map_err(Error::from)?;
        images = rows;
        bytes += (rows as u64).saturating_mul(4 * dim as u64);
    }
    stage::ask_memory(bytes.saturating_mul(3), &format!("the features of {images} images"))
}

fn story(mut run: Run, config: Config) -> Result<Outcome, Fail> {
    let global = run.input("global", &[FEATURES, PREDICTIONS, WEIGHTS])?;
    let local = run.input("local", &[FEATURES, PREDICTIONS, WEIGHTS])?;
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    enough_memory([&global, &local])?;
    let device = nets::device(run.device()).map_err(Error::from)?;
    let computed = Computed { device: nets::describe(&device), ..Computed::default() };
    let read = |branch: &Input| -> Result<Branch, Fail> {
        Ok(Branch::read(&branch.file(FEATURES)?, &branch.file(PREDICTIONS)?)?)
    };
    let mut samples = fusion::join(read(&global)?, read(&local)?)?;
    if let Some(limit) = run.limit() {
        samples.limit(limit);
    }
    let weights = [global.file(WEIGHTS)?, local.file(WEIGHTS)?];
    let start = fusion::start(&config, &samples, weights.each_ref().map(PathBuf::as_path), run.seed(), &device)?;
    let identity = fusion::identity(&samples, &config, &start, run.seed())?;
    let training = training(&run, &identity, CHECKPOINT_MINUTES, &computed, |checkpoints, out| {
        let (layer, fit) = fusion::train(&samples, &config, &start, &identity, checkpoints, &mut run.scalars())?;
        fusion::write(out, &layer, &fit)?;
        Ok::<_, Error>(fit)
    })?;
    work.computed(computed);
    for name in TRAINED {
        work.take(&training, name)?;
    }
    let layer = FusionLayer::open(&training.file(WEIGHTS)?).map_err(Error::from)?;
    let predictions = fusion::score(&layer, &samples)?;
    tables::predictions::write(&work.out().join(PREDICTIONS), &predictions, SPEC.name).map_err(Error::from)?;
    work.publish(headline(&training, &predictions))
}
