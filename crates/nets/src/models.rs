//! Backbones, and networks made of them.

pub mod backbone;
pub(crate) mod densenet;
mod gelu;
pub(crate) mod hugging_face;
pub mod network;
mod positions;
pub(crate) mod resnet;
pub(crate) mod vit;
