//! Backbones, and networks made of them.

pub mod backbone;
pub(crate) mod convnext;
pub(crate) mod densenet;
mod frozen;
mod gelu;
pub(crate) mod names;
pub mod network;
mod positions;
pub(crate) mod resnet;
pub(crate) mod vit;
