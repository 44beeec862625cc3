//! The tensors of an optimiser step.

use candle_core::{DType, Result, Tensor};

use crate::{error::Error, view::check_shape};

/// A parameter, its gradient and its optimiser state, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The parameter, updated in place.
    pub param: &'a Tensor,
    /// The gradient: `f32`, on CUDA also bf16.
    pub grad: &'a Tensor,
    /// Momentum (SGD) or the first moment (AdamW), updated in place.
    pub first: &'a Tensor,
    /// The second moment (AdamW), updated in place; `None` for SGD.
    pub second: Option<&'a Tensor>,
    /// A bf16 copy of the parameter that is updated with it, on CUDA only.
    pub copy: Option<&'a Tensor>,
}

impl Step<'_> {
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let operands = [
            ("param", Some(self.param)),
            ("grad", Some(self.grad)),
            ("first", Some(self.first)),
            ("second", self.second),
            ("copy", self.copy),
        ];
        for (name, tensor) in operands {
            let Some(tensor) = tensor else { continue };
            check_shape(op, name, tensor, self.param.dims())?;
            if !tensor.is_contiguous() {
                let (shape, strides) = (tensor.shape().clone(), tensor.stride().to_vec());
                return Err(Error::Strided { op, name, shape, strides }.into());
            }
            let half = name == "copy" || (name == "grad" && tensor.device().is_cuda() && tensor.dtype() == DType::BF16);
            let (expected, got) = (if half { DType::BF16 } else { DType::F32 }, tensor.dtype());
            if got != expected {
                return Err(Error::Type { op, name, expected, got }.into());
            }
        }
        Ok(())
    }
}
