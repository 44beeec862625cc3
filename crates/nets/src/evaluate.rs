//! A network's outputs for many images, in order.
//!
//! On a CPU the outputs of an image do not depend on the batch that it is in.

use std::ops::{ControlFlow, Range};

use candle_core::Tensor;
use cxr::{EvalFrame, OUTPUTS, Tta};
use ops::augment::AugmentParams;

use crate::augment::evaluation;
use crate::data::Images;
use crate::deferred::DeferredReadback;
use crate::error::{Error, Result};
use crate::loader::Loader;
use crate::models::network::{Evaluated, Network};

/// Features and logits of a batch of `n` images.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Index of its first image.
    pub first: usize,
    /// The pooled vectors, `[n, K]`.
    pub pool: Vec<f32>,
    /// The logits, in the order of [`cxr::output_names`].
    pub logits: Vec<[f32; OUTPUTS]>,
}

/// `K` values that were computed on the device from a network's outputs for a batch of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken<const K: usize> {
    /// Index of its first image.
    pub first: usize,
    /// The elements of each value's tensor.
    pub values: [Vec<f32>; K],
}

/// Runs `network` over `images` in batches of `batch`; `each` gets the features and logits of every batch, in order, and
/// may stop.
///
/// With test-time augmentation, an image's features and logits are the means of those of its views, as torchvision averages
/// the outputs of its `TenCrop`. (Means of probabilities, as in Krizhevsky et al., NIPS 2012, are an alternative; but the
/// logits are linear in the features, and the means of both still belong together, here and in the fusion layer.) A batch
/// then has `batch` views, or those of one image.
///
/// # Errors
/// [`Error::Stopped`] if `each` breaks; a `frame` of other images or one that they do not hold; what `each` returns.
pub fn evaluate<E: From<Error>>(
    network: &Network,
    images: &Images,
    frame: EvalFrame,
    tta: Tta,
    batch: usize,
    each: &mut dyn FnMut(Scores) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    evaluate_range(network, images, 0..images.len(), (frame, tta), batch, each)
}

/// As [`evaluate()`], of the images with the indices `range`; batches begin with its first.
///
/// # Errors
/// As [`evaluate()`].
pub fn evaluate_range<E: From<Error>>(
    network: &Network,
    images: &Images,
    range: Range<usize>,
    (frame, tta): (EvalFrame, Tta),
    batch: usize,
    each: &mut dyn FnMut(Scores) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    let loader = Loader::new(images, network.device())?;
    let take = |evaluated: Evaluated| Ok([evaluated.pool, evaluated.logits]);
    let views = tta.views(frame).len();
    run(network, &loader, range, (frame, tta), batch, &take, &mut |first, [pool, logits]| {
        let pool = means(pool, network.backbone().channels(), views);
        let logits = means(logits, OUTPUTS, views);
        each(Scores { first, pool, logits: logits.as_chunks().0.to_vec() })
    })
}

/// As [`evaluate()`]; `each` gets what `take` makes of a batch's outputs on the device: `f32` tensors.
///
/// # Errors
/// As [`evaluate()`]; what `take` returns.
pub fn evaluate_with<const K: usize, E: From<Error>>(
    network: &Network,
    images: &Images,
    frame: EvalFrame,
    batch: usize,
    take: &dyn Fn(Evaluated) -> candle_core::Result<[Tensor; K]>,
    each: &mut dyn FnMut(Taken<K>) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    evaluate_with_range(network, images, 0..images.len(), frame, batch, take, each)
}

/// As [`evaluate_with()`], of the images with the indices `range`; batches begin with its first.
///
/// # Errors
/// As [`evaluate_with()`].
pub fn evaluate_with_range<const K: usize, E: From<Error>>(
    network: &Network,
    images: &Images,
    range: Range<usize>,
    frame: EvalFrame,
    batch: usize,
    take: &dyn Fn(Evaluated) -> candle_core::Result<[Tensor; K]>,
    each: &mut dyn FnMut(Taken<K>) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    let loader = Loader::new(images, network.device())?;
    let take = |evaluated: Evaluated| Ok(take(evaluated)?);
    run(network, &loader, range, (frame, Tta::None), batch, &take, &mut |first, values| each(Taken { first, values }))
}

/// The logits of a loader's images with the indices `range`; `go_on` gets the number of images after every batch.
pub(crate) fn logits(
    network: &Network,
    loader: &Loader,
    range: Range<usize>,
    frame: EvalFrame,
    batch: usize,
    go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<[f32; OUTPUTS]>> {
    let mut all: Vec<[f32; OUTPUTS]> = Vec::with_capacity(range.len());
    let take = |evaluated: Evaluated| Ok([evaluated.logits]);
    run(network, loader, range, (frame, Tta::None), batch, &take, &mut |_, [logits]| -> Result<_> {
        all.extend(logits.as_chunks().0);
        Ok(go_on(all.len()))
    })?;
    Ok(all)
}

/// The means over `views` rows each, of `values [n views, len]`.
fn means(values: Vec<f32>, len: usize, views: usize) -> Vec<f32> {
    if views == 1 {
        return values;
    }
    let mean = |rows: &[f32]| {
        let sum = |column: usize| rows.iter().skip(column).step_by(len).map(|&value| f64::from(value)).sum::<f64>();
        (0..len).map(|column| (sum(column) / views as f64) as f32).collect::<Vec<_>>()
    };
    values.chunks_exact(len * views).flat_map(mean).collect()
}

/// Runs over the images `range`. `take` chooses the tensors to be read; `each` gets the index of a batch's first image, and
/// their values, view by view.
fn run<const K: usize, E: From<Error>>(
    network: &Network,
    loader: &Loader,
    range: Range<usize>,
    (frame, tta): (EvalFrame, Tta),
    batch: usize,
    take: &dyn Fn(Evaluated) -> Result<[Tensor; K]>,
    each: &mut dyn FnMut(usize, [Vec<f32>; K]) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    let images = loader.images();
    check(images, frame)?;
    let params: Vec<AugmentParams> = range.clone().flat_map(|index| evaluation(index, frame, tta)).collect();
    let views = tta.views(frame).len();
    let batch = (batch / views).max(1) * views;
    let mut failed = None;
    let mut arrived = |first, values| match each(first, values) {
        Ok(ControlFlow::Continue(())) => Ok(()),
        Ok(ControlFlow::Break(())) => Err(Error::Stopped),
        Err(error) => {
            failed = Some(error);
            Err(Error::Stopped)
        }
    };
    let mut answers = DeferredReadback::new(network.device());
    let mut first = range.start;
    let input_px = frame.input_px;
    let ran = loader.each(&params, input_px, batch, network.evaluated_in(), &mut |_, x, _| {
        answers.push(first, take(network.forward_eval(&x)?)?, &mut arrived)?;
        first += x.dim(0)? / views;
        Ok(())
    });
    let ran = ran.and_then(|()| answers.drain(&mut arrived));
    match failed {
        Some(error) => Err(error),
        None => Ok(ran?),
    }
}

pub(crate) fn check(images: &Images, frame: EvalFrame) -> Result<()> {
    if images.is_empty() {
        return Ok(());
    }
    if frame.image_px != images.size() {
        return Err(Error::shape(
            "evaluated images",
            format!("{} px", frame.image_px),
            format!("{} px", images.size()),
        ));
    }
    if !frame.fits() {
        let expected = format!("at most {}, the side of the images", images.size());
        return Err(Error::Setting { key: "crop", got: frame.input_px.to_string(), expected });
    }
    Ok(())
}
