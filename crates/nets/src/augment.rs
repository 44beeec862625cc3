//! How a stored picture becomes a network input.

use serde::{Deserialize, Serialize};

/// How an evaluation input is taken from a stored picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// The central square of the input's side, pixel for pixel: the paper's resize 256, centre crop 224.
    Centre,
    /// The whole picture, resized.
    Whole,
}
