//! CPU tensors as slices, after checking that a kernel may use them.

use std::{marker::PhantomData, ops::Deref};

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, WithDType};
use half::bf16;

use crate::{error::Error, kernel::Element};

#[cfg(feature = "cuda")]
pub(crate) use crate::cuda::OnCuda;

/// The CUDA properties of a type; none without the feature.
#[cfg(not(feature = "cuda"))]
pub(crate) trait OnCuda {}
#[cfg(not(feature = "cuda"))]
impl<T> OnCuda for T {}

/// Returns the result of the CUDA back end, if `tensor` is on CUDA.
macro_rules! on_cuda {
    ($tensor:expr, $call:expr) => {
        #[cfg(feature = "cuda")]
        if $tensor.device().is_cuda() {
            return $call;
        }
    };
}
pub(crate) use on_cuda;

/// The types in which activations and their gradients are stored: `f32` or bf16.
pub(crate) trait Stored: Element + WithDType + OnCuda {
    /// The elements of a storage, if it has this type.
    fn of(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

impl Stored for f32 {
    fn of(storage: &mut CpuStorage) -> Option<&mut [f32]> {
        if let CpuStorage::F32(all) = storage { Some(all) } else { None }
    }
}

impl Stored for bf16 {
    fn of(storage: &mut CpuStorage) -> Option<&mut [bf16]> {
        if let CpuStorage::BF16(all) = storage { Some(all) } else { None }
    }
}

/// Calls a function that is generic in [`Stored`] with the type of `tensor`.
macro_rules! stored {
    ($tensor:expr, $run:ident($($argument:expr),* $(,)?)) => {
        match $tensor.dtype() {
            candle_core::DType::BF16 => $run::<half::bf16>($($argument),*),
            // For any other type, the function fails with `Error::Type`.
            _ => $run::<f32>($($argument),*),
        }
    };
}
pub(crate) use stored;

/// The elements of a contiguous CPU tensor, locked for reading.
pub(crate) struct View<'a, T = f32> {
    storage: StorageRef<'a>,
    start: usize,
    len: usize,
    /// Elements from one pixel, the last axis, to the next.
    pitch: usize,
    kind: PhantomData<T>,
}

impl<'a, T: WithDType> View<'a, T> {
    /// Locks `tensor`, which operator `op` calls `name`.
    pub(crate) fn new(op: &'static str, name: &'static str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cpu(cpu) = &*storage else {
            let got = format!("{:?}", tensor.device().location());
            return Err(Error::Device { op, name, got }.into());
        };
        let (start, end) = span::<T>(op, name, cpu, layout)?;
        let pitch = layout.dims().last().copied().unwrap_or(1);
        Ok(Self { storage, start, len: end - start, pitch, kind: PhantomData })
    }

    /// As [`View::new`], but the pixels of `[..., C]` may be more than `C` elements apart, as in a part of the channels.
    pub(crate) fn pixels(op: &'static str, name: &'static str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Some(pitch), Storage::Cpu(cpu)) = (pixel_pitch(layout), &*storage) else {
            drop(storage);
            return Self::new(op, name, tensor);
        };
        check_type::<T>(op, name, cpu)?;
        let len = pixels_len(layout, pitch);
        Ok(Self { storage, start: layout.start_offset(), len, pitch, kind: PhantomData })
    }

    /// Elements from one pixel to the next.
    pub(crate) fn pitch(&self) -> usize {
        self.pitch
    }
}

/// Elements from the first element of the first pixel to the last element of the last pixel.
fn pixels_len(layout: &Layout, pitch: usize) -> usize {
    match layout.dims() {
        [pixels @ .., channels] if layout.shape().elem_count() > 0 => {
            (pixels.iter().product::<usize>() - 1) * pitch + channels
        }
        _ => 0,
    }
}

/// As [`View::pixels`], for a storage: the elements, including the gaps, and the distance from pixel to pixel.
pub(crate) fn pixels<'a, T: Stored>(
    op: &'static str,
    name: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<(&'a [T], usize)> {
    let Some(pitch) = pixel_pitch(layout) else {
        let pitch = layout.dims().last().copied().unwrap_or(1);
        return Ok((slice(op, name, storage, layout)?, pitch));
    };
    check_type::<T>(op, name, storage)?;
    Ok((&storage.as_slice::<T>()?[layout.start_offset()..][..pixels_len(layout, pitch)], pitch))
}

/// As [`pixels`], for writing.
pub(crate) fn pixels_mut<'a, T: Stored>(
    op: &'static str,
    name: &'static str,
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<(&'a mut [T], usize)> {
    let Some(pitch) = pixel_pitch(layout) else {
        let pitch = layout.dims().last().copied().unwrap_or(1);
        return Ok((slice_mut(op, name, storage, layout)?, pitch));
    };
    check_type::<T>(op, name, storage)?;
    match T::of(storage) {
        Some(all) => Ok((&mut all[layout.start_offset()..][..pixels_len(layout, pitch)], pitch)),
        None => unreachable!("the type has been checked"),
    }
}

/// The distance between neighbouring pixels of `[..., C]`, if it is the same for all and channels are contiguous.
pub(crate) fn pixel_pitch(layout: &Layout) -> Option<usize> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let (channels, inner) = (*dims.last()?, *strides.last()?);
    let pitch = *strides.get(strides.len().checked_sub(2)?)?;
    let mut expected = pitch;
    for (dim, stride) in dims.iter().zip(strides).rev().skip(1) {
        if *stride != expected {
            return None;
        }
        expected = stride.checked_mul(*dim)?;
    }
    (inner == 1 && pitch >= channels).then_some(pitch)
}

impl<T: WithDType> Deref for View<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(cpu) => cpu.as_slice::<T>().map_or(&[], |all| &all[self.start..self.start + self.len]),
            _ => &[],
        }
    }
}

/// The elements of a contiguous `CpuStorage`.
pub(crate) fn slice<'a, T: WithDType>(
    op: &'static str,
    name: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let (start, end) = span::<T>(op, name, storage, layout)?;
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// The elements of a contiguous `CpuStorage`, for writing.
pub(crate) fn slice_mut<'a, T: Stored>(
    op: &'static str,
    name: &'static str,
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [T]> {
    let (start, end) = span::<T>(op, name, storage, layout)?;
    match T::of(storage) {
        Some(all) => Ok(&mut all[start..end]),
        None => unreachable!("`span` has checked the type"),
    }
}

fn span<T: WithDType>(
    op: &'static str,
    name: &'static str,
    storage: &CpuStorage,
    layout: &Layout,
) -> Result<(usize, usize)> {
    check_type::<T>(op, name, storage)?;
    layout.contiguous_offsets().ok_or_else(|| {
        Error::Strided { op, name, shape: layout.shape().clone(), strides: layout.stride().to_vec() }.into()
    })
}

fn check_type<T: WithDType>(op: &'static str, name: &'static str, storage: &CpuStorage) -> Result<()> {
    use candle_core::backend::BackendStorage as _;
    let (expected, got) = (T::DTYPE, storage.dtype());
    if got != expected {
        return Err(Error::Type { op, name, expected, got }.into());
    }
    Ok(())
}

/// The four dimensions of `tensor`; the error for another number says `expected`.
pub(crate) fn dims4(op: &'static str, name: &'static str, tensor: &Tensor, expected: &str) -> Result<[usize; 4]> {
    tensor.dims().try_into().map_err(|_| {
        let got = tensor.dims().to_vec();
        Error::Shape { op, name, expected: expected.to_owned(), got }.into()
    })
}

/// Fails unless the shape is `expected`.
pub(crate) fn check_shape(op: &'static str, name: &'static str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.dims() == expected {
        return Ok(());
    }
    let (expected, got) = (format!("{expected:?}"), tensor.dims().to_vec());
    Err(Error::Shape { op, name, expected, got }.into())
}

/// Fails unless each of these vectors is `[channels]`.
pub(crate) fn check_vectors(op: &'static str, channels: usize, vectors: &[(&'static str, &Tensor)]) -> Result<()> {
    vectors.iter().try_for_each(|(name, vector)| check_shape(op, name, vector, &[channels]))
}

/// Fails for sizes that no memory holds, so that products of valid sizes cannot overflow.
pub(crate) fn check_count(op: &'static str, name: &'static str, sizes: [usize; 4]) -> Result<()> {
    let bytes = sizes.iter().try_fold(size_of::<f32>(), |bytes, size| bytes.checked_mul(*size.max(&1)));
    if bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        return Ok(());
    }
    let (expected, got) = ("small enough to be stored".to_owned(), format!("{sizes:?}"));
    Err(Error::Parameter { op, name, expected, got }.into())
}
