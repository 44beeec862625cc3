//! What the operators refuse, and how they say so.

use candle_core::{DType, Shape};

/// An argument an operator cannot take. Converts into [`candle_core::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tensor lives on another device.
    #[error("{op}: `{name}` must be where the other operands are, got {got}")]
    Device {
        /// The operator.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Where it is.
        got: String,
    },
    /// The tensor has another element type.
    #[error("{op}: `{name}` must be {expected:?}, got {got:?}")]
    Type {
        /// The operator.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// The type the kernel reads.
        expected: DType,
        /// The type that came.
        got: DType,
    },
    /// The tensor is a strided view.
    #[error("{op}: `{name}` must be contiguous, got shape {shape:?} with strides {strides:?}")]
    Strided {
        /// The operator.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its shape.
        shape: Shape,
        /// Its strides, in elements.
        strides: Vec<usize>,
    },
    /// The tensor has another shape.
    #[error("{op}: `{name}` must have shape {expected}, got {got:?}")]
    Shape {
        /// The operator.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// The shape in words or numbers.
        expected: String,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A number is out of range.
    #[error("{op}: `{name}` must be {expected}, got {got}")]
    Parameter {
        /// The operator.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// The range in words.
        expected: String,
        /// The number that came.
        got: String,
    },
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        candle_core::Error::wrap(error)
    }
}
