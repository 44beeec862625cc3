//! The named tensors of a model.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::layers::share::Share;

/// Which tensor of a [`Params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParamId(usize);

/// One tensor.
#[derive(Debug)]
struct Entry {
    /// torchvision's name, where torchvision has the model.
    name: String,
    tensor: Tensor,
    /// Has a gradient; otherwise a running statistic.
    trained: bool,
    /// A convolution's weights in another type that it computes in; the optimiser writes both.
    copy: Option<Tensor>,
}

/// All tensors of a model, in a fixed order. Optimisers write into their storage, so nothing else may keep it.
#[derive(Debug, Default)]
pub struct Params {
    entries: Vec<Entry>,
    /// Whether convolutions of `f32` may use TF32 on CUDA.
    tf32: bool,
    /// Whether batch norms are those of the part of a batch that is here, not of the whole batch.
    norms_apart: bool,
    /// What is here of the batch at hand, where several ranks share it.
    share: Option<Share>,
    /// Whether the gradients of that batch were added up over the ranks as they were made.
    summed: AtomicBool,
}

impl Params {
    /// Takes copies of `f32` tensors, all of which are trained.
    ///
    /// # Errors
    /// If the device fails.
    pub fn trained_from(tensors: &[(&str, &Tensor)]) -> Result<Params> {
        let mut params = Params::default();
        for (name, tensor) in tensors {
            params.push((*name).to_owned(), tensor.copy()?, true);
        }
        Ok(params)
    }

    /// The tensor called `name`. A clone of it shares its storage and changes with the next training step.
    pub fn named(&self, name: &str) -> Option<&Tensor> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.tensor)
    }

    /// Where the tensors live.
    pub fn device(&self) -> &Device {
        self.entries.first().map_or(&Device::Cpu, |entry| entry.tensor.device())
    }

    /// Appends a tensor whose storage nothing else has.
    pub(crate) fn push(&mut self, name: String, tensor: Tensor, trained: bool) -> ParamId {
        self.entries.push(Entry { name, tensor, trained, copy: None });
        ParamId(self.entries.len() - 1)
    }

    pub(crate) fn name(&self, id: ParamId) -> &str {
        &self.entries[id.0].name
    }

    pub(crate) fn get(&self, id: ParamId) -> &Tensor {
        &self.entries[id.0].tensor
    }

    /// A convolution's weights in the type that it computes in.
    pub(crate) fn weights(&self, id: ParamId) -> &Tensor {
        let entry = &self.entries[id.0];
        entry.copy.as_ref().unwrap_or(&entry.tensor)
    }

    pub(crate) fn tf32(&self) -> bool {
        self.tf32
    }

    /// Allows or forbids TF32 in this model's convolutions.
    pub(crate) fn allow_tf32(&mut self, tf32: bool) {
        self.tf32 = tf32;
    }

    /// Whether each rank's batch norms are its own.
    pub(crate) fn norms_apart(&self) -> bool {
        self.norms_apart
    }

    /// Chooses whether the batch norms of several ranks are those of the whole batch, as at first, or each rank's own.
    pub(crate) fn norm_apart(&mut self, apart: bool) {
        self.norms_apart = apart;
    }

    /// What is here of the batch at hand; `None` where all of it is.
    pub(crate) fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// Says what is here of the next batch.
    pub(crate) fn set_share(&mut self, share: Option<Share>) {
        self.share = share;
        *self.summed.get_mut() = false;
    }

    /// Says that the gradients of the batch at hand are added up over the ranks, or about to be.
    pub(crate) fn set_summed(&self) {
        self.summed.store(true, Ordering::Relaxed);
    }

    /// Whether [`Params::set_summed`] said so.
    pub(crate) fn are_summed(&self) -> bool {
        self.summed.load(Ordering::Relaxed)
    }

    /// The share of the batch over whose whole batch norms are to be taken.
    pub(crate) fn norm_share(&self) -> Option<&Share> {
        self.share.as_ref().filter(|_| !self.norms_apart)
    }

    /// The tensors that have no gradient: running statistics.
    pub(crate) fn statistics(&self) -> Vec<&Tensor> {
        self.entries.iter().filter(|entry| !entry.trained).map(|entry| &entry.tensor).collect()
    }

    /// Keeps copies of all convolutions' weights in `dtype`, or none if that is `f32`.
    pub(crate) fn keep_copies(&mut self, dtype: DType) -> Result<()> {
        for entry in self.entries.iter_mut().filter(|entry| entry.tensor.rank() == 4) {
            entry.copy = (dtype != DType::F32).then(|| entry.tensor.to_dtype(dtype)).transpose()?;
        }
        Ok(())
    }

    /// The copies, in the order of [`Params::trained`].
    pub(crate) fn copies(&self) -> Vec<Option<&Tensor>> {
        self.entries.iter().filter(|entry| entry.trained).map(|entry| entry.copy.as_ref()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every name and tensor, running statistics included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), &entry.tensor))
    }

    /// The tensors that have a gradient.
    pub(crate) fn trained(&self) -> impl Iterator<Item = (ParamId, &str, &Tensor)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.trained)
            .map(|(index, entry)| (ParamId(index), entry.name.as_str(), &entry.tensor))
    }

    /// All tensors but the last `count`, as they are: for [`Params::replace`].
    pub(crate) fn all_but_last(&self, count: usize) -> Vec<Tensor> {
        let kept = self.len().saturating_sub(count);
        self.entries[..kept].iter().map(|entry| entry.tensor.clone()).collect()
    }

    /// Replaces every tensor, in the order of [`Params::iter`].
    ///
    /// # Errors
    /// Another number of tensors or another shape.
    pub(crate) fn replace(&mut self, tensors: Vec<Tensor>) -> Result<()> {
        self.check(&tensors)?;
        for (entry, tensor) in self.entries.iter_mut().zip(tensors) {
            if let Some(copy) = &mut entry.copy {
                *copy = tensor.to_dtype(copy.dtype())?;
            }
            entry.tensor = tensor;
        }
        Ok(())
    }

    /// Refuses what [`Params::replace`] would refuse.
    pub(crate) fn check(&self, tensors: &[Tensor]) -> Result<()> {
        if tensors.len() != self.len() {
            return Err(Error::shape("tensors", self.len(), tensors.len()));
        }
        for (entry, tensor) in self.entries.iter().zip(tensors) {
            if entry.tensor.dims() != tensor.dims() {
                let (expected, got) = (entry.tensor.dims(), tensor.dims());
                return Err(Error::shape(&entry.name, format!("{expected:?}"), format!("{got:?}")));
            }
        }
        Ok(())
    }

    /// Copies of every tensor, in the order of [`Params::iter`].
    pub(crate) fn snapshot(&self) -> Result<Vec<Tensor>> {
        let copies = self.entries.iter().map(|entry| entry.tensor.copy());
        Ok(copies.collect::<candle_core::Result<_>>()?)
    }
}
