//! Augmentation on a CUDA device.

use candle_core::{DType, Device, Result, Tensor};

use super::params::{AugmentParams, Colours, check_side};
use crate::{
    cuda::{self, AUGMENT_NUMBERS},
    error::Error,
    view::{Stored, check_shape},
};

/// Checked augmentation parameters on a CUDA device: every image exists, and every window is inside it.
#[derive(Debug)]
pub struct AugmentPlan {
    /// `[N, 10]`.
    numbers: Tensor,
    images: usize,
    size: usize,
}

impl AugmentPlan {
    /// Copies the parameters of inputs from `images` images of `size` px to the device.
    ///
    /// # Errors
    ///
    /// An image or a window that does not exist; more images or px than `f32` can count (16,777,216); the device fails.
    pub fn new(params: &[AugmentParams], images: usize, size: usize, device: &Device) -> Result<AugmentPlan> {
        let op = "AugmentPlan::new";
        if images.max(size) > 1 << f32::MANTISSA_DIGITS {
            let (expected, got) = ("at most 16777216 images and px".to_owned(), format!("{images} of {size} px"));
            return Err(Error::Parameter { op, name: "images", expected, got }.into());
        }
        let mut numbers = Vec::with_capacity(params.len() * AUGMENT_NUMBERS as usize);
        for each in params {
            each.check(op, images, size)?;
            let (sine, cosine) = each.sin_cos();
            numbers.extend([each.index, each.x, each.y, each.width, each.height].map(|number| number as f32));
            numbers.extend([sine, cosine, f32::from(u8::from(each.flip)), each.brightness, each.contrast]);
        }
        let numbers = Tensor::from_vec(numbers, (params.len(), AUGMENT_NUMBERS as usize), device)?;
        Ok(AugmentPlan { numbers, images, size })
    }
}

/// The inputs `[n, side, side, 3]`, of type `dtype`, for the parameters `first .. first + n` of a plan, and the rows of
/// `targets` of their images, `[n, outputs]`. One kernel launch.
///
/// # Shapes
///
/// `images [N, size, size]` of `u8`, `targets [N, outputs]` of `f32`.
///
/// # Errors
///
/// The plan is for other images, or has fewer parameters; `n` or `side` is out of range; the device fails.
pub fn augment(
    images: &Tensor,
    plan: &AugmentPlan,
    (first, n): (usize, usize),
    targets: Option<&Tensor>,
    side: usize,
    colours: &Colours,
    dtype: DType,
) -> Result<(Tensor, Option<Tensor>)> {
    fn run<T: Stored>(
        op: &'static str,
        images: &Tensor,
        numbers: &Tensor,
        targets: Option<&Tensor>,
        side: usize,
        colours: &Colours,
    ) -> Result<(Tensor, Option<Tensor>)> {
        cuda::augment::<T>(op, images, numbers, targets, side, *colours)
    }
    let op = "augment";
    check_shape(op, "images", images, &[plan.images, plan.size, plan.size])?;
    if let Some(targets) = targets {
        check_shape(op, "targets", targets, &[plan.images, targets.dims().last().copied().unwrap_or(0)])?;
    }
    check_side(op, side)?;
    if n == 0 {
        return Err(Error::Parameter { op, name: "n", expected: "at least 1".into(), got: "0".into() }.into());
    }
    let numbers = &plan.numbers.narrow(0, first, n)?;
    match dtype {
        DType::BF16 => run::<half::bf16>(op, images, numbers, targets, side, colours),
        _ => run::<f32>(op, images, numbers, targets, side, colours),
    }
}
