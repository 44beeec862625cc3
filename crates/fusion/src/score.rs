use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, Module, Tensor};
use candle_nn::Linear;
use cxr::OUTPUTS;
use nets::Fit;
use nets::weights::{self, Meta};
use tables::predictions::Row;

use crate::error::Error;
use crate::join::Samples;

/// Names of the layer's tensors in weights files.
pub(crate) const WEIGHT: &str = "fc.weight";
pub(crate) const BIAS: &str = "fc.bias";

/// Images scored at a time.
const BATCH: usize = 1024;

/// Scores all images of all splits, sorted by `image_id`.
///
/// # Errors
/// A layer of another shape than `[15, D]`; an interruption.
pub fn score(layer: &Linear, samples: &Samples) -> Result<Vec<Row>, Error> {
    let all: Vec<usize> = (0..samples.rows().len()).collect();
    let go_on = &mut |_| if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let logits = logits_of(layer, samples, &all, go_on)?;
    Ok(samples.rows().iter().zip(logits).map(|(row, logits)| Row { logits, ..row.clone() }).collect())
}

/// The logits of some images; `go_on` gets the number of images that are done.
pub(crate) fn logits_of(
    layer: &Linear,
    samples: &Samples,
    indices: &[usize],
    go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> nets::Result<Vec<[f32; OUTPUTS]>> {
    let mut logits = Vec::with_capacity(indices.len());
    for batch in indices.chunks(BATCH) {
        let shape = (batch.len(), samples.dim());
        let inputs = Tensor::from_vec(samples.inputs(batch), shape, layer.weight().device())?;
        let values = layer.forward(&inputs)?.flatten_all()?.to_vec1::<f32>()?;
        logits.extend(values.as_chunks::<OUTPUTS>().0);
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
    let meta = Meta { backbone: "fusion".to_owned(), pool: String::new(), frame: None };
    weights::write(&folder.join(WEIGHTS), &tensors, &meta)?;
    Ok(branch::write_epochs(folder, fit)?)
}

/// Reads the layer that [`write`](fn@write) wrote.
///
/// # Errors
/// The file is damaged, or no fusion layer.
pub fn read(path: &Path, device: &Device) -> Result<Linear, Error> {
    let (tensors, _) = weights::read(path, device)?;
    let mut named: HashMap<String, Tensor> = tensors.into_iter().collect();
    match (named.remove(WEIGHT), named.remove(BIAS)) {
        (Some(weight), bias) => Ok(Linear::new(weight, bias)),
        (None, _) => {
            Err(Error::Head { path: path.to_owned(), expected: format!("called {WEIGHT}"), got: "none".to_owned() })
        }
    }
}
