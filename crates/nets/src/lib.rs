//! Backbones, heads, optimiser, augmentation, the one training loop, checkpoints, device.
//!
//! A [`Network`] is a convolutional trunk ([`Backbone`]), a global pool ([`Pool`]) and a linear layer to the
//! [`OUTPUTS`](cxr::OUTPUTS) logits. [`fit`] trains it on [`Pictures`] by a [`Recipe`]; [`score`] runs it over pictures.
//!
//! | question | module |
//! |---|---|
//! | what is computed, and its gradient | [`network`], [`backbone`] |
//! | a weights file of ours, or of torchvision or timm | [`weights`], [`import`] |
//! | how a step changes the weights | [`optim`] |
//! | how a stored picture becomes a network input | [`augment`] |
//! | the loop | [`train`] |
//!
//! Letters in shapes: `N` images in a batch, `S` side of a stored picture in px, `H W` side of a map, `K` channels of the
//! last map ([`Backbone::channels`]), 15 outputs. Activations are `[N, H, W, C]`, f32, contiguous; convolution weights
//! are `[out, height, width, in]` in memory and torchvision's `[out, in, height, width]` on disk.
//!
//! Nothing here depends on the number of threads or on the order in which they finish: the same seed gives the same
//! bits on the CPU.

pub mod augment;
pub mod backbone;

pub mod import;
pub mod network;
pub mod optim;
pub mod train;
pub mod weights;

mod checkpoint;
mod densenet;
mod device;
mod error;
mod feed;
mod params;
mod resnet;
mod units;

pub use augment::View;
pub use backbone::{Backbone, Pool};
pub use device::{DEVICE_HINT, describe, device};
pub use error::{Error, Result};
pub use network::{Evaluated, Grads, Network};
pub use ops::memory::keep_freed_memory;
pub use optim::{Optimizer, OptimizerKind, Schedule};
pub use train::{EpochStats, Event, Fit, Pictures, Precision, Recipe, fit, score};
