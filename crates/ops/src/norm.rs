//! Batch normalisation fused with the residual sum and the ReLU that follow it.
//!
//! Over all pixels of a batch, per channel: `y = relu(gamma * (x - mean) * inv_std + beta + residual)`.
//! Sums over pixels are taken in `f32` within a strip of rows and in `f64` across strips; the shape decides the strips.

mod backward;
mod forward;
mod sums;
pub(crate) mod types;

#[cfg(feature = "cuda")]
pub(crate) use self::forward::stats_on_cuda;
pub use self::{
    backward::{batch_norm_backward, batch_norm_backward_add},
    forward::{batch_norm_forward, batch_stats, normalised_sum},
    types::{BatchNorm, BatchNormGrads, BatchStats, Whole},
};
