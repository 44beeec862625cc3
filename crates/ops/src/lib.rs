//! Operators for the forward and backward pass of convolutional networks on candle's tensors.
//!
//! They replace operators that upstream candle (0.11.1) lacks, or has slow or wrong: with its convolutions a ResNet-50 trains
//! more than ten times slower on a CPU than with PyTorch's; an overlapping max pool has no gradient, any other max pool a wrong
//! one (scaled by 1/k²); and the gradient of a maximum goes to every tie.
//!
//! # Layout
//!
//! Every tensor is contiguous. Activations are channels-last `[N, H, W, C]`, convolution weights
//! `[Co, kh, kw, Ci]` ("OHWI"), per-channel vectors `[C]`.
//!
//! Activations and their gradients are `f32` or bf16; everything else (weights and their gradients, statistics, sums) is
//! `f32`. A convolution multiplies in the type of its activations: bf16 has three decimal digits instead of seven, half the
//! memory traffic, and on CUDA and on a CPU with fast instructions for it ([`bf16_is_fast`]) up to twice the speed. On CUDA, `f32` factors
//! may be rounded to TF32; each call decides this ([`Conv::tf32`]).
//!
//! # No graph
//!
//! Forward and backward passes are separate functions (`conv2d_forward`, `conv2d_weight_grad`, ...), for backward passes
//! written by hand: no result carries a node of candle's autograd, and nothing is saved implicitly.
//!
//! # Two back ends
//!
//! An operator computes where its tensors are. On a CPU the kernels are written in Rust with vector instructions; on CUDA
//! (feature `cuda`) cuDNN convolves, and the kernels in `cuda/` do everything else. Definitions, checks and tests are the
//! same (`AGCNN_DEVICE=cuda` runs the tests on CUDA). Two things differ on CUDA: cuDNN cannot normalise while it loads, so a
//! normalised input of a convolution is stored first; and weight gradients have the type of the activations.
//!
//! # Determinism
//!
//! On one machine the same input gives the same bits with any number of threads: sums are split into parts whose sizes
//! depend on the shapes alone, and the parts are added in order. Different instruction sets differ only in rounding.
//!
//! # Profiles
//!
//! Every operator of a training step opens a [`tracing`] span at level `TRACE`: target `ops`, name `op`, fields `op`,
//! `shape`, `flop` (multiplications and additions of a convolution) and `bytes` (each operand once). Without a subscriber it
//! costs nothing.
//!
//! # Files
//!
//! | question | module |
//! |---|---|
//! | operators: checks, choice of the back end | `conv`, `norm`, `pool`, `loss`, `optim`, [`augment`] |
//! | their kernels on a CPU | `kernel` |
//! | their launches on CUDA | `cuda` |
//! | memory and devices | [`memory`], `device` (feature `cuda`), [`transfer`] |
//! | what GPUs of several processes say to each other | [`nccl`] (feature `nccl`) |
//! | how fast a convolution can be | [`roofline`] |
//!
//! # Errors
//!
//! Every operator returns [`candle_core::Result`]. A wrong argument (shape, type, layout, device) is an [`Error`] wrapped in
//! [`candle_core::Error`]; it names the operator, the argument, what was expected and what it got.

// The kernels need raw pointers and CPU intrinsics; each `unsafe` block says why it is sound.
#![allow(unsafe_code)]

pub mod augment;
mod buffer;
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub mod device;
mod error;
#[cfg(any(feature = "cuda", test))]
#[path = "cuda/grid.rs"]
mod grid;
mod inplace;
mod input;
mod kernel;
mod loss;
pub mod memory;
pub mod nccl;
mod norm;
mod optim;
mod pool;
pub mod roofline;
mod trace;
pub mod transfer;
mod view;

pub use conv::{
    Conv, Weights, conv2d_bias_act, conv2d_forward, conv2d_input_grad, conv2d_norm, conv2d_stats, conv2d_weight_grad,
};
pub use error::Error;
pub use input::{Affine, Input, activations};
pub use kernel::{Isa, bf16_is_fast, isa};
pub use loss::{
    bce_with_logits,
    focus::{ClassWeights, Focus},
    focused_bce_with_logits, target,
};
pub use norm::{
    BatchNorm, BatchNormGrads, BatchStats, Whole, batch_norm_backward, batch_norm_backward_add, batch_norm_forward,
    batch_stats, normalised_sum,
};
pub use optim::{
    Step, adamw_steps,
    average::average_steps,
    clip::{clip_by_norm, norm},
    sgd_steps,
};
pub use pool::{
    Pool, avg_pool_backward, avg_pool_forward, global_pool_backward, global_pool_forward, max_pool_backward,
    max_pool_forward,
};
