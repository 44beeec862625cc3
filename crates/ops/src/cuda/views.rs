//! What a network sees of pictures.

use candle_core::{Result, Tensor, cuda_backend::cudarc::driver::DeviceRepr};

use super::{NULL, OnCuda, View, address_of, launch, room, tensor};
use crate::views::{Colours, DRAW};

/// Threads of a block (as in the kernels).
const VIEW_THREADS: u32 = 512;

// SAFETY: six numbers, laid out as in C.
unsafe impl DeviceRepr for Colours {}

/// As [`crate::views`], after its checks.
pub(crate) fn views<T: OnCuda>(
    op: &'static str,
    pictures: &Tensor,
    draws: &Tensor,
    targets: Option<&Tensor>,
    side: usize,
    colours: Colours,
) -> Result<(Tensor, Option<Tensor>)> {
    let (count, size) = (draws.elem_count() / DRAW, pictures.dim(1)?);
    let outputs = targets.map_or(Ok(0), |targets| targets.dim(1))?;
    let (pictures, draws) = (View::bytes(op, "pictures", pictures)?, View::new::<f32>(op, "draws", draws)?);
    let targets = targets.map(|targets| View::new::<f32>(op, "targets", targets)).transpose()?;
    let device = draws.device()?.clone();
    let (x, at) = room::<T>(&device, count * side * side * 3)?;
    let taken = targets.is_some().then(|| room::<f32>(&device, count * outputs)).transpose()?;
    let name = format!("views_{}_1", T::NAME);
    // SAFETY: whoever made the draws has seen to it that pictures and windows are there; the rest has been made here.
    unsafe {
        launch!(device, &name, (count as u32, 1), (VIEW_THREADS, 1);
            pictures.at, size as i32, draws.at, address_of(&targets), outputs as i32, side as i32, colours, at,
            taken.as_ref().map_or(NULL, |taken| taken.1));
    }
    let taken = taken.map(|(taken, _)| tensor(taken, &device, (count, outputs)));
    Ok((tensor(x, &device, (count, side, side, 3)), taken))
}
