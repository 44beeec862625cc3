//! The gradients of one backward pass.

use candle_core::Tensor;
use ops::nccl::Nccl;

use crate::error::Result;
use crate::layers::params::{ParamId, Params};
use crate::layers::share::Share;
use crate::nccl;

/// Values from which on gradients are added up over the ranks' GPUs, 16 MB: enough for NCCL to be fast, and less than the
/// networks have, so that most of them are on their way while the backward pass goes on.
const BUCKET: usize = 4 << 20;

/// Gradients under construction, by parameter. Where the ranks of a job are linked by their GPUs, those of the whole batch,
/// which are there when the device's stream waited for the link ([`Nccl::wait`]).
#[derive(Debug)]
pub(crate) struct Gradients {
    done: Vec<(ParamId, Tensor)>,
    /// Of this rank alone, and how many values they have.
    waiting: (Vec<(ParamId, Tensor)>, usize),
    link: Option<(&'static Nccl, Share)>,
}

impl Gradients {
    /// Of the batch at hand of `params`.
    pub(crate) fn new(params: &Params) -> Self {
        let link = params.share().and_then(|share| Some((nccl::of(params.device())?, *share)));
        Gradients { done: Vec::new(), waiting: (Vec::new(), 0), link }
    }

    pub(crate) fn put(&mut self, id: ParamId, grad: Tensor) -> Result<()> {
        self.waiting.1 += grad.elem_count();
        self.waiting.0.push((id, grad));
        if self.waiting.1 < BUCKET { Ok(()) } else { self.send() }
    }

    /// Starts to add up what waits.
    fn send(&mut self) -> Result<()> {
        let (waiting, _) = std::mem::take(&mut self.waiting);
        let Some((nccl, share)) = self.link else {
            self.done.extend(waiting);
            return Ok(());
        };
        let tensors: Vec<&Tensor> = waiting.iter().map(|(_, grad)| grad).collect();
        let sums = nccl::sums(nccl, share.world(), &tensors, 1.0)?;
        self.done.extend(waiting.iter().map(|(id, _)| *id).zip(sums));
        Ok(())
    }

    /// The gradients in the order of [`Params::trained`]; every parameter must have got one.
    pub(crate) fn finish(mut self, params: &Params) -> Result<Vec<Tensor>> {
        self.send()?;
        if self.link.is_some() {
            params.set_summed();
        }
        let one = |(id, name, _): (ParamId, &str, &Tensor)| {
            let at = self.done.iter().position(|(other, _)| *other == id);
            let at = at.unwrap_or_else(|| panic!("{name} has no gradient")); // a trunk that forgot a layer
            self.done.swap_remove(at).1
        };
        Ok(params.trained().map(one).collect())
    }
}
