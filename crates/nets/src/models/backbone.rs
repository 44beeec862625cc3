//! The trunks and pools, by name.

use std::fmt::Display;

use cxr::heatmap::Cells;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::error::Error;

/// A trunk: a convolutional one as torchvision has it (ResNet v1.5: the stride of a bottleneck is in its 3x3), which is
/// trained; or a foundation model, which stays as it is ([`Backbone::is_frozen`]).
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
    /// Ours, as `mini` where a map of few cells is too coarse to attend to small signs: widths 24 to 48, output stride 8, and
    /// few channels in the last map, so that none is idle.
    Mini8,
    /// DINOv2's ViT-S/14 (Oquab et al., TMLR 2024), frozen.
    #[serde(rename = "dinov2-vits14")]
    #[strum(serialize = "dinov2-vits14")]
    DinoV2Vits14,
    /// DINOv2's ViT-B/14, frozen.
    #[serde(rename = "dinov2-vitb14")]
    #[strum(serialize = "dinov2-vitb14")]
    DinoV2Vitb14,
    /// RAD-DINO (Perez-Garcia et al., Nature Machine Intelligence 2025): a DINOv2 ViT-B/14 of chest radiographs, frozen.
    #[serde(rename = "rad-dino")]
    #[strum(serialize = "rad-dino")]
    RadDino,
    /// ConvNeXt-T (Liu et al., CVPR 2022), frozen.
    #[serde(rename = "convnext-tiny")]
    #[strum(serialize = "convnext-tiny")]
    ConvnextTiny,
    /// ConvNeXt-B, frozen.
    #[serde(rename = "convnext-base")]
    #[strum(serialize = "convnext-base")]
    ConvnextBase,
    /// A DINOv2 of 2 layers for tests, frozen; nobody has trained one.
    #[serde(rename = "dinov2-tiny")]
    #[strum(serialize = "dinov2-tiny")]
    DinoV2Tiny,
    /// A ConvNeXt of 5 blocks for tests, frozen; nobody has trained one.
    #[serde(rename = "convnext-test")]
    #[strum(serialize = "convnext-test")]
    ConvnextTest,
}

impl Backbone {
    /// Channels `K` of the last map, hence the length of the pooled vector.
    pub fn channels(self) -> usize {
        match self {
            Backbone::Resnet18 | Backbone::Resnet34 => 512,
            Backbone::Resnet50 | Backbone::Resnet101 => 2048,
            Backbone::Densenet121 => 1024,
            Backbone::Mini => 256,
            Backbone::Mini8 => 24,
            Backbone::DinoV2Vits14 => 384,
            Backbone::DinoV2Vitb14 | Backbone::RadDino => 768,
            Backbone::ConvnextTiny => 768,
            Backbone::ConvnextBase => 1024,
            Backbone::DinoV2Tiny | Backbone::ConvnextTest => 32,
        }
    }

    /// Whether its weights stay as they are, and only the linear layer behind it is trained.
    pub fn is_frozen(self) -> bool {
        self.patch_px() > 1
    }

    /// What the side of an input must be a multiple of, px: the side of the patches that a frozen trunk cuts it into; 1 for
    /// the others.
    pub fn patch_px(self) -> usize {
        match self {
            Backbone::DinoV2Vits14 | Backbone::DinoV2Vitb14 | Backbone::RadDino | Backbone::DinoV2Tiny => 14,
            Backbone::ConvnextTiny | Backbone::ConvnextBase | Backbone::ConvnextTest => 32,
            _ => 1,
        }
    }

    /// Whether it has a class token, which [`Pool::Class`] takes.
    pub fn has_class_token(self) -> bool {
        self.patch_px() == 14
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
            Backbone::Mini8 => halved(halved(halved(side))),
            Backbone::Mini => halved(halved(halved(halved(side)))),
            _ if self.patch_px() > 1 => side / self.patch_px(),
            _ => halved(halved(halved(halved(halved(side))))),
        }
    }

    /// Where the centres of the receptive fields of the last map's cells lie in the input, px.
    pub fn cells(self) -> Cells {
        // A convolution or pool of odd kernel, stride 2 and "same" padding has its first output over the first pixel.
        let same = |step_px| Cells { first_px: 0.5, step_px };
        match self {
            Backbone::Mini8 => same(8.0),
            Backbone::Mini => same(16.0),
            // Its transitions' pools of 2x2 have no padding: they add half a step of 4, 8 and 16 px.
            Backbone::Densenet121 => Cells { first_px: 0.5 + 2.0 + 4.0 + 8.0, step_px: 32.0 },
            _ if self.is_frozen() => Cells { first_px: self.patch_px() as f32 / 2.0, step_px: self.patch_px() as f32 },
            _ => same(32.0),
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
    /// No pool of the map but a transformer's class token.
    Class,
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
             resnet18, resnet34, resnet50, resnet101, densenet121, mini, mini8, \
             dinov2-vits14, dinov2-vitb14, rad-dino, convnext-tiny, convnext-base, dinov2-tiny, convnext-test"
        );
        assert_eq!("lse".parse::<Pool>().unwrap(), Pool::Lse);
    }

    /// Centre of the first cell and the distance of two, of layers of (kernel, stride, padding): Araujo et al., Distill 2019.
    fn receptive(layers: &[(f32, f32, f32)]) -> (f32, f32) {
        let centre = |(first, step), &(kernel, stride, padding): &(f32, f32, f32)| {
            (first + ((kernel - 1.0) / 2.0 - padding) * step, step * stride)
        };
        layers.iter().fold((0.5, 1.0), centre)
    }

    #[test]
    fn cells_lie_at_the_centres_of_their_receptive_fields() {
        let (stem, same, halved, pool) =
            ([(7.0, 2.0, 3.0), (3.0, 2.0, 1.0)], (3.0, 1.0, 1.0), (3.0, 2.0, 1.0), (2.0, 2.0, 0.0));
        for (backbone, stages) in [
            (Backbone::Mini8, vec![same, halved, same, same]),
            (Backbone::Mini, vec![same, halved, halved, same]),
            (Backbone::Resnet18, vec![same, halved, halved, halved]),
            (Backbone::Resnet50, vec![(1.0, 1.0, 0.0), same, halved, halved, halved]),
            (Backbone::Densenet121, vec![same, pool, same, pool, same, pool, same]),
        ] {
            let layers: Vec<_> = stem.into_iter().chain(stages).collect();
            let Cells { first_px, step_px } = backbone.cells();
            assert_eq!((first_px, step_px), receptive(&layers), "{backbone}");
        }
        let patches = [(Backbone::RadDino, 14.0), (Backbone::ConvnextTiny, 32.0)];
        for (backbone, side) in patches {
            let Cells { first_px, step_px } = backbone.cells();
            assert_eq!((first_px, step_px), receptive(&[(side, side, 0.0)]), "{backbone}");
        }
    }

    #[test]
    fn map_sides() {
        for (backbone, at_224, smallest) in [
            (Backbone::Resnet50, 7, 33),
            (Backbone::Densenet121, 7, 61),
            (Backbone::Mini, 14, 17),
            (Backbone::Mini8, 28, 9),
            (Backbone::RadDino, 16, 28),
        ] {
            assert_eq!(backbone.map_side(224), at_224);
            assert_eq!(backbone.min_side(), smallest);
        }
    }
}
