//! How images become inputs.

use candle_core::Device;
use cxr::EvalCrop;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::canonical::is_default;
use crate::error::{Error, Result};
use crate::models::backbone::Backbone;

/// How a network is shown images in training and validation, and in what numbers it computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecipe {
    /// Side of the network's input in px.
    pub input_px: usize,
    /// How an evaluation input is cut from an image.
    pub crop: EvalCrop,
    /// Sides of the network's input in training, px: each from its epoch, counted from 0, on. Empty where all are
    /// `input_px`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub crop_schedule: Vec<(usize, usize)>,
    /// Smallest area of a random resized crop, as a share of the image; 1 turns cropping off.
    pub scale_min: f64,
    /// Largest aspect ratio of a random resized crop; the smallest is one over it.
    #[serde(default = "ratio_max", skip_serializing_if = "is_ratio_max")]
    pub ratio_max: f64,
    /// Whether half the inputs are mirrored.
    pub flip: bool,
    /// Largest rotation in degrees, to both sides.
    pub rotate_deg: f64,
    /// Largest change of brightness: the factor is in `1 - b ..= 1 + b`.
    pub brightness: f64,
    /// Largest change of contrast: the factor is in `1 - c ..= 1 + c`.
    pub contrast: f64,
    /// In what numbers a training step computes.
    pub precision: Precision,
}

impl ImageRecipe {
    /// Describes the training of a network for its [`Identity`](crate::Identity): all that decides its weights beside
    /// the [`Recipe`](crate::Recipe), the data and the initial weights.
    pub fn model(&self, backbone: &str, pool: &str) -> Value {
        json!({ "backbone": backbone, "pool": pool, "images": self })
    }

    /// Side of the network's input in an epoch of training, counted from 0, px.
    pub fn side(&self, epoch: usize) -> usize {
        let begun = self.crop_schedule.iter().take_while(|(from, _)| *from <= epoch);
        begun.last().map_or(self.input_px, |&(_, side)| side)
    }

    /// # Errors
    /// [`Error::Setting`] of the first number that cannot be for a backbone whose inputs have at least `min_side` px.
    pub(crate) fn check(&self, min_side: usize) -> Result<()> {
        if !(self.scale_min > 0.0 && self.scale_min <= 1.0) {
            return Error::setting("scale_min", self.scale_min, "above 0, at most 1");
        }
        if self.input_px < min_side {
            return Error::setting("crop", self.input_px, &format!("at least {min_side}, what the backbone needs"));
        }
        if !(1.0..=MOST_RATIO).contains(&self.ratio_max) {
            return Error::setting("ratio_max", self.ratio_max, &format!("1 to {MOST_RATIO}"));
        }
        let schedule = &self.crop_schedule;
        let ascending = schedule.is_sorted_by(|(a, _), (b, _)| a < b);
        let inside = schedule.iter().all(|(_, side)| (min_side..=self.input_px).contains(side));
        if !ascending || !inside || schedule.first().is_some_and(|(epoch, _)| *epoch != 0) {
            let expected = format!(
                "[epoch, px] with ascending epochs from 0, and {min_side} (what the backbone needs) to {} px (the crop)",
                self.input_px
            );
            return Error::setting("crop_schedule", format!("{schedule:?}"), &expected);
        }
        Ok(())
    }
}

/// Largest aspect ratio of a random resized crop (torchvision's `RandomResizedCrop`; Szegedy et al., CVPR 2015).
pub fn ratio_max() -> f64 {
    4.0 / 3.0
}

fn is_ratio_max(value: &f64) -> bool {
    *value == ratio_max()
}

/// The largest `ratio_max`: beyond it a crop has nothing of a chest.
pub const MOST_RATIO: f64 = 4.0;

/// In what numbers a network stores activations and their gradients, and multiplies. Weights, statistics and sums are `f32`.
/// While a network is trained, evaluation computes in `f32` on a CPU, and in the same numbers as training on CUDA.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Precision {
    /// `f32`.
    #[default]
    F32,
    /// `f32`, with factors rounded to three digits by the tensor cores of a CUDA device; `F32` on a CPU.
    Tf32,
    /// bf16, with three digits: half the memory, and faster on CUDA and on a CPU that multiplies it fast
    /// ([`ops::bf16_is_fast`]), slower on other CPUs.
    Bf16,
    /// `Bf16` where it is fast: on CUDA, and on a CPU that multiplies it fast; `F32` elsewhere.
    Auto,
}

impl Precision {
    /// The precision that is used on a device: never `Auto`.
    pub fn on(self, device: &Device) -> Precision {
        match self {
            Precision::Auto if device.is_cuda() || ops::bf16_is_fast() => Precision::Bf16,
            Precision::Auto => Precision::F32,
            Precision::Tf32 if !device.is_cuda() => Precision::F32,
            chosen => chosen,
        }
    }

    /// Whether a network with this backbone can compute so: a frozen one computes in `f32` whatever is asked.
    pub fn suits(self, backbone: Backbone) -> bool {
        !backbone.is_frozen() || matches!(self, Precision::F32 | Precision::Auto)
    }

    /// As [`Precision::on`], for a network with this backbone.
    pub fn of(self, backbone: Backbone, device: &Device) -> Precision {
        if backbone.is_frozen() { Precision::F32 } else { self.on(device) }
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_network_computes_in_f32() {
        let all = [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::Auto];
        let suits = |backbone| all.map(|precision| precision.suits(backbone));
        assert_eq!(suits(Backbone::Resnet50), [true; 4]);
        assert_eq!(suits(Backbone::RadDino), [true, false, false, true]);
        assert_eq!(all.map(|precision| precision.of(Backbone::RadDino, &Device::Cpu)), [Precision::F32; 4]);
        assert_eq!(Precision::Bf16.of(Backbone::Resnet50, &Device::Cpu), Precision::Bf16);
    }

    #[test]
    fn sides_grow_by_the_schedule() {
        let images = ImageRecipe {
            input_px: 224,
            crop: EvalCrop::Centre,
            crop_schedule: vec![(0, 128), (10, 192), (20, 224)],
            scale_min: 0.5,
            ratio_max: ratio_max(),
            flip: true,
            rotate_deg: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            precision: Precision::F32,
        };
        assert_eq!([0, 9, 10, 19, 20, 40].map(|epoch| images.side(epoch)), [128, 128, 192, 192, 224, 224]);
        images.check(33).unwrap();
        let with = |crop_schedule: Vec<(usize, usize)>| ImageRecipe { crop_schedule, ..images.clone() };
        assert_eq!(with(vec![]).side(3), 224);
        for wrong in [vec![(1, 128)], vec![(0, 128), (0, 224)], vec![(0, 32)], vec![(0, 225)]] {
            let message = with(wrong).check(33).unwrap_err().to_string();
            assert!(
                message.contains("ascending epochs from 0, and 33 (what the backbone needs) to 224 px"),
                "{message}"
            );
        }
        let text = serde_json::to_string(&with(vec![])).unwrap();
        assert!(!text.contains("schedule") && !text.contains("ratio"), "{text}");
        assert_eq!(1.0 / ratio_max(), 0.75);
    }
}
