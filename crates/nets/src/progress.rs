//! How far a training has come.

use serde::{Deserialize, Serialize};

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochStats {
    /// From 1.
    pub epoch: u32,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Mean loss over the training examples as they were seen.
    pub train_loss: f64,
    /// Mean loss over the validation examples; `None` without any.
    pub validation_loss: Option<f64>,
    /// Mean AUROC over those of the 14 findings where it is defined; `None` if nowhere.
    pub validation_auroc: Option<f64>,
    /// Wall-clock seconds of training (validation not included).
    pub seconds: f64,
    /// Training examples per second.
    pub images_per_s: f64,
}

impl EpochStats {
    /// The figures by their TensorBoard names, without those that are undefined.
    pub fn scalars(&self) -> Vec<(&'static str, f64)> {
        let defined = [("loss/train", self.train_loss), ("lr", self.lr), ("images_per_s", self.images_per_s)];
        let maybe = [("loss/validation", self.validation_loss), ("auroc/validation", self.validation_auroc)];
        defined.into_iter().chain(maybe.into_iter().filter_map(|(tag, value)| Some((tag, value?)))).collect()
    }
}

/// The numbers of a training that is under way. As text in a checkpoint they keep their bits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The finished epochs.
    pub(crate) epochs: Vec<EpochStats>,
    /// Finished steps of the epoch after them.
    pub(crate) step: usize,
    /// Sum over these steps: loss times examples.
    pub(crate) loss_sum: f64,
    /// Learning rate of the last of these steps.
    pub(crate) lr: f64,
    /// Wall-clock seconds of these steps.
    pub(crate) seconds: f64,
    /// The best of the finished epochs, from 1; 0 before the first is finished.
    pub(crate) best_epoch: u32,
    /// Its mean AUROC on validation.
    pub(crate) best_auroc: Option<f64>,
}

impl Progress {
    /// The validation losses of the finished epochs.
    pub(crate) fn validation_losses(&self) -> Vec<Option<f64>> {
        self.epochs.iter().map(|stats| stats.validation_loss).collect()
    }

    /// All finished steps, where an epoch has `steps` steps.
    pub(crate) fn done(&self, steps: usize) -> usize {
        self.epochs.len() * steps + self.step
    }

    /// Whether it can be the progress of a training of so many epochs of `steps` steps.
    pub(crate) fn is_sound(&self, epochs: usize, steps: usize) -> bool {
        let counted = self.epochs.iter().enumerate().all(|(index, stats)| stats.epoch as usize == index + 1);
        let best = (self.best_epoch == 0) == self.epochs.is_empty() && self.best_epoch as usize <= self.epochs.len();
        counted && best && self.step <= steps && self.done(steps) <= epochs * steps
    }

    /// Ends the epoch, which had so many `examples`; returns whether it is the best so far: that with the highest mean
    /// AUROC, the first of equals; the last epoch where none is defined.
    pub(crate) fn end_epoch(&mut self, examples: usize, loss: Option<f64>, auroc: Option<f64>) -> bool {
        let epoch = self.epochs.len() as u32 + 1;
        self.epochs.push(EpochStats {
            epoch,
            lr: self.lr,
            train_loss: self.loss_sum / examples as f64,
            validation_loss: loss,
            validation_auroc: auroc,
            seconds: self.seconds,
            images_per_s: examples as f64 / self.seconds.max(1e-9),
        });
        (self.step, self.loss_sum, self.seconds) = (0, 0.0, 0.0);
        let best = match (auroc, self.best_auroc) {
            (Some(new), Some(old)) => new > old,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if best {
            (self.best_epoch, self.best_auroc) = (epoch, auroc);
        }
        best
    }
}
