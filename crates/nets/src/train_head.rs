//! Training the linear layer behind a frozen trunk, on features that were computed before.

use std::ops::{ControlFlow, Range};

use candle_core::{Device, Tensor};
use cxr::{Labels, OUTPUTS};

use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::layers::params::Params;
use crate::losses::Objective;
use crate::models::network::{Network, by_row};
use crate::train::{Checkpoints, Event, Examples, Fit, Trainable, Validation, fit};

/// Rows scored at a time.
const CHUNK: usize = 1024;

/// Pooled features of images, and what the images show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureRows {
    /// K, the features of an image.
    pub dim: usize,
    /// `[N, K]`, row-major.
    pub pool: Vec<f32>,
    /// By image.
    pub labels: Vec<Labels>,
}

impl FeatureRows {
    /// The features of some images, `[indices, K]`.
    fn inputs(&self, indices: &[usize], device: &Device) -> Result<Tensor> {
        let values: Vec<f32> =
            indices.iter().flat_map(|&index| &self.pool[index * self.dim..][..self.dim]).copied().collect();
        Ok(Tensor::from_vec(values, (indices.len(), self.dim), device)?)
    }
}

/// Trains the linear layer of `network`, which has its initial weights, on `train`, as [`fit`] does; `validation` chooses
/// the epoch. The trunk stays as it is and does not run: an epoch of thousands of images takes a second.
///
/// # Errors
/// As [`fit`]; features of another number than the layer's.
pub fn fit_head(
    network: &mut Network,
    train: &FeatureRows,
    validation: &FeatureRows,
    identity: &Identity,
    checkpoints: &Checkpoints,
    watch: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Fit> {
    let dim = network.backbone().channels();
    for rows in [train, validation] {
        if rows.pool.len() != rows.labels.len() * dim {
            let got = format!("{} for {} images", rows.pool.len(), rows.labels.len());
            return Err(Error::shape("features", format!("{dim} an image"), got));
        }
    }
    let device = network.device().clone();
    let rows = HeadRows { train, validation, device: &device };
    let (params, objective) = (Params::trained_from(&network.linear())?, identity.recipe.objective());
    let mut head = Head { params, objective, network };
    let fit = fit(&mut head, &rows, identity, checkpoints, watch)?;
    head.put()?;
    Ok(fit)
}

/// The linear layer: weight `[15, K]`, bias `[15]`.
struct Head<'a> {
    params: Params,
    /// What is minimised.
    objective: Objective,
    /// Whose layer it is.
    network: &'a mut Network,
}

impl Head<'_> {
    /// The layer as it is now; clones change with the next step.
    fn tensors(&self) -> [Tensor; 2] {
        let [weight, bias] = self.network.linear().map(|(name, _)| name);
        [weight, bias].map(|name| self.params.named(name).cloned().unwrap_or_else(|| unreachable!("made of the two")))
    }

    /// Gives the network a copy of the layer.
    fn put(&mut self) -> Result<()> {
        let [weight, bias] = self.tensors();
        self.network.set_linear(weight.copy()?, bias.copy()?)
    }
}

struct HeadRows<'a> {
    train: &'a FeatureRows,
    validation: &'a FeatureRows,
    device: &'a Device,
}

impl Examples for HeadRows<'_> {
    /// Features `[n, K]` and targets `[n, 15]`.
    type Batch = (Tensor, Tensor);

    fn count(&self) -> usize {
        self.train.labels.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.train.labels[index]
    }

    fn batches(
        &self,
        _epoch: usize,
        order: &[usize],
        batch: usize,
        take: &mut dyn FnMut(Self::Batch) -> Result<()>,
    ) -> Result<()> {
        order.chunks(batch).try_for_each(|order| {
            let labels = order.iter().map(|&index| self.train.labels[index]);
            let targets: Vec<f32> = labels.flat_map(|labels| labels.outputs().map(ops::target)).collect();
            let targets = Tensor::from_vec(targets, (order.len(), OUTPUTS), self.device)?;
            take((self.train.inputs(order, self.device)?, targets))
        })
    }
}

impl<'a> Trainable<HeadRows<'a>> for Head<'_> {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn loss_and_grads(&mut self, (inputs, targets): (Tensor, Tensor)) -> Result<(Tensor, Vec<Tensor>)> {
        let [weight, bias] = self.tensors();
        let logits = inputs.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        let (loss, error) = self.objective.of_share(&logits, &targets, self.params.share())?;
        Ok((loss, vec![error.t()?.matmul(&inputs)?, error.sum(0)?]))
    }

    fn validate(&self, rows: &HeadRows<'a>, go_on: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<Validation> {
        let [weight, bias] = self.tensors();
        let part = ranks::world().part(rows.validation.labels.len());
        let logits = scored(rows.validation, part, rows.device, go_on, &|pool| by_row(pool, &weight, &bias))?;
        Ok(Validation { logits, labels: rows.validation.labels.clone() })
    }
}

/// The logits of all rows by a network's linear layer, as [`Network::forward_eval`] gives them for the images. `go_on` gets
/// the number of rows that are done, now and then.
///
/// # Errors
/// [`Error::Stopped`] if `go_on` breaks; the device fails.
pub fn score_features(
    network: &Network,
    rows: &FeatureRows,
    go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<[f32; OUTPUTS]>> {
    scored(rows, 0..rows.labels.len(), network.device(), go_on, &|pool| network.logits(pool))
}

fn scored(
    rows: &FeatureRows,
    which: Range<usize>,
    device: &Device,
    go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    logits: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Vec<[f32; OUTPUTS]>> {
    let indices: Vec<usize> = which.collect();
    let mut all: Vec<[f32; OUTPUTS]> = Vec::with_capacity(indices.len());
    for chunk in indices.chunks(CHUNK) {
        let logits = logits(&rows.inputs(chunk, device)?)?;
        all.extend(logits.flatten_all()?.to_vec1::<f32>()?.as_chunks().0);
        if go_on(all.len()).is_break() {
            return Err(Error::Stopped);
        }
    }
    Ok(all)
}
