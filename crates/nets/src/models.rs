//! Backbones, and networks made of them.

pub mod backbone;
mod densenet;
pub mod network;
mod resnet;
