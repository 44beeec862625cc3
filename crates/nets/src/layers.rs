//! What networks are made of. Each layer has a forward and a hand-written backward pass.

pub(crate) mod activation;
pub(crate) mod builder;
pub(crate) mod conv_norm;
pub(crate) mod gradients;
pub(crate) mod params;
pub(crate) mod share;
pub(crate) mod stem_pool;
