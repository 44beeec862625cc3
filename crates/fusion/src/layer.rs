//! The fusion layer in training.

use std::ops::ControlFlow;

use candle_core::{Device, Module, Tensor};
use candle_nn::Linear;
use cxr::Labels;
use model::fusion::{BIAS, FusionLayer, WEIGHT};
use nets::{Examples, Params, Trainable, Validation};

use crate::score::logits_of;
use crate::standard::Standard;
use crate::{Error, Samples};

/// Weight `[15, D]` and bias `[15]`, for standardised features if there is a standard.
pub(crate) struct Layer<'a> {
    params: Params,
    standard: Option<&'a Standard>,
}

impl<'a> Layer<'a> {
    /// `start` is a layer for features as they are.
    pub(crate) fn new(start: &Linear, standard: Option<&'a Standard>) -> Result<Layer<'a>, Error> {
        let start = match standard {
            Some(standard) => standard.of_plain(start)?,
            None => start.clone(),
        };
        let bias = start.bias().map(|bias| (BIAS, bias));
        let tensors: Vec<(&str, &Tensor)> = std::iter::once((WEIGHT, start.weight())).chain(bias).collect();
        Ok(Layer { params: Params::trained_from(&tensors)?, standard })
    }

    /// The layer as it is now, for the features that it is trained on; it changes with the next step.
    fn linear(&self) -> Result<Linear, nets::Error> {
        let weight = self.params.named(WEIGHT).cloned();
        let weight = weight.ok_or_else(|| candle_core::Error::Msg(format!("no {WEIGHT}")))?;
        Ok(Linear::new(weight, self.params.named(BIAS).cloned()))
    }

    /// A copy of the layer as it is now, for features as they are.
    pub(crate) fn plain(&self) -> Result<Linear, nets::Error> {
        let layer = self.linear()?;
        Ok(match self.standard {
            Some(standard) => standard.to_plain(&layer)?,
            None => Linear::new(layer.weight().copy()?, layer.bias().map(Tensor::copy).transpose()?),
        })
    }
}

/// Rows of features, to train on and to validate on.
pub(crate) struct TrainingRows<'a> {
    pub(crate) samples: &'a Samples,
    /// Positions of the training images.
    pub(crate) train: Vec<usize>,
    /// Positions of the validation images.
    pub(crate) validation: Vec<usize>,
    pub(crate) standard: Option<&'a Standard>,
    pub(crate) device: &'a Device,
}

impl Examples for TrainingRows<'_> {
    /// Features `[n, D]` and targets `[n, 15]`.
    type Batch = (Tensor, Tensor);

    fn count(&self) -> usize {
        self.train.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.samples.rows()[self.train[index]].key.labels
    }

    fn batches(
        &self,
        _epoch: usize,
        order: &[usize],
        batch: usize,
        take: &mut dyn FnMut(Self::Batch) -> nets::Result<()>,
    ) -> nets::Result<()> {
        for order in order.chunks(batch) {
            let indices: Vec<usize> = order.iter().map(|&index| self.train[index]).collect();
            let mut inputs = self.samples.inputs(&indices);
            if let Some(standard) = self.standard {
                standard.apply(&mut inputs);
            }
            let inputs = Tensor::from_vec(inputs, (indices.len(), self.samples.dim()), self.device)?;
            take((inputs, self.samples.targets(&indices, self.device)?))?;
        }
        Ok(())
    }
}

impl Trainable<TrainingRows<'_>> for Layer<'_> {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn loss_and_grads(&mut self, (inputs, targets): (Tensor, Tensor)) -> nets::Result<(Tensor, Vec<Tensor>)> {
        let logits = self.linear()?.forward(&inputs)?;
        let (loss, error) = ops::bce_with_logits(&logits, &targets)?;
        Ok((loss, vec![error.t()?.matmul(&inputs)?, error.sum(0)?]))
    }

    fn validate(
        &self,
        rows: &TrainingRows,
        go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> nets::Result<Validation> {
        let plain = self.plain()?;
        let layer = FusionLayer::new(plain.weight(), plain.bias())?;
        let logits = logits_of(&layer, rows.samples, &rows.validation, go_on)?;
        let labels: Vec<Labels> = rows.validation.iter().map(|&index| rows.samples.rows()[index].key.labels).collect();
        Ok(Validation { logits, labels })
    }
}
