use std::ops::ControlFlow;
use std::path::Path;

use cxr::Split;
use nets::{EpochStats, Event, Fit, Network, View};
use stage::{Run, info, warn};

use crate::{Config, Error, Images, Init};

/// Trains on `train`, chooses the epoch on `validation`; the network returned has that epoch's weights.
///
/// Checkpoints go to `scratch` after every epoch, and are continued from. Ctrl-C stops at the next step.
///
/// # Errors
/// No images to train on; weights of another network; a loss that is not finite; an interruption.
pub fn train(
    images: &Images,
    config: &Config,
    init: &Init,
    run: &Run,
    scratch: &Path,
) -> Result<(Network, Fit), Error> {
    let [train, validation, test] = Split::ALL.map(|split| images.keys(split).len());
    info!("{train} train, {validation} validation and {test} test images of {} px", images.size());
    if train == 0 {
        return Err(Error::Empty);
    }
    if config.view == View::Centre && config.crop > images.size() {
        return Err(Error::Crop { crop: config.crop, size: images.size() });
    }
    if validation == 0 {
        warn!("no validation images: the last epoch will be published");
    }
    let device = nets::device(run.device())?;
    info!("trains on {}, activations {}", nets::describe(&device), config.precision.on(&device).name());
    let mut network = init.network(config, run.seed(), &device)?;
    let mut scalars = run.scalars();
    let mut steps_per_epoch = 0;
    let mut progress = stage::progress((config.epochs * train) as u64, "images trained");
    let fit = nets::fit(
        &mut network,
        images.pictures(Split::Train),
        images.pictures(Split::Validation),
        &config.recipe(run.seed()),
        scratch,
        &mut |event| {
            match event {
                Event::Resumed(done) => {
                    progress.inc((done.len() * train) as u64);
                    scalars.resume();
                    info!("continues after epoch {} of {}", done.len(), config.epochs);
                }
                Event::Step { epoch, step, steps, loss, lr } => {
                    let seen = if step < steps { config.batch } else { train - config.batch * (steps - 1) };
                    progress.inc(seen as u64);
                    progress.message(&format!("epoch {epoch}, loss {loss:.4}"));
                    steps_per_epoch = steps as u64;
                    let done = (u64::from(epoch) - 1) * steps_per_epoch + step as u64;
                    scalars.add(done, &[("loss/step", f64::from(loss)), ("lr/step", lr)]);
                }
                Event::Epoch { stats, best } => {
                    info!("{}", line(stats, config.epochs, best));
                    scalars.add(u64::from(stats.epoch) * steps_per_epoch, &stats.scalars());
                }
            }
            if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )?;
    progress.finish();
    info!("epoch {} is the best on validation", fit.best_epoch);
    Ok((network, fit))
}

/// `epoch 3/50: loss 0.2134, validation loss 0.2201, AUROC 0.7312 (best), lr 0.01, 95 images/s`
fn line(stats: &EpochStats, epochs: usize, best: bool) -> String {
    let mut line = format!("epoch {}/{epochs}: loss {:.4}", stats.epoch, stats.train_loss);
    if let Some(loss) = stats.validation_loss {
        line += &format!(", validation loss {loss:.4}");
    }
    if let Some(auroc) = stats.validation_auroc {
        line += &format!(", AUROC {auroc:.4}{}", if best { " (best)" } else { "" });
    }
    line + &format!(", lr {:.3e}, {:.0} images/s", stats.lr, stats.images_per_s)
}
