//! Defaults of the settings that most recipes leave alone.
//!
//! A setting at its default is left out of the JSON that a stage's key hashes, so that a new one changes no key of a recipe
//! without it.

use serde::{Deserialize, Serialize};

/// What is minimised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossName {
    /// Binary cross-entropy.
    #[default]
    Bce,
    /// The same, weighted by the classes' shares of a batch.
    Weighted,
    /// Focal loss, by `focal_alpha` and `focal_gamma`.
    Focal,
    /// Asymmetric loss, by `gamma_positive`, `gamma_negative` and `probability_clip`.
    Asymmetric,
}

/// A default that is not the type's own, and whether a value is that one.
macro_rules! default {
    ($name:ident, $is:ident: $type:ty = $value:expr) => {
        pub(super) fn $name() -> $type {
            $value
        }
        pub(super) fn $is(value: &$type) -> bool {
            *value == $value
        }
    };
}

default!(focal_alpha, is_focal_alpha: f64 = 0.25);
default!(focal_gamma, is_focal_gamma: f64 = 2.0);
default!(gamma_positive, is_gamma_positive: f64 = 1.0);
default!(gamma_negative, is_gamma_negative: f64 = 4.0);
default!(probability_clip, is_probability_clip: f64 = 0.05);
default!(sync_batch_norm, is_sync_batch_norm: bool = true);
default!(lr_patience, is_lr_patience: usize = 10);
default!(ratio_max, is_ratio_max: f64 = nets::recipe::ratio_max());

/// Whether a value is what it is where nobody says anything.
pub(super) fn off<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
