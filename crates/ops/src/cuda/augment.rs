//! Augmentation.

use candle_core::{Result, Tensor, cuda_backend::cudarc::driver::DeviceRepr};

use super::{
    constants::{AUGMENT_NUMBERS, AUGMENT_THREADS},
    element::OnCuda,
    launch::launch,
    operand::{NULL, View, address_of, tensor, uninit},
};
use crate::augment::params::Colours;

// SAFETY: six numbers, laid out as in C.
unsafe impl DeviceRepr for Colours {}

/// As [`crate::augment::augment`], after its checks; `numbers` are those of a checked plan.
pub(crate) fn augment<T: OnCuda>(
    op: &'static str,
    images: &Tensor,
    numbers: &Tensor,
    targets: Option<&Tensor>,
    side: usize,
    colours: Colours,
) -> Result<(Tensor, Option<Tensor>)> {
    let (count, size) = (numbers.elem_count() / AUGMENT_NUMBERS as usize, images.dim(1)?);
    let outputs = targets.map_or(Ok(0), |targets| targets.dim(1))?;
    let (images, numbers) = (View::bytes(op, "images", images)?, View::new::<f32>(op, "params", numbers)?);
    let targets = targets.map(|targets| View::new::<f32>(op, "targets", targets)).transpose()?;
    let device = numbers.device()?.clone();
    let (x, at) = uninit::<T>(&device, count * side * side * 3)?;
    let taken = targets.is_some().then(|| uninit::<f32>(&device, count * outputs)).transpose()?;
    let name = format!("augment_{}_1", T::NAME);
    // SAFETY: the plan has been checked: its images and windows exist. The other memory is made here.
    unsafe {
        launch!(device, &name, (count as u32, 1), (AUGMENT_THREADS, 1);
            images.at, size as i32, numbers.at, address_of(&targets), outputs as i32, side as i32, colours, at,
            taken.as_ref().map_or(NULL, |taken| taken.1));
    }
    let taken = taken.map(|(taken, _)| tensor(taken, &device, (count, outputs)));
    Ok((tensor(x, &device, (count, side, side, 3)), taken))
}
