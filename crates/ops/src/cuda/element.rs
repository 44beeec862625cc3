//! The element types of activations on CUDA.

use candle_core::cuda_backend::{
    CudaDType,
    cudarc::{cudnn::CudnnDataType, driver::DeviceRepr},
};
use half::bf16;

/// A type in which CUDA kernels store activations: `f32` or bf16.
pub(crate) trait OnCuda: CudaDType + DeviceRepr + CudnnDataType + candle_core::WithDType {
    /// The type's part of the kernels' names.
    const NAME: &'static str;
    /// Elements in 16 bytes, which a thread loads at once.
    const VECTOR: usize;
}

impl OnCuda for f32 {
    const NAME: &'static str = "f32";
    const VECTOR: usize = 4;
}

impl OnCuda for bf16 {
    const NAME: &'static str = "bf16";
    const VECTOR: usize = 8;
}
