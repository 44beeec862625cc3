//! Weights files: safetensors with metadata.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::Result;

/// What a weights file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// What the weights are of: a backbone's name, or e.g. `fusion`.
    pub backbone: String,
    /// The pool's name; empty where there is none.
    pub pool: String,
    /// Which run made it (`agcnn.key`).
    pub key: String,
}

/// Writes named tensors atomically, with format version and finding order.
pub fn write(_path: &Path, _tensors: &[(String, Tensor)], _meta: &Meta) -> Result<()> {
    unimplemented!()
}

/// Reads what [`write`] wrote; format version and finding order are checked.
pub fn read(_path: &Path, _device: &Device) -> Result<(Vec<(String, Tensor)>, Meta)> {
    unimplemented!()
}
