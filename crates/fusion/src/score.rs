use std::ops::ControlFlow;
use std::path::Path;

use candle_nn::Linear;
use cxr::OUTPUTS;
use model::fusion::{BIAS, FusionLayer, WEIGHT};
use nets::Fit;
use nets::weights::{self, Meta};
use rayon::prelude::*;
use tables::predictions::Row;

use crate::error::Error;
use crate::join::Samples;

/// Images scored between two questions whether to go on.
const CHUNK: usize = 1024;

/// Scores all images of all splits, sorted by `image_id`.
///
/// # Errors
/// An interruption.
pub fn score(layer: &FusionLayer, samples: &Samples) -> Result<Vec<Row>, Error> {
    let all: Vec<usize> = (0..samples.rows().len()).collect();
    let go_on = &mut |_| if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let logits = logits_of(layer, samples, &all, go_on)?;
    Ok(samples.rows().iter().zip(logits).map(|(row, logits)| Row { logits, ..row.clone() }).collect())
}

/// The logits of some images; `go_on` gets the number of images that are done.
pub(crate) fn logits_of(
    layer: &FusionLayer,
    samples: &Samples,
    indices: &[usize],
    go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> nets::Result<Vec<[f32; OUTPUTS]>> {
    let mut logits = Vec::with_capacity(indices.len());
    for chunk in indices.chunks(CHUNK) {
        logits.par_extend(chunk.par_iter().map(|&index| layer.logits(samples.features(index))));
        if go_on(logits.len()).is_break() {
            return Err(nets::Error::Stopped);
        }
    }
    Ok(logits)
}

const WEIGHTS: &str = "weights.safetensors";

/// Writes `weights.safetensors` (`fc.weight [15, D]`, `fc.bias [15]`) and `epochs.parquet` into `folder`.
///
/// # Errors
/// The disk is full.
pub fn write(folder: &Path, layer: &Linear, fit: &Fit) -> Result<(), Error> {
    let mut tensors = vec![(WEIGHT.to_owned(), layer.weight().clone())];
    tensors.extend(layer.bias().map(|bias| (BIAS.to_owned(), bias.clone())));
    let meta = Meta { backbone: "fusion".to_owned(), pool: String::new(), frame: None, tta: cxr::Tta::None };
    weights::write(&folder.join(WEIGHTS), &tensors, &meta)?;
    Ok(branch::write_epochs(folder, fit)?)
}
