//! What a network sees of pictures.

#[cfg(feature = "cuda")]
use candle_core::{DType, Device, Result, Tensor};

#[cfg(feature = "cuda")]
use crate::{
    Error,
    view::{Stored, check_shape},
};

/// How one picture is seen: turned, a window of it resized to the input's side, mirrored, brightened, and its contrast
/// changed, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Which picture.
    pub index: usize,
    /// The window's first column.
    pub x: usize,
    /// The window's first row.
    pub y: usize,
    /// The window's width in px, at least 1.
    pub width: usize,
    /// The window's height in px, at least 1.
    pub height: usize,
    /// Degrees by which the picture is turned counter-clockwise about its centre.
    pub degrees: f64,
    /// Whether left and right are exchanged.
    pub mirrored: bool,
    /// What grey values are multiplied by.
    pub brightness: f32,
    /// What their distances from their mean are multiplied by.
    pub contrast: f32,
}

impl Draw {
    /// A window as it is.
    pub fn plain(index: usize, [x, y, width, height]: [usize; 4]) -> Draw {
        Draw { index, x, y, width, height, degrees: 0.0, mirrored: false, brightness: 1.0, contrast: 1.0 }
    }

    /// Sine and cosine of its angle.
    pub fn turn(&self) -> (f32, f32) {
        (self.degrees.to_radians().sin() as f32, self.degrees.to_radians().cos() as f32)
    }
}

/// What normalises grey values, of 0 to 1, in each of the input's channels.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Colours {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by.
    pub deviation: [f32; 3],
}

/// Numbers of a draw on the device.
#[cfg(feature = "cuda")]
pub(crate) const DRAW: usize = 10;

/// Draws on a CUDA device, checked: every picture is one of so many, every window inside it.
#[cfg(feature = "cuda")]
#[derive(Debug)]
pub struct Draws {
    /// `[N, 10]`.
    tensor: Tensor,
    pictures: usize,
    size: usize,
}

#[cfg(feature = "cuda")]
impl Draws {
    /// Of `pictures` pictures of `size` px.
    ///
    /// # Errors
    ///
    /// A picture or a window that is not there; more pictures or px than `f32` can count, 16,777,216.
    pub fn new(draws: &[Draw], pictures: usize, size: usize, device: &Device) -> Result<Draws> {
        let mut numbers = Vec::with_capacity(draws.len() * DRAW);
        for draw in draws {
            let end = |first: usize, len: usize| first.checked_add(len).filter(|_| len > 0).unwrap_or(usize::MAX);
            let inside = draw.index < pictures && end(draw.x, draw.width).max(end(draw.y, draw.height)) <= size;
            if !inside || pictures.max(size) > 1 << f32::MANTISSA_DIGITS {
                let expected = format!("a window in one of {pictures} pictures of {size} px");
                return Err(Error::Parameter { op: "Draws", name: "draws", expected, got: format!("{draw:?}") }.into());
            }
            let (sine, cosine) = draw.turn();
            numbers.extend([draw.index, draw.x, draw.y, draw.width, draw.height].map(|number| number as f32));
            numbers.extend([sine, cosine, f32::from(u8::from(draw.mirrored)), draw.brightness, draw.contrast]);
        }
        Ok(Draws { tensor: Tensor::from_vec(numbers, (draws.len(), DRAW), device)?, pictures, size })
    }
}

/// The inputs `[n, side, side, 3]`, of type `dtype`, that the draws `first .. first + n` make, and the rows of their
/// pictures in `targets`, `[n, outputs]`: one launch.
///
/// Resampling is bilinear, antialiased where it shrinks, as Pillow does it; turning is bilinear, black from outside.
///
/// # Shapes
///
/// `pictures [N, size, size]` of bytes, `targets [N, outputs]`.
///
/// # Errors
///
/// Other pictures than the draws are for; draws that are not there; the device.
#[cfg(feature = "cuda")]
pub fn views(
    pictures: &Tensor,
    draws: &Draws,
    (first, n): (usize, usize),
    targets: Option<&Tensor>,
    side: usize,
    colours: Colours,
    dtype: DType,
) -> Result<(Tensor, Option<Tensor>)> {
    fn run<T: Stored>(
        pictures: &Tensor,
        draws: &Tensor,
        targets: Option<&Tensor>,
        side: usize,
        colours: Colours,
    ) -> Result<(Tensor, Option<Tensor>)> {
        crate::cuda::views::<T>("views", pictures, draws, targets, side, colours)
    }
    let op = "views";
    check_shape(op, "pictures", pictures, &[draws.pictures, draws.size, draws.size])?;
    if let Some(targets) = targets {
        check_shape(op, "targets", targets, &[draws.pictures, targets.dims().last().copied().unwrap_or(0)])?;
    }
    if n == 0 || side == 0 || side > 1 << 15 {
        let (expected, got) = ("draws, and a side of 1 to 32768".to_owned(), format!("{n} of {side} px"));
        return Err(Error::Parameter { op, name: "n", expected, got }.into());
    }
    let draws = draws.tensor.narrow(0, first, n)?;
    if dtype == DType::BF16 {
        run::<half::bf16>(pictures, &draws, targets, side, colours)
    } else {
        run::<f32>(pictures, &draws, targets, side, colours)
    }
}
