use std::time::Instant;

use candle_core::{Module, Tensor};
use candle_nn::Linear;
use cxr::{Labels, Split, metrics};
use nets::{EpochStats, Fit, Optimizer};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use stage::{Scalars, debug, info, warn};

use crate::score::{logits_of, mean_loss};
use crate::standard::Standard;
use crate::{Config, Error, Samples};

/// Trains on `train`, chooses the epoch on `validation`: that with the highest mean AUROC, the first of equals; the last
/// epoch where none is defined. The layer returned has that epoch's weights, for features as they are.
///
/// The same samples, layer and seed give the same weights, bit for bit, on any number of threads. Ctrl-C stops at the
/// next step. The epochs' figures go to `scalars`.
///
/// # Errors
/// No images to train on; a loss that is not finite; an interruption.
pub fn train(
    samples: &Samples,
    config: &Config,
    start: &Linear,
    seed: u64,
    scalars: &mut Scalars,
) -> Result<(Linear, Fit), Error> {
    let [train, validation, test] = Split::ALL.map(|split| samples.of(split));
    let [global, local] = samples.dims();
    info!(
        "{} train, {} validation and {} test images of {global} + {local} features",
        train.len(),
        validation.len(),
        test.len()
    );
    if train.is_empty() {
        return Err(Error::Empty);
    }
    if validation.is_empty() {
        warn!("no validation images: the last epoch will be published");
    }
    let standard = config.standardise.then(|| Standard::of(samples, &train));
    let mut trainer = Trainer::new(config, start, standard)?;

    let mut progress = stage::progress((config.epochs * train.len()) as u64, "images fused");
    let mut epochs = Vec::new();
    let mut best: Option<(u32, Option<f64>, Linear)> = None;
    for epoch in 0..config.epochs {
        let (train_loss, lr, seconds) = trainer.epoch(samples, &train, epoch, seed, &mut progress)?;
        let layer = trainer.plain()?;
        let (validation_loss, validation_auroc) = validate(&layer, samples, &validation)?;
        let improved = match (validation_auroc, best.as_ref().and_then(|(_, auroc, _)| *auroc)) {
            (Some(new), Some(old)) => new > old,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        let (epoch, images_per_s) = (epoch as u32 + 1, train.len() as f64 / seconds.max(1e-9));
        debug!(
            "epoch {epoch}: loss {train_loss:.4}, validation AUROC {validation_auroc:?}, {images_per_s:.0} images/s"
        );
        let stats = EpochStats { epoch, lr, train_loss, validation_loss, validation_auroc, seconds, images_per_s };
        scalars.add(u64::from(epoch), &stats.scalars());
        epochs.push(stats);
        if improved {
            best = Some((epoch, validation_auroc, layer));
        }
    }
    progress.finish();
    let (best_epoch, _, layer) = best.ok_or(Error::Empty)?;
    info!("epoch {best_epoch} of {} is the best on validation", config.epochs);
    Ok((layer, Fit { epochs, best_epoch }))
}

/// The layer in training, on standardised features if there is a standard.
struct Trainer<'a> {
    config: &'a Config,
    standard: Option<Standard>,
    layer: Linear,
    optimizer: Optimizer,
}

impl<'a> Trainer<'a> {
    fn new(config: &'a Config, start: &Linear, standard: Option<Standard>) -> Result<Self, Error> {
        let layer = match &standard {
            Some(standard) => standard.of_plain(start)?,
            None => copy(start)?,
        };
        let optimizer = Optimizer::new(config.optimizer, config.momentum, config.weight_decay, &parameters(&layer))?;
        Ok(Trainer { config, standard, layer, optimizer })
    }

    /// Mean loss, last learning rate and seconds of one pass, `epoch` from 0.
    fn epoch(
        &mut self,
        samples: &Samples,
        train: &[usize],
        epoch: usize,
        seed: u64,
        progress: &mut stage::Progress,
    ) -> Result<(f64, f64, f64), Error> {
        let clock = Instant::now();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(epoch as u64 + 1); // stream 0 made the weights
        let mut order = train.to_vec();
        order.shuffle(&mut random);
        let steps = order.len().div_ceil(self.config.batch);
        let (mut sum, mut lr) = (0.0, 0.0);
        for (step, indices) in order.chunks(self.config.batch).enumerate() {
            if stage::interrupted() {
                return Err(Error::Interrupted { epoch: epoch as u32 + 1 });
            }
            lr = self.config.rate(epoch, step, steps);
            let loss = self.step(samples, indices, lr)?;
            if !loss.is_finite() {
                return Err(Error::Diverged { loss, epoch: epoch as u32 + 1, step: step + 1, lr });
            }
            sum += f64::from(loss) * indices.len() as f64;
            progress.inc(indices.len() as u64);
        }
        let loss = sum / train.len() as f64;
        progress.message(&format!("epoch {}, loss {loss:.4}", epoch + 1));
        Ok((loss, lr, clock.elapsed().as_secs_f64()))
    }

    /// One step; its loss.
    fn step(&mut self, samples: &Samples, indices: &[usize], lr: f64) -> Result<f32, Error> {
        let mut inputs = samples.inputs(indices);
        if let Some(standard) = &self.standard {
            standard.apply(&mut inputs);
        }
        let device = self.layer.weight().device();
        let inputs = Tensor::from_vec(inputs, (indices.len(), samples.dim()), device)?;
        let logits = self.layer.forward(&inputs)?;
        let (loss, error) = ops::bce_with_logits(&logits, &samples.targets(indices, device)?)?;
        let grads = [error.t()?.matmul(&inputs)?, error.sum(0)?];
        self.optimizer.step(&parameters(&self.layer), &grads, lr)?;
        Ok(loss.to_scalar()?)
    }

    /// A copy of the layer as it is now, for features as they are.
    fn plain(&self) -> Result<Linear, Error> {
        match &self.standard {
            Some(standard) => standard.to_plain(&self.layer),
            None => copy(&self.layer),
        }
    }
}

/// Weight and bias, which share their storage with the layer.
fn parameters(layer: &Linear) -> Vec<Tensor> {
    std::iter::once(layer.weight()).chain(layer.bias()).cloned().collect()
}

/// A layer that later steps do not change.
fn copy(layer: &Linear) -> Result<Linear, Error> {
    Ok(Linear::new(layer.weight().copy()?, layer.bias().map(Tensor::copy).transpose()?))
}

/// Mean loss and mean AUROC on the validation images.
fn validate(layer: &Linear, samples: &Samples, indices: &[usize]) -> Result<(Option<f64>, Option<f64>), Error> {
    if indices.is_empty() {
        return Ok((None, None));
    }
    let logits = logits_of(layer, samples, indices)?;
    let labels: Vec<Labels> = indices.iter().map(|&index| samples.rows()[index].key.labels).collect();
    Ok((Some(mean_loss(&logits, &labels)), metrics::mean_auroc(&logits, &labels).value))
}
