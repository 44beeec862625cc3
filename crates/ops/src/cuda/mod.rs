//! The operators on CUDA: cuDNN convolves, our own kernels (`cuda/kernels.cu`) do everything else.
//!
//! All work runs on the device's one stream, in the order of the calls; nothing here waits for the device.

mod augment;
mod constants;
mod conv;
mod element;
mod launch;
mod loss;
#[cfg(feature = "nccl")]
pub(crate) mod nccl;
mod norm;
mod operand;
mod optim;
mod pool;

pub(crate) use augment::augment;
pub(crate) use constants::AUGMENT_NUMBERS;
pub(crate) use conv::{bias_act, forward, input_grad, weight_grad};
pub(crate) use element::OnCuda;
pub(crate) use loss::{bce, focused_bce};
pub(crate) use norm::{RunningStats, backward, backward_add, normalised, prepare, stats};
pub(crate) use operand::upload;
pub(crate) use optim::{adamw, average, clip_by_norm, sgd};
pub(crate) use pool::{avg_pool, avg_pool_grad, global_pool, global_pool_grad, max_pool, max_pool_grad};
