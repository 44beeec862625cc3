//! Training a network on images.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};
use cxr::{EvalFrame, Labels};
use ops::augment::AugmentParams;

use crate::augment::training;
use crate::data::Images;
use crate::error::Result;
use crate::evaluate::{check, logits};
use crate::identity::Identity;
use crate::layers::params::Params;
use crate::loader::Loader;
use crate::losses::Objective;
use crate::models::network::Network;
use crate::recipe::ImageRecipe;
use crate::train::{Checkpoints, Event, Examples, Fit, Trainable, Validation, fit};

/// Trains `network`, which has its initial weights, on `train`, as [`fit`] does; `validation` chooses the epoch.
///
/// `identity` should hold the [`ImageRecipe::model`] of `images`.
///
/// # Errors
/// As [`fit`]; an input that the images do not hold, or that is too small for the network.
pub fn fit_network(
    network: &mut Network,
    train: &Images,
    validation: &Images,
    images: &ImageRecipe,
    identity: &Identity,
    checkpoints: &Checkpoints,
    watch: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Fit> {
    images.check(network.backbone().min_side())?;
    identity.recipe.check_validated(!validation.is_empty())?;
    let frame = EvalFrame { crop: images.crop, image_px: train.size(), input_px: images.input_px };
    check(validation, frame)?;
    network.set_precision(images.precision)?;
    let data = TrainingImages {
        train: Loader::new(train, network.device())?,
        validation: Loader::new(validation, network.device())?,
        recipe: images,
        objective: identity.recipe.objective(),
        frame,
        seed: identity.recipe.seed,
        batch: identity.recipe.batch,
        dtype: network.activations(),
    };
    fit(network, &data, identity, checkpoints, watch)
}

/// Images on their way to a network.
struct TrainingImages<'a> {
    train: Loader<'a>,
    validation: Loader<'a>,
    recipe: &'a ImageRecipe,
    objective: Objective,
    frame: EvalFrame,
    /// Of the augmentation.
    seed: u64,
    /// Validation images at a time.
    batch: usize,
    /// Type of the inputs.
    dtype: DType,
}

impl Examples for TrainingImages<'_> {
    /// Inputs `[n, S, S, 3]`, targets `[n, 15]`, and the loss.
    type Batch = (Tensor, Tensor, Objective);

    fn count(&self) -> usize {
        self.train.images().len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.train.images().labels()[index]
    }

    fn batches(
        &self,
        epoch: usize,
        order: &[usize],
        batch: usize,
        take: &mut dyn FnMut(Self::Batch) -> Result<()>,
    ) -> Result<()> {
        let (size, recipe) = (self.train.images().size(), self.recipe);
        let one = |&index: &usize| training(size, index, recipe, self.seed, epoch as u64);
        let params: Vec<AugmentParams> = order.iter().map(one).collect();
        let take = &mut |_, x, targets| take((x, targets, self.objective));
        self.train.each(&params, recipe.side(epoch), batch, self.dtype, take)
    }
}

impl Trainable<TrainingImages<'_>> for Network {
    fn params(&self) -> &Params {
        Network::params(self)
    }

    fn params_mut(&mut self) -> &mut Params {
        Network::params_mut(self)
    }

    fn loss_and_grads(
        &mut self,
        (x, targets, objective): (Tensor, Tensor, Objective),
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (loss, grads) = self.objective_and_grads(&x, &targets, objective)?;
        Ok((loss, grads.tensors))
    }

    fn validate(&self, data: &TrainingImages, go_on: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<Validation> {
        let part = ranks::world().part(data.validation.images().len());
        let logits = logits(self, &data.validation, part, data.frame, data.batch, go_on)?;
        Ok(Validation { logits, labels: data.validation.images().labels().to_vec() })
    }
}
