//! The operators of a network's forward and backward pass on candle's tensors, which upstream lacks or has slow or wrong.
//!
//! Upstream candle (0.11.1) convolves in a way that trains a ResNet-50 on a CPU more than ten times slower than PyTorch
//! does, has no gradient for an overlapping max pool and a wrong one (scaled by 1/k²) for the other kind, and sends the
//! gradient of a maximum to every tie. The operators here replace those.
//!
//! # Layout
//!
//! Every tensor is contiguous. Activations are channels-last `[N, H, W, C]`, convolution weights
//! `[Co, kh, kw, Ci]` ("OHWI"), per-channel vectors `[C]`.
//!
//! Activations and their gradients are `f32` or bf16; everything else (weights and their gradients, statistics, sums) is
//! `f32`. A convolution multiplies in what its activations are stored in: bf16 has three digits instead of seven, half
//! the memory traffic, and on CUDA and on a CPU with AVX512-BF16 ([`has_bf16`]) more than twice the speed.
//!
//! # No graph
//!
//! Forward and backward passes are functions of their own (`conv2d_forward`, `conv2d_weight_grad`, ...), for passes
//! written by hand: nothing returned carries a node of candle's autograd, and nothing is kept that is not asked for.
//!
//! # Two back ends
//!
//! An operator computes where its tensors are. On a CPU the kernels are written in Rust with the CPU's own instructions;
//! on CUDA (feature `cuda`) cuDNN convolves, and the kernels of `cuda/kernels.cu` do everything between convolutions.
//! Definitions, checks and tests are the same (`AGCNN_DEVICE=cuda` runs them there). Two things differ: on CUDA nothing
//! can be normalised on the way into a convolution for free, so what is read there is stored first; and weight gradients
//! are of the type of the activations.
//!
//! # Determinism
//!
//! On one machine the same input gives the same bits whatever the number of threads: sums are split into parts whose
//! sizes follow from the shapes alone, and the parts are added in order. Instruction sets differ from one another by
//! rounding only.
//!
//! # Profiles
//!
//! Every operator of a training step is a [`tracing`] span at level `TRACE`: target `ops`, name `op`, with fields `op`,
//! `shape`, `flop` (multiplications and additions of a convolution) and `bytes` (each operand once). Where nobody
//! listens it costs nothing.
//!
//! # Errors
//!
//! Everything returns [`candle_core::Result`]; what this crate itself refuses (shape, type, layout, device) is an
//! [`Error`] wrapped in [`candle_core::Error`], and names the operator, the argument, what was expected and what came.

// The kernels are the one place in the workspace that needs raw pointers and CPU intrinsics; each block says why it is sound.
#![allow(unsafe_code)]

mod buffer;
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
mod error;
pub mod host;
mod input;
mod kernel;
mod loss;
mod norm;
mod optim;
mod pool;
mod trace;
mod view;
mod views;

pub use conv::{
    Conv, Weights, conv2d_bias_act, conv2d_forward, conv2d_input_grad, conv2d_norm, conv2d_stats, conv2d_weight_grad,
};
pub use error::Error;
pub use input::{Affine, Input};
pub use kernel::{Isa, has_bf16, isa};
pub use loss::bce_with_logits;
pub use norm::{
    BatchNorm, BatchNormGrads, BatchStats, batch_norm_backward, batch_norm_backward_add, batch_norm_forward,
    batch_stats, normalised_sum,
};
pub use optim::{Step, adamw_steps, sgd_steps};
pub use pool::{
    Pool, avg_pool_backward, avg_pool_forward, global_pool_backward, global_pool_forward, max_pool_backward,
    max_pool_forward,
};
pub use views::{Colours, Draw};
#[cfg(feature = "cuda")]
pub use views::{Draws, views};
