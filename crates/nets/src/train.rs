//! The one training loop.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::Tensor;
use cxr::{Labels, OUTPUTS, metrics};
use ranks::World;
use serde_json::json;

use crate::checkpoint::{self, Resumed, State};
use crate::deferred::DeferredReadback;
use crate::ema::Average;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::layers::params::Params;
use crate::layers::share::Share;
use crate::losses::{Loss, mean_loss};
use crate::nccl;
use crate::optimizer::Optimizer;
use crate::progress::{EpochStats, Progress};
use crate::random::order;
use crate::together::{self, Sums};

/// The end of an epoch gets a checkpoint unless writing them would take more than one part in so many of the time.
const TIMES_AS_LONG: u32 = 20;

/// Training examples, in batches.
pub trait Examples {
    /// Inputs and targets of some examples, on the model's device.
    type Batch;

    /// The number of training examples.
    fn count(&self) -> usize;

    /// What the training example with that index shows.
    fn labels(&self, index: usize) -> Labels;

    /// Makes batches of `batch` examples for an epoch, counted from 0, in the `order` given, and passes them to `take`.
    ///
    /// # Errors
    /// What `take` returns, at once; if a batch cannot be made.
    fn batches(
        &self,
        epoch: usize,
        order: &[usize],
        batch: usize,
        take: &mut dyn FnMut(Self::Batch) -> Result<()>,
    ) -> Result<()>;
}

/// A model that [`fit`] can train on `D`.
pub trait Trainable<D: Examples> {
    /// Its tensors.
    fn params(&self) -> &Params;

    /// Its tensors, to be changed: whatever the model has derived from them is stale.
    fn params_mut(&mut self) -> &mut Params;

    /// The mean loss of a batch, a scalar on the model's device, and the gradients of the trained tensors in their order.
    ///
    /// # Errors
    /// Inputs of another shape than the model's.
    fn loss_and_grads(&mut self, batch: D::Batch) -> Result<(Tensor, Vec<Tensor>)>;

    /// The model's logits for this rank's part ([`World::part`]) of the validation examples, and the labels of all. `go_on` gets the number of examples that are done, now and then.
    ///
    /// # Errors
    /// [`Error::Stopped`] if `go_on` breaks.
    fn validate(&self, data: &D, go_on: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<Validation>;
}

/// Logits and labels of the validation examples; both are empty where there are no such examples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validation {
    /// By example.
    pub logits: Vec<[f32; OUTPUTS]>,
    /// By example.
    pub labels: Vec<Labels>,
}

impl Validation {
    /// Mean loss and mean AUROC, where they are defined.
    fn metrics(&self, loss: Loss) -> (Option<f64>, Option<f64>) {
        let loss = mean_loss(loss, &self.logits, &self.labels);
        (loss, metrics::mean_auroc(&self.logits, &self.labels).value)
    }
}

/// Where checkpoints are.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoints<'a> {
    /// The folder of this training, for [`CHECKPOINT`](crate::CHECKPOINT).
    pub folder: &'a Path,
    /// Checkpoint files of other trainings, which are only read.
    pub others: &'a [PathBuf],
    /// Minutes between two checkpoints inside an epoch; 0 writes one after every step.
    pub minutes: f64,
}

/// News of a training, for its watcher.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A checkpoint was found.
    Resumed {
        /// The finished epochs.
        epochs: &'a [EpochStats],
        /// Finished steps of the epoch after them.
        step: usize,
        /// Finished steps in all.
        done: usize,
        /// The checkpoint, where it is that of another training.
        from: Option<&'a Path>,
    },
    /// A step is done.
    Step {
        /// Epoch, from 1.
        epoch: u32,
        /// Step in the epoch, from 1.
        step: usize,
        /// Steps per epoch.
        steps: usize,
        /// Examples of the step.
        examples: usize,
        /// Loss of the step.
        loss: f32,
        /// Its learning rate.
        lr: f64,
    },
    /// Some validation examples are done.
    Validation {
        /// Epoch, from 1.
        epoch: u32,
        /// Validation examples done in this epoch.
        examples: usize,
    },
    /// An epoch is done.
    Epoch {
        /// Its figures.
        stats: &'a EpochStats,
        /// Steps per epoch.
        steps: usize,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// The result of a training, beside the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// All epochs.
    pub epochs: Vec<EpochStats>,
    /// The epoch whose weights the model now has, from 1.
    pub best_epoch: u32,
}

/// Trains `model` by the recipe of `identity`; at the end it has the weights of the best epoch: that with the highest
/// mean AUROC on validation, the first of equals; the last epoch where none is defined. With [`ema`](crate::Recipe::ema) the weights of
/// an epoch are the averages at its end, in validation too.
///
/// The model must have the initial weights that `identity` names. A checkpoint is written at the end of epochs, every
/// [`Checkpoints::minutes`], and when `watch` asks to stop, which it may do after any step and any part of a validation.
/// Called again with the same arguments, `fit` continues after the last finished step and ends with the weights and the
/// learning curve, bit for bit, of an uninterrupted call.
///
/// Without a checkpoint of its own it continues from that of [`Checkpoints::others`] which has come furthest as this
/// training would have: of the same [`Identity::lineage`], with the same learning rate in every step done.
///
/// The ranks of a job ([`ranks::world`]) train together: each computes its part of every batch, and all have the same weights
/// after every step. Rank 0 alone reads and writes checkpoints; any rank's `watch` may ask to stop, and all stop after the
/// same step. So a checkpoint does not say how many ranks there were, and any number continues.
///
/// # Errors
/// No examples; a recipe that cannot be; a loss that is not finite; [`Error::Interrupted`] if `watch` broke; a checkpoint
/// of another training in the folder; the disk.
pub fn fit<D: Examples, M: Trainable<D>>(
    model: &mut M,
    data: &D,
    identity: &Identity,
    checkpoints: &Checkpoints,
    watch: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Fit> {
    let recipe = &identity.recipe;
    recipe.check()?;
    if data.count() == 0 {
        return Err(Error::Empty);
    }
    let world = ranks::world();
    together::check(world, identity)?;
    nccl::link_ranks(world, model.params().device())?;
    let optimizer = Optimizer::new(recipe.optimizer, recipe.momentum, recipe.weight_decay, model.params())?;
    let average = recipe.ema.map(|settings| Average::new(settings, model.params())).transpose()?;
    let mut training = Training {
        steps: data.count().div_ceil(recipe.batch),
        model,
        data,
        identity,
        optimizer,
        average,
        progress: Progress::default(),
        best: Vec::new(),
        path: checkpoints.folder.join(checkpoint::NAME),
        between: Duration::try_from_secs_f64(60.0 * checkpoints.minutes).unwrap_or(Duration::MAX),
        saved: Instant::now(),
        writing: Duration::ZERO,
        watch,
        asked: false,
        stop: false,
        world,
        sums: Sums::default(),
    };
    training.resume(checkpoints.others)?;
    while training.progress.epochs.len() < recipe.epochs {
        training.epoch()?;
    }
    let Training { model, progress, best, .. } = training;
    model.params_mut().set_share(None);
    model.params_mut().replace(best)?;
    Ok(Fit { epochs: progress.epochs, best_epoch: progress.best_epoch })
}

/// A training under way.
struct Training<'a, M, D> {
    model: &'a mut M,
    data: &'a D,
    identity: &'a Identity,
    optimizer: Optimizer,
    /// What is validated and published in place of the model's tensors.
    average: Option<Average>,
    /// Steps per epoch.
    steps: usize,
    progress: Progress,
    /// The tensors of the best epoch.
    best: Vec<Tensor>,
    /// The checkpoint.
    path: PathBuf,
    /// Time between two checkpoints inside an epoch.
    between: Duration,
    /// When the last checkpoint was written.
    saved: Instant,
    /// How long that took.
    writing: Duration,
    watch: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
    /// Whether this rank's watcher asked to stop.
    asked: bool,
    /// Whether all ranks stop here.
    stop: bool,
    world: &'static World,
    sums: Sums,
}

impl<D: Examples, M: Trainable<D>> Training<'_, M, D> {
    fn resume(&mut self, others: &[PathBuf]) -> Result<()> {
        let resumed = if self.world.leads() { self.resumed(others)? } else { None };
        if let Some(resumed) = self.like_the_first(resumed)? {
            (self.progress, self.best) = (resumed.progress, resumed.best);
            let (step, done) = (self.progress.step, self.progress.done(self.steps));
            let event = Event::Resumed { epochs: &self.progress.epochs, step, done, from: resumed.from.as_deref() };
            self.asked = (self.watch)(event).is_break();
        }
        self.stop = self.world.any(self.asked);
        // The state is on disk already.
        if self.stop { Err(self.interrupted()) } else { Ok(()) }
    }

    /// What the disk has.
    fn resumed(&mut self, others: &[PathBuf]) -> Result<Option<Resumed>> {
        let state =
            State { params: self.model.params_mut(), optimizer: &mut self.optimizer, average: self.average.as_mut() };
        checkpoint::resume(&self.path, others, self.identity, self.steps, state)
    }

    /// Gives every rank the state that rank 0 has.
    fn like_the_first(&mut self, resumed: Option<Resumed>) -> Result<Option<Resumed>> {
        let world = self.world;
        if world.is_alone() {
            return Ok(resumed);
        }
        let (steps, _) = self.optimizer.state();
        let progress = resumed.as_ref().map(|resumed| &resumed.progress);
        let said = world.broadcast(json!([progress, steps]).to_string().into_bytes());
        let (progress, steps): (Option<Progress>, u64) = serde_json::from_slice(&said)
            .map_err(|error| Error::shape("the state of rank 0", "that of a training", error))?;
        let model: Vec<Tensor> = self.model.params().iter().map(|(_, tensor)| tensor.clone()).collect();
        let state = together::like_the_first(world, self.optimizer.state().1)?;
        self.optimizer.restore(steps, state)?;
        if let Some(average) = &mut self.average {
            let tensors = together::like_the_first(world, average.tensors())?;
            average.restore(self.model.params(), tensors)?;
        }
        let best = match (&progress, &resumed) {
            (Some(Progress { best_epoch: 0, .. }) | None, _) => Vec::new(),
            (_, Some(resumed)) => together::like_the_first(world, &resumed.best)?,
            (_, None) => together::like_the_first(world, &model)?,
        };
        self.model.params_mut().replace(together::like_the_first(world, &model)?)?;
        let from = resumed.and_then(|resumed| resumed.from);
        Ok(progress.map(|progress| Resumed { progress, best, from }))
    }

    /// Trains the rest of an epoch, and validates.
    fn epoch(&mut self) -> Result<()> {
        let (data, recipe) = (self.data, &self.identity.recipe);
        let epoch = self.progress.epochs.len();
        let order = order(data.count(), recipe.seed, epoch);
        let first = self.progress.step;
        let (before, clock) = (self.progress.seconds, Instant::now());
        let mut losses = DeferredReadback::new(self.model.params().device());
        // Read as late as the losses, but never sooner, so that all ranks hear of a wish after the same step.
        let mut wishes = DeferredReadback::new(self.model.params().device());
        let mut started = first;
        let validated = self.progress.validation_losses();
        let rest = order.get(first * recipe.batch..).unwrap_or_default();
        let (mine, size, shares) = match self.world.is_alone() {
            true => (rest.to_vec(), recipe.batch, Vec::new()),
            false => together::parts(self.world, rest, recipe.batch, &|index| data.labels(index)),
        };
        data.batches(epoch, &mine, size, &mut |batch| {
            let lr = recipe.rate(epoch, started, self.steps, &validated);
            let (loss, grads, stop) = self.step(batch, shares.get(started - first))?;
            if let Some(most) = recipe.clip_norm {
                ops::clip_by_norm(&grads, most)?;
            }
            self.optimizer.step(self.model.params_mut(), &grads, lr)?;
            if let Some(average) = &self.average {
                average.update(self.model.params(), self.optimizer.state().0)?;
            }
            losses.push((started, lr), [loss], &mut |step, [loss]| self.finished(step, loss[0]))?;
            match stop {
                None => self.stop = self.asked,
                Some(stop) => wishes.push((), [stop], &mut |(), [stop]| {
                    self.stop = stop[0] > 0.0;
                    Ok(())
                })?,
            }
            started += 1;
            if self.stop || self.saved.elapsed() >= self.between {
                losses.drain(&mut |step, [loss]| self.finished(step, loss[0]))?;
                self.progress.seconds = before + clock.elapsed().as_secs_f64();
                self.save_or_stop()?;
            }
            Ok(())
        })?;
        losses.drain(&mut |step, [loss]| self.finished(step, loss[0]))?;
        self.progress.seconds = before + clock.elapsed().as_secs_f64();
        self.stop = self.world.any(self.asked);
        if self.stop {
            self.save_or_stop()?;
        }
        self.validate()
    }

    /// The loss of a batch and its gradients: those of the whole batch, of which this rank has a share; then also how many
    /// ranks ask to stop.
    fn step(&mut self, batch: D::Batch, share: Option<&Share>) -> Result<(Tensor, Vec<Tensor>, Option<Tensor>)> {
        self.model.params_mut().set_share(share.copied());
        let (loss, grads) = self.model.loss_and_grads(batch)?;
        if share.is_none() {
            return Ok((loss, grads, None));
        }
        let (loss, grads, stop) = self.sums.of(self.world, (&loss, grads), self.model.params(), self.asked)?;
        Ok((loss, grads, Some(stop)))
    }

    /// The loss of a step, counted from 0, has arrived.
    fn finished(&mut self, (step, lr): (usize, f64), loss: f32) -> Result<()> {
        let (epoch, steps, batch) = (self.progress.epochs.len() as u32 + 1, self.steps, self.identity.recipe.batch);
        let (examples, step) = (batch.min(self.data.count() - step * batch), step + 1);
        if !loss.is_finite() {
            return Err(Error::Diverged { loss, epoch, step, lr });
        }
        self.progress.loss_sum += f64::from(loss) * examples as f64;
        (self.progress.step, self.progress.lr) = (step, lr);
        self.asked |= (self.watch)(Event::Step { epoch, step, steps, examples, loss, lr }).is_break();
        Ok(())
    }

    fn validate(&mut self) -> Result<()> {
        let epoch = self.progress.epochs.len() as u32 + 1;
        let trained = self.swap(self.average.as_ref().map(|average| average.tensors().to_vec()))?;
        let watch = &mut self.watch;
        let validation = self.model.validate(self.data, &mut |examples| watch(Event::Validation { epoch, examples }));
        self.swap(trained)?;
        self.asked |= matches!(validation, Err(Error::Stopped));
        self.stop = self.world.any(self.asked);
        if self.stop {
            return self.save_or_stop();
        }
        let Validation { logits, labels } = validation?;
        let validation = Validation { logits: together::joined(self.world, &logits), labels };
        let (loss, auroc) = validation.metrics(self.identity.recipe.loss);
        self.identity.recipe.check_validated(loss.is_some())?;
        let best = self.progress.end_epoch(self.data.count(), loss, auroc);
        if best {
            self.best = match &self.average {
                Some(average) => copies(average.tensors())?,
                None => self.model.params().snapshot()?,
            };
        }
        let last = epoch as usize == self.identity.recipe.epochs;
        if let Some(stats) = self.progress.epochs.last() {
            self.asked |= (self.watch)(Event::Epoch { stats, steps: self.steps, best }).is_break();
        }
        self.stop = self.world.any(self.asked) && !last;
        if self.stop || last || self.saved.elapsed() >= (TIMES_AS_LONG * self.writing).min(self.between) {
            self.save_or_stop()?;
        }
        Ok(())
    }

    /// Gives the model other tensors, and returns those that it had; nothing happens where there are none.
    fn swap(&mut self, tensors: Option<Vec<Tensor>>) -> Result<Option<Vec<Tensor>>> {
        let Some(tensors) = tensors else { return Ok(None) };
        let before = self.model.params().iter().map(|(_, tensor)| tensor.clone()).collect();
        self.model.params_mut().replace(tensors)?;
        Ok(Some(before))
    }

    /// Writes a checkpoint of the last finished step.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the watcher asked to stop; the disk.
    fn save_or_stop(&mut self) -> Result<()> {
        let Training { path, identity, progress, model, optimizer, average, best, .. } = self;
        let clock = Instant::now();
        let average = average.as_ref().map(Average::tensors).unwrap_or_default();
        if self.world.leads() {
            checkpoint::write(path, identity, progress, model.params(), optimizer, average, best)?;
        }
        (self.saved, self.writing) = (Instant::now(), clock.elapsed());
        if self.stop { Err(self.interrupted()) } else { Ok(()) }
    }

    /// Waits for all ranks, since one that ends may end the job, and the checkpoint of rank 0 with it.
    fn interrupted(&self) -> Error {
        let asked = self.world.gather(&[u8::from(self.asked)]);
        let mut ranks: Vec<usize> = (0..asked.len()).filter(|&rank| asked[rank] == [1]).collect();
        if ranks.len() == asked.len() {
            ranks.clear();
        }
        Error::Interrupted { finished: self.progress.epochs.len() as u32, step: self.progress.step, ranks }
    }
}

fn copies(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    Ok(tensors.iter().map(Tensor::copy).collect::<candle_core::Result<_>>()?)
}
