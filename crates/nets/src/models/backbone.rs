//! The trunks and pools, by name.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::error::Error;

/// A convolutional trunk, as torchvision has it (ResNet v1.5: the stride of a bottleneck is in its 3x3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = Error, parse_err_fn = unknown_backbone)]
pub enum Backbone {
    /// ResNet-18 (He et al., CVPR 2016).
    Resnet18,
    /// ResNet-34.
    Resnet34,
    /// ResNet-50, the paper's default.
    Resnet50,
    /// ResNet-101.
    Resnet101,
    /// DenseNet-121 (Huang et al., CVPR 2017).
    Densenet121,
    /// Ours, for laptops, demos and tests: one basic block per stage, widths 32 to 256, output stride 16.
    Mini,
    /// Ours, as `mini` where a map of few cells is too coarse to attend to small signs: widths 32 to 64, output stride 4.
    Mini4,
}

impl Backbone {
    /// Channels `K` of the last map, hence the length of the pooled vector.
    pub fn channels(self) -> usize {
        match self {
            Backbone::Resnet18 | Backbone::Resnet34 => 512,
            Backbone::Resnet50 | Backbone::Resnet101 => 2048,
            Backbone::Densenet121 => 1024,
            Backbone::Mini => 256,
            Backbone::Mini4 => 64,
        }
    }

    /// The name in configurations and files.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Side of the last map for an input of `side` px.
    pub fn map_side(self, side: usize) -> usize {
        let halved = |side: usize| side.div_ceil(2); // 7x7, 3x3 and 1x1 at stride 2 with "same" padding
        match self {
            Backbone::Densenet121 => halved(halved(side)) / 2 / 2 / 2, // transitions pool 2x2, dropping a remainder
            Backbone::Mini4 => halved(halved(side)),
            Backbone::Mini => halved(halved(halved(halved(side)))),
            _ => halved(halved(halved(halved(halved(side))))),
        }
    }

    /// The smallest input side in px: the last map is 2x2, so that even a batch of one image has a variance.
    pub fn min_side(self) -> usize {
        (1..).find(|&side| self.map_side(side) >= 2).unwrap_or(0)
    }
}

/// How a map `[N, H, W, K]` becomes a vector `[N, K]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = Error, parse_err_fn = unknown_pool)]
pub enum Pool {
    /// The maximum over positions, the paper's choice; the gradient goes to the first one in row-major order.
    Max,
    /// The mean over positions.
    Avg,
    /// Log-sum-exp, a soft maximum, with `r = 10` (Wang et al., CVPR 2017, equation 1).
    Lse,
}

impl Pool {
    /// The name in configurations and files.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_backbone(got: &str) -> Error {
    unknown::<Backbone>("backbone", got)
}

fn unknown_pool(got: &str) -> Error {
    unknown::<Pool>("pool", got)
}

fn unknown<T: VariantArray + Display>(what: &'static str, got: &str) -> Error {
    let names: Vec<String> = T::VARIANTS.iter().map(ToString::to_string).collect();
    Error::UnknownName { what, got: got.to_owned(), expected: names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for &backbone in Backbone::VARIANTS {
            assert_eq!(backbone.name().parse::<Backbone>().unwrap(), backbone);
        }
        assert_eq!(
            "resnet".parse::<Backbone>().unwrap_err().to_string(),
            "unknown backbone \"resnet\", expected one of \
             resnet18, resnet34, resnet50, resnet101, densenet121, mini, mini4"
        );
        assert_eq!("lse".parse::<Pool>().unwrap(), Pool::Lse);
    }

    #[test]
    fn map_sides() {
        for (backbone, at_224, smallest) in [
            (Backbone::Resnet50, 7, 33),
            (Backbone::Densenet121, 7, 61),
            (Backbone::Mini, 14, 17),
            (Backbone::Mini4, 56, 5),
        ] {
            assert_eq!(backbone.map_side(224), at_224);
            assert_eq!(backbone.min_side(), smallest);
        }
    }
}
