//! Backbones, and networks made of them.

pub mod backbone;
pub(crate) mod densenet;
pub mod network;
pub(crate) mod resnet;
