//! A training as a result of its own: taken from the store, or made.

use std::path::Path;

use nets::{Checkpoints, Fit, Identity};
use serde_json::{Value, json};
use stage::{Computed, Fail, Input, Run, Step, info};

/// What a training publishes, beside its last checkpoint: weights of the best epoch, learning curve.
pub const TRAINED: [&str; 2] = ["weights.safetensors", "epochs.parquet"];

/// The result of the training with that identity. `train` makes it where the store does not have it: it continues from
/// the checkpoints, and writes [`TRAINED`] into the folder.
///
/// Its key is that of the identity, so it is the same for every stage and run that learns from the same rows by the same
/// recipe; and it is published before anything is done with the weights.
///
/// # Errors
/// What `train` returns; the disk.
pub fn training<E: Into<Fail>>(
    run: &Run,
    identity: &Identity,
    checkpoint_minutes: f64,
    computed: &Computed,
    train: impl FnOnce(&Checkpoints, &Path) -> Result<Fit, E>,
) -> Result<Input, Fail> {
    const STEP: &str = "training";
    let key = &identity.key()[..32];
    let mut work = match run.step(STEP, key, json!(identity))? {
        Step::Done(done) => {
            info!("the training is in the store, {}", done.manifest().made_by());
            return Ok(done);
        }
        Step::Work(work) => work,
    };
    let others = run.others(STEP, key, nets::CHECKPOINT);
    let checkpoints = Checkpoints { folder: work.scratch(), others: &others, minutes: checkpoint_minutes };
    // After Ctrl-C, the training saves its step before the process ends.
    let fit = {
        let _hold = stage::hold();
        train(&checkpoints, work.out()).map_err(Into::into)?
    };
    // Kept, so that a training with more epochs continues from it.
    let checkpoint = work.scratch().join(nets::CHECKPOINT);
    if checkpoint.exists() {
        fs_err::rename(&checkpoint, work.out().join(nets::CHECKPOINT))?;
    }
    work.computed(computed.clone());
    work.finish(figures(&fit))
}

/// The training's figures of time, which are in no table: tables do not depend on the machine.
fn figures(fit: &Fit) -> Value {
    let seconds: Vec<f64> = fit.epochs.iter().map(|stats| stats.seconds).collect();
    let images_per_s: f64 = fit.epochs.iter().map(|stats| stats.images_per_s).sum();
    json!({
        "headline": format!("epoch {} of {}", fit.best_epoch, fit.epochs.len()),
        "best_epoch": fit.best_epoch,
        "train_seconds": seconds.iter().sum::<f64>(),
        "train_images_per_s": images_per_s / fit.epochs.len().max(1) as f64,
        "epoch_seconds": seconds,
    })
}
