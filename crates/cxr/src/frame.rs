//! Which part of a stored image a network sees in evaluation, and where a box of that part lies in the image.

use serde::{Deserialize, Serialize};

use crate::BBox;

/// How an evaluation input is cut from a stored image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum EvalCrop {
    /// The central square of the input's side, pixel for pixel (AG-CNN, section IV-A: resize 256, centre crop 224).
    Centre,
    /// The whole image, resized to the input's side.
    Whole,
}

/// The square part of a square stored image that a network sees in evaluation.
///
/// The only place that knows where a centre crop begins: `floor((image - crop) / 2)` px, as torchvision's `CenterCrop`
/// where the difference is even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalFrame {
    /// How the part is cut.
    pub crop: EvalCrop,
    /// Side of the stored image, px.
    pub image_px: usize,
    /// Side of the network's input, px.
    pub input_px: usize,
}

impl EvalFrame {
    /// Left and top edge of the part in the stored image, px; 0 where a centre crop would be larger than the image.
    pub fn offset_px(&self) -> usize {
        match self.crop {
            EvalCrop::Centre => self.image_px.saturating_sub(self.input_px) / 2,
            EvalCrop::Whole => 0,
        }
    }

    /// Side of the part in the stored image, px.
    pub fn side_px(&self) -> usize {
        match self.crop {
            EvalCrop::Centre => self.input_px,
            EvalCrop::Whole => self.image_px,
        }
    }

    /// Whether the part lies inside the stored image.
    pub fn fits(&self) -> bool {
        self.side_px() <= self.image_px
    }

    /// The part as a box in the stored image.
    pub fn bbox(&self) -> BBox {
        let (offset, side) = (self.offset_px() as f32, self.side_px() as f32);
        BBox::from_corners((offset, offset), (offset + side, offset + side))
    }

    /// Moves a point from the network's input to the stored image, px.
    pub fn point_to_image(&self, (x, y): (f32, f32)) -> (f32, f32) {
        let (offset, scale) = (self.offset_px() as f32, self.side_px() as f32 / self.input_px as f32);
        (offset + x * scale, offset + y * scale)
    }

    /// Moves a box from the network's input, `[0, input_px)` in x and y, to the stored image, cut to its edges: scaling
    /// could otherwise round an edge a hair outside.
    pub fn to_image(&self, bbox: BBox) -> BBox {
        let (offset, image) = (self.offset_px() as f32, self.image_px as f32);
        let scale = self.side_px() as f32 / self.input_px as f32;
        bbox.scaled(scale, scale).moved(offset, offset).clipped(image, image)
    }
}

/// Where the pixels of a stored crop come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum CropSource {
    /// The image that `prep` stored.
    Prepared,
    /// The file behind it.
    Original,
}

/// Where the region of an image is put. All but [`Placement::Attended`] are controls of a study: they show what a crop does
/// that attention did not choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Placement {
    /// Where the heat map exceeds the threshold (AG-CNN, section III-B).
    Attended,
    /// A box of the attended box's size, anywhere in the evaluation frame.
    Random,
    /// A box of the attended box's size, in the middle of the evaluation frame.
    Centre,
    /// The whole evaluation frame.
    Whole,
}

impl Placement {
    /// Whether the region is something else than what the method attends to.
    pub fn is_control(self) -> bool {
        self != Placement::Attended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_centre_crop_begins_at_a_whole_pixel() {
        for (image_px, input_px, offset) in [(256, 224, 16), (64, 60, 2), (48, 41, 3), (40, 40, 0), (30, 40, 0)] {
            let frame = EvalFrame { crop: EvalCrop::Centre, image_px, input_px };
            assert_eq!((frame.offset_px(), frame.side_px()), (offset, input_px));
            assert_eq!(frame.fits(), input_px <= image_px);
            if !frame.fits() {
                continue;
            }
            let moved = frame.to_image(BBox::new(1.0, 2.0, 3.0, 5.0).unwrap());
            let offset = offset as f32;
            assert_eq!(moved, BBox::new(1.0 + offset, 2.0 + offset, 3.0 + offset, 5.0 + offset).unwrap());
        }
    }

    #[test]
    fn a_whole_image_is_scaled() {
        let frame = EvalFrame { crop: EvalCrop::Whole, image_px: 128, input_px: 64 };
        assert_eq!(frame.bbox(), BBox::new(0.0, 0.0, 128.0, 128.0).unwrap());
        assert_eq!(frame.to_image(BBox::new(1.0, 2.0, 3.0, 64.0).unwrap()), BBox::new(2.0, 4.0, 6.0, 128.0).unwrap());
    }

    #[test]
    fn a_box_of_the_input_lies_inside_the_image() {
        for (image_px, input_px) in (1..300).flat_map(|image| [(image, 41), (image, 224), (image, 3)]) {
            let frame = EvalFrame { crop: EvalCrop::Whole, image_px, input_px };
            let whole = frame.to_image(BBox::frame(input_px as f32, input_px as f32));
            assert!(whole.is_inside(image_px as f32, image_px as f32), "{whole:?} in {image_px}");
            assert!((whole.x_max - image_px as f32).abs() < 1e-3);
        }
    }
}
