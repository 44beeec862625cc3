//! Networks, weights files, data loader, augmentation, optimisers, the one training loop, checkpoints, evaluation.
//!
//! A [`Network`] is a convolutional trunk ([`Backbone`]), a global pool ([`Pool`]) and a linear layer to the
//! [`OUTPUTS`](cxr::OUTPUTS) logits. [`fit_network`] trains it on [`Images`], [`evaluate()`] runs it over images.
//! [`fit`] trains anything that is [`Trainable`].
//!
//! The trunk of a foundation model is frozen ([`Backbone::is_frozen`]): [`evaluate_range`] computes features once, [`fit_head`]
//! trains the linear layer on them, [`score_features`] applies it.
//!
//! | question | module |
//! |---|---|
//! | what a layer computes, and its gradient | `layers` |
//! | which networks there are | [`models`] |
//! | a weights file of ours, or of torchvision or timm | [`weights`] |
//! | images in memory; how they become batches of inputs | `data`, `augment`, `colours`, `loader` |
//! | what is minimised | [`losses`] |
//! | learning rates and other settings | [`recipe`], `plateau` |
//! | the training loop; what it trains; the average that it publishes | [`train`], `train_network`, `train_head`, `ema` |
//! | a training by several processes | `together`, `layers/share.rs`, `nccl` |
//! | when two trainings are the same, or one continues another | [`identity`], `checkpoint` |
//! | outputs of a network for many images | [`mod@evaluate`] |
//! | a network as a file that other programs run | [`onnx`] |
//!
//! Files import from those below them only, in this order: `onnx`, `train_network`, `train_head`, `train`, `checkpoint`, `together`, `identity`,
//! `evaluate`, `loader`, `augment`, `data`, `models`, `optimizer`, `weights`, `recipe`, `ema`, `losses`, `layers`, and what
//! has no layer of its own.
//!
//! Letters in shapes: `N` images in a batch, `S` side of a stored image in px, `H W` side of a map, `K` channels of the
//! last map ([`Backbone::channels`]), 15 outputs. Activations are `[N, H, W, C]`, f32, contiguous; convolution weights
//! are `[out, height, width, in]` in memory and torchvision's `[out, in, height, width]` on disk.
//!
//! No result depends on the number of threads or on the order in which they finish: the same seed gives the same bits on
//! the CPU.

pub mod evaluate;
pub mod identity;
pub mod losses;
pub mod models;
pub mod onnx;
pub mod recipe;
pub mod train;
pub mod weights;

mod augment;
mod canonical;
mod checkpoint;
mod colours;
mod data;
mod deferred;
mod device;
mod ema;
mod error;
mod layers;
mod loader;
mod nccl;
mod optimizer;
mod plateau;
mod progress;
mod random;
mod together;
mod train_head;
mod train_network;

pub use checkpoint::NAME as CHECKPOINT;
pub use colours::normalisation;
pub use data::Images;
pub use device::{describe, device};
pub use ema::Ema;
pub use error::{Error, Result};
pub use evaluate::{Scores, Taken, evaluate, evaluate_range, evaluate_with, evaluate_with_range};
pub use identity::Identity;
pub use layers::params::Params;
pub use losses::{Loss, Objective};
pub use models::backbone::{Backbone, Pool};
pub use models::network::{Evaluated, Grads, Network};
pub use nccl::link_by_nccl;
pub use ops::isa;
pub use ops::memory::{OnLines, keep_freed_memory};
pub use optimizer::Optimizer;
pub use progress::EpochStats;
pub use recipe::{ImageRecipe, OptimizerKind, Precision, Recipe, Schedule};
pub use train::{Checkpoints, Event, Examples, Fit, Trainable, Validation, fit};
pub use train_head::{FeatureRows, fit_head, score_features};
pub use train_network::fit_network;
