use std::ops::ControlFlow;

use cxr::metrics::divergence;
use nets::{EpochStats, Event, Recipe};
use stage::{Progress, Scalars, debug, info, warn};

/// Shows a training: a progress bar, a line and TensorBoard scalars per epoch; and stops it after Ctrl-C.
pub struct Watch<'a> {
    progress: Progress,
    scalars: &'a mut Scalars,
    epochs: usize,
    batch: usize,
    train: usize,
    /// Epochs take long enough to say something about each, and about its steps.
    long: bool,
    /// Of all epochs.
    validation_losses: Vec<Option<f64>>,
}

impl<'a> Watch<'a> {
    /// For a training on `train` examples, called `what`; where epochs are not `long`, their lines are for `-v` only, and
    /// steps have no scalars.
    pub fn new(what: &str, recipe: &Recipe, train: usize, long: bool, scalars: &'a mut Scalars) -> Watch<'a> {
        let progress = stage::progress((recipe.epochs * train) as u64, what);
        Watch {
            progress,
            scalars,
            epochs: recipe.epochs,
            batch: recipe.batch,
            train,
            long,
            validation_losses: Vec::new(),
        }
    }

    /// For [`nets::fit`].
    pub fn see(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Resumed { epochs, step, from, .. } => {
                let images = epochs.len() * self.train + (step * self.batch).min(self.train);
                self.progress.inc(images as u64);
                self.scalars.resume();
                self.validation_losses = epochs.iter().map(|stats| stats.validation_loss).collect();
                let other = from.map_or(String::new(), |path| format!(", which {} has", path.display()));
                info!("continues after epoch {} of {} and {step} steps{other}", epochs.len(), self.epochs);
            }
            Event::Step { epoch, step, steps, examples, loss, lr } => {
                self.progress.inc(examples as u64);
                if self.long {
                    self.progress.message(&format!("epoch {epoch}, loss {loss:.4}"));
                    let done = (u64::from(epoch) - 1) * steps as u64 + step as u64;
                    self.scalars.add(done, &[("loss/step", f64::from(loss)), ("lr/step", lr)]);
                }
            }
            Event::Validation { .. } => {}
            Event::Epoch { stats, steps, best } => {
                let line = line(stats, self.epochs, best);
                if self.long {
                    info!("{line}");
                } else {
                    debug!("{line}");
                }
                self.warn_once(stats);
                self.scalars.add(u64::from(stats.epoch) * steps as u64, &stats.scalars());
            }
        }
        if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Says it once where the training diverges.
    fn warn_once(&mut self, stats: &EpochStats) {
        let before = divergence(self.validation_losses.iter().copied());
        self.validation_losses.push(stats.validation_loss);
        if before.is_none()
            && let Some((_, loss)) = divergence(self.validation_losses.iter().copied())
        {
            let (epoch, lr) = (stats.epoch, stats.lr);
            warn!(
                "the training diverges: validation loss {loss:.4e} after epoch {epoch}; a lower lr than {lr:.3e} may help"
            );
        }
    }

    /// The training has ended well.
    pub fn finish(self, fit: &nets::Fit) {
        self.progress.finish();
        info!("epoch {} of {} is the best on validation", fit.best_epoch, self.epochs);
    }
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
