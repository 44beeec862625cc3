//! Moving averages of parameters, in place.

use candle_core::{DType, Result, Tensor};

use crate::{error::Error, inplace::Each2, trace, view::check_shape};

/// Moves every average towards its value, in place: `average = decay average + (1 - decay) value`, computed as PyTorch's
/// `lerp_` does; a decay of 0 copies the value.
///
/// # Shapes
///
/// An average and its value are contiguous `f32` of one shape.
///
/// # Errors
///
/// The shapes of a pair differ, or it shares storage.
pub fn average_steps(pairs: &[(&Tensor, &Tensor)], decay: f64) -> Result<()> {
    let op = "average_steps";
    for (average, value) in pairs {
        check_shape(op, "value", value, average.dims())?;
        for (name, tensor) in [("average", average), ("value", value)] {
            if !tensor.is_contiguous() {
                let (shape, strides) = (tensor.shape().clone(), tensor.stride().to_vec());
                return Err(Error::Strided { op, name, shape, strides }.into());
            }
            if tensor.dtype() != DType::F32 {
                return Err(Error::Type { op, name, expected: DType::F32, got: tensor.dtype() }.into());
            }
        }
    }
    let weight = (1.0 - decay) as f32;
    #[cfg(feature = "cuda")]
    if pairs.first().is_some_and(|(average, _)| average.device().is_cuda()) {
        let tensors = pairs.iter().flat_map(|&(average, value)| [average, average, value]);
        let _span = trace::pass(op, &tensors.collect::<Vec<_>>());
        return crate::cuda::average(op, pairs, weight);
    }
    pairs.iter().try_for_each(|(average, value)| {
        let _span = trace::pass(op, &[average, average, value]);
        if weight < 0.5 {
            average.inplace_op2(value, &Each2 { name: op, f: move |a: f32, v: f32| a + weight * (v - a) })
        } else {
            average.inplace_op2(value, &Each2 { name: op, f: move |a: f32, v: f32| v - (v - a) * (1.0 - weight) })
        }
    })
}
