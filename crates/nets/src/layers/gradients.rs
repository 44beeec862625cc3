//! The gradients of one backward pass.

use candle_core::Tensor;

use crate::layers::params::{ParamId, Params};

/// Gradients under construction, by parameter.
#[derive(Debug)]
pub(crate) struct Gradients(Vec<(ParamId, Tensor)>);

impl Gradients {
    pub(crate) fn new() -> Self {
        Gradients(Vec::new())
    }

    pub(crate) fn put(&mut self, id: ParamId, grad: Tensor) {
        self.0.push((id, grad));
    }

    /// The gradients in the order of [`Params::trained`]; every parameter must have got one.
    pub(crate) fn finish(mut self, params: &Params) -> Vec<Tensor> {
        params
            .trained()
            .map(|(id, name, _)| {
                let at = self.0.iter().position(|(other, _)| *other == id);
                let at = at.unwrap_or_else(|| panic!("{name} has no gradient")); // a trunk that forgot a layer
                self.0.swap_remove(at).1
            })
            .collect()
    }
}
