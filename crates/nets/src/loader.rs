//! The data loader: from stored images to batches on the network's device.
//!
//! On a CPU a thread makes the inputs of a step while the step before it runs. On CUDA the device makes them, in one
//! launch per batch, from images that it holds; where it cannot hold all of them, those of the next batch are gathered
//! in memory that it reads by itself. Images that are on disk are read for the next batch, in either case.

use std::sync::mpsc;

use candle_core::{DType, Device, Tensor};
use cxr::{Labels, OUTPUTS};
use ops::augment::{self, AugmentParams};
use rayon::prelude::*;

use crate::colours::COLOURS;
use crate::data::Images;
use crate::error::Result;

/// Gets a batch: its number from 0, its inputs `[n, side, side, 3]` and its targets `[n, 15]`.
pub(crate) type Take<'a> = &'a mut dyn FnMut(usize, Tensor, Tensor) -> Result<()>;

/// Images, and where batches are made of them.
pub(crate) struct Loader<'a> {
    images: &'a Images,
    device: Device,
    #[cfg(feature = "cuda")]
    resident: Option<cuda::Resident>,
}

impl<'a> Loader<'a> {
    /// On CUDA, images in memory move to the device if they take at most half of what is free there.
    pub(crate) fn new(images: &'a Images, device: &Device) -> Result<Loader<'a>> {
        #[cfg(feature = "cuda")]
        let resident = match images.pixels() {
            Some(pixels) if device.is_cuda() && pixels.len() <= ops::device::free_memory(device)? / 2 => {
                Some(cuda::Resident::new(images, pixels, device)?)
            }
            _ => None,
        };
        Ok(Loader {
            images,
            device: device.clone(),
            #[cfg(feature = "cuda")]
            resident,
        })
    }

    pub(crate) fn images(&self) -> &'a Images {
        self.images
    }

    /// Makes batches of what `params` say, in order; inputs are of `dtype` on CUDA, of `f32` on a CPU.
    pub(crate) fn each(
        &self,
        params: &[AugmentParams],
        side: usize,
        batch: usize,
        dtype: DType,
        take: Take,
    ) -> Result<()> {
        if params.is_empty() {
            return Ok(());
        }
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            return match &self.resident {
                Some(resident) => resident.each(params, side, batch, dtype, &self.device, take),
                None => cuda::streamed(self.images, params, side, batch, dtype, &self.device, take),
            };
        }
        let _ = dtype;
        let inputs = |params: &[AugmentParams]| {
            let size = self.images.size();
            Ok(match self.images.pixels() {
                Some(pixels) => augment::inputs(pixels, size, params, side, &COLOURS)?,
                None => augment::inputs(&gathered(self.images, params)?, size, &in_order(params), side, &COLOURS)?,
            })
        };
        ahead(params.chunks(batch), &inputs, &mut |step, params, pixels| {
            let x = Tensor::from_vec(pixels, (params.len(), side, side, 3), &self.device)?;
            take(step, x, targets(self.images, params, &self.device)?)
        })
    }
}

/// The images of a batch, `[n, size, size]`.
fn gathered(images: &Images, params: &[AugmentParams]) -> Result<Vec<u8>> {
    let mut pixels = vec![0; params.len() * images.bytes()];
    gather(images, params, &mut pixels)?;
    Ok(pixels)
}

/// Copies the images of a batch to `pixels`, `[n, size, size]`.
fn gather(images: &Images, params: &[AugmentParams], pixels: &mut [u8]) -> Result<()> {
    let rows = pixels.par_chunks_exact_mut(images.bytes().max(1)).zip(params);
    rows.map(|(row, one)| images.copy(one.index, row)).collect()
}

/// The parameters of a batch whose images were gathered in its order.
fn in_order(params: &[AugmentParams]) -> Vec<AugmentParams> {
    params.iter().enumerate().map(|(index, one)| AugmentParams { index, ..*one }).collect()
}

/// The targets of an image.
fn targets_of(labels: Labels) -> [f32; OUTPUTS] {
    labels.outputs().map(ops::target)
}

/// The targets `[n, 15]` of some images.
fn targets(images: &Images, params: &[AugmentParams], device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = params.iter().flat_map(|one| targets_of(images.labels()[one.index])).collect();
    Ok(Tensor::from_vec(values, (params.len(), OUTPUTS), device)?)
}

/// Gives each item, with its number and what `make` returns for it, to `take`, in order. `make` runs on a thread of its
/// own, at most two items ahead.
fn ahead<I: Clone + Send, B: Send>(
    items: impl Iterator<Item = I> + Send,
    make: &(dyn Fn(I) -> Result<B> + Sync),
    take: &mut dyn FnMut(usize, I, B) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, made) = mpsc::sync_channel(1);
        scope.spawn(move || {
            for item in items {
                // Nobody takes any more: `take` has failed.
                if sender.send((item.clone(), make(item))).is_err() {
                    break;
                }
            }
        });
        made.into_iter().enumerate().try_for_each(|(index, (item, made))| take(index, item, made?))
    })
}

#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use std::sync::Mutex;

    use ops::augment::{AugmentPlan, augment};
    use ops::transfer::Staging;

    use super::*;
    /// Images on the device.
    pub(crate) struct Resident {
        /// `[N, size, size]` grey.
        pixels: Tensor,
        /// `[N, 15]`.
        targets: Tensor,
    }

    impl Resident {
        pub(crate) fn new(images: &Images, pixels: &[u8], device: &Device) -> Result<Resident> {
            let shape = (images.len(), images.size(), images.size());
            let targets: Vec<f32> = images.labels().iter().copied().flat_map(targets_of).collect();
            Ok(Resident {
                pixels: Tensor::from_slice(pixels, shape, device)?,
                targets: Tensor::from_vec(targets, (images.len(), OUTPUTS), device)?,
            })
        }

        pub(crate) fn each(
            &self,
            params: &[AugmentParams],
            side: usize,
            batch: usize,
            dtype: DType,
            device: &Device,
            take: Take,
        ) -> Result<()> {
            let (images, size, _) = self.pixels.dims3()?;
            let plan = AugmentPlan::new(params, images, size, device)?;
            for (step, params) in params.chunks(batch).enumerate() {
                let which = (step * batch, params.len());
                let (x, targets) = augment(&self.pixels, &plan, which, Some(&self.targets), side, &COLOURS, dtype)?;
                take(step, x, targets.unwrap_or(self.targets.clone()))?;
            }
            Ok(())
        }
    }

    /// Batches that are being gathered, on their way, or being read.
    const STAGED: usize = 3;

    /// Makes batches of images that are not on the device.
    pub(crate) fn streamed(
        images: &Images,
        params: &[AugmentParams],
        side: usize,
        batch: usize,
        dtype: DType,
        device: &Device,
        take: Take,
    ) -> Result<()> {
        let size = images.size();
        let (back, free) = mpsc::channel();
        for _ in 0..STAGED {
            // Into a channel whose other end is here.
            let _ = back.send(Staging::new(device, batch.min(params.len()) * images.bytes())?);
        }
        let free = Mutex::new(free);
        let gather = |params: &[AugmentParams]| -> Result<Option<Staging>> {
            let staging = free.lock().ok().and_then(|free| free.recv().ok());
            let Some(mut staging) = staging else { return Ok(None) }; // `take` has failed
            gather(images, params, staging.bytes()?)?;
            Ok(Some(staging))
        };
        ahead(params.chunks(batch), &gather, &mut |step, params, staging| {
            let Some(staging) = staging else { return Ok(()) };
            let pixels = staging.upload((params.len(), size, size), device)?;
            let _ = back.send(staging); // into a channel whose other end is here
            let plan = AugmentPlan::new(&in_order(params), params.len(), size, device)?;
            let (x, _) = augment(&pixels, &plan, (0, params.len()), None, side, &COLOURS, dtype)?;
            take(step, x, targets(images, params, device)?)
        })
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use cxr::{EvalCrop, EvalFrame, Finding, Tta};

    use super::*;
    use crate::augment::{evaluation, training};
    use crate::recipe::{ImageRecipe, Precision};

    /// The device and the CPU make the same inputs, to a tenth of a grey level.
    #[test]
    fn the_device_makes_the_inputs_that_the_cpu_makes() {
        let (count, size, side) = (11, 37, 32);
        let mut images = Images::in_memory(size, count);
        let mut on_disk = Images::on_disk(size, tempfile::tempfile().unwrap());
        for index in 0..count {
            let grey = |at: usize| ((at * at * 31 + at * 7 + index * 53) % 251) as u8;
            let image: Vec<u8> = (0..size * size).map(grey).collect();
            for images in [&mut images, &mut on_disk] {
                images.push(&image, Labels::from_iter([Finding::ALL[index]])).unwrap();
            }
        }
        let recipe = ImageRecipe {
            input_px: side,
            crop: EvalCrop::Centre,
            crop_schedule: Vec::new(),
            scale_min: 0.2,
            ratio_max: crate::recipe::ratio_max(),
            flip: true,
            rotate_deg: 30.0,
            brightness: 0.4,
            contrast: 0.4,
            precision: Precision::F32,
        };
        let mut params: Vec<AugmentParams> =
            (0..count).rev().map(|index| training(size, index, &recipe, 5, 3)).collect();
        for crop in [EvalCrop::Centre, EvalCrop::Whole] {
            let frame = EvalFrame { crop, image_px: size, input_px: side };
            params.extend((0..count).flat_map(|index| evaluation(index, frame, Tta::None)));
        }
        let (expected, device) = (
            augment::inputs(images.pixels().unwrap(), size, &params, side, &COLOURS).unwrap(),
            crate::device::device("cuda").unwrap(),
        );
        let check = |which: &str, run: &dyn Fn(Take) -> Result<()>| {
            let (mut seen, mut targets) = (Vec::new(), Vec::new());
            run(&mut |_, x, y| {
                seen.extend(x.flatten_all()?.to_vec1::<f32>()?);
                targets.extend(y.flatten_all()?.to_vec1::<f32>()?);
                Ok(())
            })
            .unwrap();
            assert_eq!(seen.len(), expected.len(), "{which}");
            for (at, (got, expected)) in seen.iter().zip(&expected).enumerate() {
                let grey = (got - expected).abs() * COLOURS.deviation[at % 3] * 255.0;
                let one = params[at / (side * side * 3)];
                assert!(grey < 0.1, "{which}: {got}, expected {expected}, value {at}, {one:?}");
            }
            let rows = params.iter().flat_map(|one| targets_of(images.labels()[one.index]));
            assert_eq!(targets, rows.collect::<Vec<_>>(), "{which}");
        };
        let loader = Loader::new(&images, &device).unwrap();
        assert!(loader.resident.is_some());
        check("resident", &|take| loader.each(&params, side, 4, DType::F32, take));
        check("streamed", &|take| cuda::streamed(&images, &params, side, 4, DType::F32, &device, take));
        let loader = Loader::new(&on_disk, &device).unwrap();
        assert!(loader.resident.is_none());
        check("on disk", &|take| loader.each(&params, side, 4, DType::F32, take));
    }
}
