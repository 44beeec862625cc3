//! The views of an image whose scores are averaged.

use serde::{Deserialize, Serialize};

use crate::{EvalCrop, EvalFrame};

/// Test-time augmentation: which views of an image a network scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Tta {
    /// The evaluation frame alone.
    #[default]
    None,
    /// The frame and its mirror image.
    Flip,
    /// The frame, the same square in the four corners of the image, and their mirror images (torchvision's `TenCrop`;
    /// Krizhevsky et al., NIPS 2012, section 4.1). Of a frame that is the whole image: the same as `Flip`.
    TenCrop,
}

/// A square part of a stored image, perhaps mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Left edge, px.
    pub x: usize,
    /// Top edge, px.
    pub y: usize,
    /// Side, px.
    pub side: usize,
    /// Whether left and right change places.
    pub flip: bool,
}

impl Tta {
    /// The views of an image, the frame itself first; all inside the image where the frame is.
    pub fn views(self, frame: EvalFrame) -> Vec<View> {
        let (offset, side) = (frame.offset_px(), frame.side_px());
        let end = frame.image_px.saturating_sub(side);
        let mut corners = vec![(offset, offset)];
        if self == Tta::TenCrop && frame.crop == EvalCrop::Centre {
            corners.extend([(0, 0), (end, 0), (0, end), (end, end)]);
        }
        let flips: &[bool] = if self == Tta::None { &[false] } else { &[false, true] };
        let view = |&flip: &bool| corners.iter().map(move |&(x, y)| View { x, y, side, flip }).collect::<Vec<_>>();
        flips.iter().flat_map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torchvision.transforms.functional.ten_crop` has the corners first, and the centre after them.
    #[test]
    fn views_are_the_frame_first_and_lie_inside() {
        let frame = EvalFrame { crop: EvalCrop::Centre, image_px: 256, input_px: 224 };
        let view = |x, y, flip| View { x, y, side: 224, flip };
        assert_eq!(Tta::None.views(frame), [view(16, 16, false)]);
        assert_eq!(Tta::Flip.views(frame), [view(16, 16, false), view(16, 16, true)]);
        let corners = [(16, 16), (0, 0), (32, 0), (0, 32), (32, 32)];
        let ten = [false, true].into_iter().flat_map(|flip| corners.map(|(x, y)| view(x, y, flip)));
        assert_eq!(Tta::TenCrop.views(frame), ten.collect::<Vec<_>>());
        let whole = EvalFrame { crop: EvalCrop::Whole, image_px: 128, input_px: 64 };
        let both = [false, true].map(|flip| View { x: 0, y: 0, side: 128, flip });
        assert_eq!(Tta::TenCrop.views(whole), both);
        assert_eq!(("ten-crop".parse(), Tta::TenCrop.to_string()), (Ok(Tta::TenCrop), "ten-crop".to_owned()));
    }
}
