//! Errors of the operators.

use candle_core::{DType, Shape};

/// A wrong argument of an operator. Converts into [`candle_core::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tensor is on another device.
    #[error("{op}: `{name}` must be where the other operands are, got {got}")]
    Device {
        /// The operator.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// The device of the tensor.
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
        /// The type of the tensor.
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
        /// The shape the operator takes, in words or numbers.
        expected: String,
        /// The shape of the tensor.
        got: Vec<usize>,
    },
    /// A value is out of range.
    #[error("{op}: `{name}` must be {expected}, got {got}")]
    Parameter {
        /// The operator.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// The range the operator takes, in words.
        expected: String,
        /// The value.
        got: String,
    },
}

impl Error {
    /// Every variant is a wrong argument.
    pub fn kind(&self) -> std::io::ErrorKind {
        std::io::ErrorKind::InvalidInput
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        candle_core::Error::wrap(error)
    }
}
