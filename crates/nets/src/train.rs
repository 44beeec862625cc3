//! The one training loop.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use cxr::{OUTPUTS, metrics};
use ops::augment::AugmentParams;
use ops::transfer::Readback;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::augment::{evaluation, random, training};
use crate::checkpoint::Checkpoint;
use crate::feed::Feed;
use crate::optim::rate;
use crate::{Error, Evaluated, Network, Optimizer, OptimizerKind, Result, Schedule, View};

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Images per step; the last step of an epoch takes what remains.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum of SGD; AdamW's first beta.
    pub momentum: f64,
    /// Weight decay: added to the gradient by SGD, decoupled in AdamW.
    pub weight_decay: f64,
    /// The update rule.
    pub optimizer: OptimizerKind,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Epochs in which the learning rate rises linearly, step by step.
    pub warmup_epochs: usize,
    /// Side of the network's input in px.
    pub crop: usize,
    /// How an evaluation input is taken from a picture.
    pub view: View,
    /// Smallest area of a random resized crop, as a share of the picture; 1 turns cropping off.
    pub scale_min: f64,
    /// Whether half the inputs are mirrored.
    pub flip: bool,
    /// Largest rotation in degrees, to both sides.
    pub rotate_deg: f64,
    /// Largest change of brightness: the factor is in `1 - b ..= 1 + b`.
    pub brightness: f64,
    /// Largest change of contrast: the factor is in `1 - c ..= 1 + c`.
    pub contrast: f64,
    /// In what numbers a training step computes.
    pub precision: Precision,
    /// Seed of the order of the pictures and of their augmentation.
    pub seed: u64,
}

/// In what numbers a training step stores activations and their gradients, and multiplies. Weights, statistics and sums
/// are `f32`. Evaluation computes in `f32` on a CPU, and in the same numbers as training on CUDA.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `f32`.
    #[default]
    F32,
    /// `f32`, with factors rounded to three digits by the tensor cores of a CUDA device; `F32` on a CPU.
    Tf32,
    /// bf16, with three digits: half the memory, and faster on CUDA and on a CPU that has instructions for it
    /// (AVX512-BF16), slower on other CPUs.
    Bf16,
    /// `Bf16` where it is fast: on CUDA, and on a CPU that has instructions for it; `F32` elsewhere.
    Auto,
}

impl Precision {
    /// What it means on a device.
    pub fn on(self, device: &Device) -> Precision {
        match self {
            Precision::Auto if device.is_cuda() || ops::has_bf16() => Precision::Bf16,
            Precision::Auto => Precision::F32,
            Precision::Tf32 if !device.is_cuda() => Precision::F32,
            chosen => chosen,
        }
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
            Precision::Auto => "auto",
        }
    }
}

/// Pictures in memory with their targets.
#[derive(Debug, Clone, Default)]
pub struct Pictures {
    /// Side in px.
    pub size: usize,
    /// `[N, size, size]` grey.
    pub pixels: Vec<u8>,
    /// 0 or 1 per output, by picture.
    pub targets: Vec<[f32; OUTPUTS]>,
}

impl Pictures {
    /// The grey values of one picture, `[size, size]`.
    pub fn picture(&self, index: usize) -> &[u8] {
        let pixels = self.size * self.size;
        &self.pixels[index * pixels..][..pixels]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    pub(crate) fn check(&self, what: &str) -> Result<()> {
        let expected = self.len() * self.size * self.size;
        if self.pixels.len() == expected {
            return Ok(());
        }
        let shape = format!("{} bytes of {} pictures of {} px", expected, self.len(), self.size);
        Err(Error::shape(format!("{what} pictures"), shape, self.pixels.len()))
    }
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochStats {
    /// From 1.
    pub epoch: u32,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Mean loss over the training pictures as they were seen.
    pub train_loss: f64,
    /// Mean loss over the validation pictures; `None` without any.
    pub validation_loss: Option<f64>,
    /// Mean AUROC over those of the 14 findings where it is defined; `None` if nowhere.
    pub validation_auroc: Option<f64>,
    /// Wall-clock seconds of training (validation not included).
    pub seconds: f64,
    /// Training pictures per second.
    pub images_per_s: f64,
}

impl EpochStats {
    /// The figures by their TensorBoard names, without those that are undefined.
    pub fn scalars(&self) -> Vec<(&'static str, f64)> {
        let sure = [("loss/train", self.train_loss), ("lr", self.lr), ("images_per_s", self.images_per_s)];
        let maybe = [("loss/validation", self.validation_loss), ("auroc/validation", self.validation_auroc)];
        sure.into_iter().chain(maybe.into_iter().filter_map(|(tag, value)| Some((tag, value?)))).collect()
    }
}

/// What [`fit`] tells its watcher.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A checkpoint was found; these epochs are done.
    Resumed(&'a [EpochStats]),
    /// A step is done.
    Step {
        /// Epoch, from 1.
        epoch: u32,
        /// Step in the epoch, from 1.
        step: usize,
        /// Steps per epoch.
        steps: usize,
        /// Loss of the step.
        loss: f32,
        /// Its learning rate.
        lr: f64,
    },
    /// An epoch is done and its checkpoint is on disk.
    Epoch {
        /// Its figures.
        stats: &'a EpochStats,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// What a training was.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// All epochs.
    pub epochs: Vec<EpochStats>,
    /// The epoch whose weights the network now has, from 1.
    pub best_epoch: u32,
}

/// Trains `net`; at the end it has the weights of the best epoch: that with the highest mean AUROC on `validation`, the
/// first of equals; the last epoch where none has one.
///
/// A checkpoint is written to the folder `scratch` after every epoch. Called again with the same arguments, it continues
/// after the last one and ends with the weights, bit for bit, of an uninterrupted call. `watch` may stop it after any
/// step.
///
/// # Errors
/// No pictures; a recipe that cannot be; a loss that is not finite; [`Error::Interrupted`] if `watch` said so; a
/// checkpoint of another training in `scratch`; the disk.
pub fn fit(
    net: &mut Network,
    train: &Pictures,
    validation: &Pictures,
    recipe: &Recipe,
    scratch: &Path,
    watch: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Fit> {
    train.check("training")?;
    validation.check("validation")?;
    recipe.check(net, train)?;
    net.set_precision(recipe.precision)?;
    let mut optimizer = net.optimizer(recipe.optimizer, recipe.momentum, recipe.weight_decay)?;
    let mut best = Best { epoch: 0, auroc: None, weights: Vec::new() };
    let mut epochs: Vec<EpochStats> = Vec::new();
    let checkpoint = Checkpoint::new(scratch, recipe, train.len(), net)?;
    if let Some(saved) = checkpoint.read(net, &mut optimizer)? {
        (epochs, best) = saved;
        if watch(Event::Resumed(&epochs)).is_break() {
            return Err(Error::Interrupted { epoch: epochs.len() as u32 });
        }
    }

    let feeds = [train, validation].map(|pictures| Feed::new(pictures, net.device()));
    let [train_feed, validation_feed] = feeds;
    let (train_feed, validation_feed) = (train_feed?, validation_feed?);
    for epoch in epochs.len()..recipe.epochs {
        let (train_loss, lr, seconds) = train_epoch(net, &mut optimizer, &train_feed, recipe, epoch, watch)?;
        let (validation_loss, validation_auroc) = validate(net, &validation_feed, recipe)?;
        let stats = EpochStats {
            epoch: epoch as u32 + 1,
            lr,
            train_loss,
            validation_loss,
            validation_auroc,
            seconds,
            images_per_s: train.len() as f64 / seconds.max(1e-9),
        };
        let improved = match (validation_auroc, best.auroc) {
            (Some(new), Some(old)) => new > old,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if improved {
            best = Best { epoch: stats.epoch, auroc: validation_auroc, weights: net.snapshot()? };
        }
        epochs.push(stats);
        checkpoint.write(net, &optimizer, &epochs, &best)?;
        let stats = &epochs[epoch];
        let last = epoch + 1 == recipe.epochs;
        if watch(Event::Epoch { stats, best: improved }).is_break() && !last {
            return Err(Error::Interrupted { epoch: stats.epoch });
        }
    }
    net.restore(best.weights)?;
    Ok(Fit { epochs, best_epoch: best.epoch })
}

/// The best epoch so far.
#[derive(Debug)]
pub(crate) struct Best {
    pub(crate) epoch: u32,
    pub(crate) auroc: Option<f64>,
    pub(crate) weights: Vec<Tensor>,
}

impl Recipe {
    fn check(&self, net: &Network, train: &Pictures) -> Result<()> {
        let wrong = |key, got: String, expected: &str| {
            let expected = expected.to_owned();
            Err(Error::Setting { key, got, expected })
        };
        if train.is_empty() {
            return Err(Error::shape("training pictures", "at least 1", 0));
        }
        if self.epochs == 0 {
            return wrong("epochs", "0".into(), "at least 1");
        }
        if self.batch == 0 {
            return wrong("batch", "0".into(), "at least 1");
        }
        if self.warmup_epochs > self.epochs {
            return wrong("warmup_epochs", self.warmup_epochs.to_string(), "at most the epochs");
        }
        if !(self.scale_min > 0.0 && self.scale_min <= 1.0) {
            return wrong("scale_min", self.scale_min.to_string(), "above 0, at most 1");
        }
        let least = net.backbone().min_side();
        if self.crop < least {
            return wrong("crop", self.crop.to_string(), &format!("at least {least}, what {} needs", net.backbone()));
        }
        Ok(())
    }
}

/// Mean loss, last learning rate and seconds of one pass, `epoch` from 0.
fn train_epoch(
    net: &mut Network,
    optimizer: &mut Optimizer,
    feed: &Feed,
    recipe: &Recipe,
    epoch: usize,
    watch: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(f64, f64, f64)> {
    let start = Instant::now();
    let pictures = feed.pictures();
    let mut order: Vec<usize> = (0..pictures.len()).collect();
    order.shuffle(&mut random(b"order", recipe.seed, epoch as u64, 0));
    let draws: Vec<AugmentParams> =
        order.iter().map(|&index| training(pictures.size, index, recipe, epoch as u64)).collect();
    let steps = order.len().div_ceil(recipe.batch);
    let (mut sum, mut lr) = (0.0, recipe.lr);
    let mut seen = |step: usize, (count, lr): (usize, f64), loss: Vec<f32>| {
        let (epoch, step, loss) = (epoch as u32 + 1, step + 1, loss[0]);
        if !loss.is_finite() {
            return Err(Error::Diverged { loss, epoch, step, lr });
        }
        sum += f64::from(loss) * count as f64;
        if watch(Event::Step { epoch, step, steps, loss, lr }).is_break() {
            return Err(Error::Interrupted { epoch: epoch - 1 });
        }
        Ok(())
    };
    let mut losses = Behind::new(net.device());
    feed.each(&draws, recipe.crop, recipe.batch, net.activations(), &mut |step, x, targets| {
        lr = rate(recipe, epoch, step, steps);
        let (loss, grads) = net.loss_and_grads(&x, &targets)?;
        net.update(optimizer, &grads, lr)?;
        losses.push((x.dim(0)?, lr), &[loss], &mut |step, of, mut loss| seen(step, of, loss.swap_remove(0)))
    })?;
    losses.finish(&mut |step, of, mut loss| seen(step, of, loss.swap_remove(0)))?;
    Ok((sum / order.len() as f64, lr, start.elapsed().as_secs_f64()))
}

/// Mean loss and mean AUROC on the validation pictures.
fn validate(net: &Network, feed: &Feed, recipe: &Recipe) -> Result<(Option<f64>, Option<f64>)> {
    let pictures = feed.pictures();
    if pictures.is_empty() {
        return Ok((None, None));
    }
    let mut logits: Vec<[f32; OUTPUTS]> = Vec::with_capacity(pictures.len());
    let what = |evaluated: &Evaluated| Ok(vec![evaluated.logits.clone()]);
    score_feed(net, feed, recipe.crop, recipe.view, recipe.batch, &what, &mut |_, values| {
        logits.extend(values[0].as_chunks().0);
        Ok(())
    })?;
    let terms = logits.as_flattened().iter().zip(pictures.targets.as_flattened()).map(|(&logit, &target)| {
        let (logit, target) = (f64::from(logit), f64::from(target));
        logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p()
    });
    let loss = terms.sum::<f64>() / (logits.len() * OUTPUTS) as f64;
    let findings = (0..OUTPUTS - 1).map(|output| {
        let scores: Vec<f32> = logits.iter().map(|row| row[output]).collect();
        let positives: Vec<bool> = pictures.targets.iter().map(|row| row[output] == 1.0).collect();
        metrics::auroc(&scores, &positives)
    });
    Ok((Some(loss), metrics::Mean::of(findings).value))
}

/// Runs `net` over `pictures` in order, in batches of `batch`; `each` gets the index of the batch's first picture and the
/// values of the tensors, of `f32`, that `what` takes from the network's answer.
///
/// # Errors
/// A `crop` that [`View::Centre`] cannot cut from the pictures; what `what` and `each` return.
pub fn score(
    net: &Network,
    pictures: &Pictures,
    crop: usize,
    view: View,
    batch: usize,
    what: &dyn Fn(&Evaluated) -> Result<Vec<Tensor>>,
    each: &mut dyn FnMut(usize, Vec<Vec<f32>>) -> Result<()>,
) -> Result<()> {
    score_feed(net, &Feed::new(pictures, net.device())?, crop, view, batch, what, each)
}

fn score_feed(
    net: &Network,
    feed: &Feed,
    crop: usize,
    view: View,
    batch: usize,
    what: &dyn Fn(&Evaluated) -> Result<Vec<Tensor>>,
    each: &mut dyn FnMut(usize, Vec<Vec<f32>>) -> Result<()>,
) -> Result<()> {
    let pictures = feed.pictures();
    pictures.check("evaluated")?;
    if view == View::Centre && crop > pictures.size && !pictures.is_empty() {
        let expected = format!("at most {}, the side of the pictures", pictures.size);
        return Err(Error::Setting { key: "crop", got: crop.to_string(), expected });
    }
    let draws: Vec<AugmentParams> =
        (0..pictures.len()).map(|index| evaluation(pictures.size, index, crop, view)).collect();
    let mut answers = Behind::new(net.device());
    let mut first = 0;
    feed.each(&draws, crop, batch.max(1), net.activations(), &mut |_, x, _| {
        let of = first;
        first += x.dim(0)?;
        answers.push(of, &what(&net.forward_eval(&x)?)?, &mut |_, first, values| each(first, values))
    })?;
    answers.finish(&mut |_, first, values| each(first, values))
}

/// Values on their way from the device: they are read while it computes the next ones.
struct Behind<T> {
    /// How many steps may be on their way when another one has been started: a CPU has computed them already.
    most: usize,
    started: usize,
    waiting: VecDeque<(usize, T, Vec<Readback>)>,
}

impl<T> Behind<T> {
    fn new(device: &Device) -> Self {
        Behind { most: usize::from(device.is_cuda()), started: 0, waiting: VecDeque::new() }
    }

    /// Starts reading `tensors`; gives `take` what has arrived of earlier ones, counted from 0.
    fn push(
        &mut self,
        of: T,
        tensors: &[Tensor],
        take: &mut dyn FnMut(usize, T, Vec<Vec<f32>>) -> Result<()>,
    ) -> Result<()> {
        let readings = tensors.iter().map(Readback::start).collect::<candle_core::Result<_>>()?;
        self.waiting.push_back((self.started, of, readings));
        self.started += 1;
        self.arrive(self.most, take)
    }

    fn finish(mut self, take: &mut dyn FnMut(usize, T, Vec<Vec<f32>>) -> Result<()>) -> Result<()> {
        self.arrive(0, take)
    }

    fn arrive(&mut self, most: usize, take: &mut dyn FnMut(usize, T, Vec<Vec<f32>>) -> Result<()>) -> Result<()> {
        while self.waiting.len() > most
            && let Some((index, of, readings)) = self.waiting.pop_front()
        {
            let values = readings.into_iter().map(Readback::wait).collect::<candle_core::Result<_>>()?;
            take(index, of, values)?;
        }
        Ok(())
    }
}
