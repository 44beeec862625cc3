//! A tiny model of random weights.

use std::path::Path;

use candle_core::{Device, Tensor};
use cxr::heatmap::{Normalise, Statistic};
use cxr::metrics::decision::Criterion;
use cxr::{CropSource, EvalCrop, EvalFrame, Finding, Labels, OUTPUTS};
use model::region::Threshold;
use model::{Attention, Decision, Described, Gate, Novelty, Preparation, Validation, folder};
use nets::weights::{self, Meta};
use nets::{Backbone, Network, Pool};
use picture::Grey;

/// Side of the prepared image, px.
const SIZE: usize = 48;

/// Numbers that look random, from -1 to 1.
fn numbers(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    }
}

/// Writes a model of two random networks into `folder`; its gate refuses nothing for its novelty.
pub fn model(folder: &Path) {
    let frame = EvalFrame { crop: EvalCrop::Centre, image_px: SIZE, input_px: 40 };
    let whole = EvalFrame { crop: EvalCrop::Whole, image_px: SIZE, input_px: 40 };
    for (index, (name, frame)) in folder::names::WEIGHTS.into_iter().zip([frame, whole]).enumerate() {
        let network = Network::new(Backbone::Mini, Pool::Max, index as u64 + 1, &Device::Cpu).unwrap();
        network.save(&folder.join(name), Some(frame)).unwrap();
    }
    let dim = 2 * Backbone::Mini.channels();
    let mut next = numbers(3);
    let weight: Vec<f32> = (0..OUTPUTS * dim).map(|_| next() / 8.0).collect();
    let weight = Tensor::from_vec(weight, (OUTPUTS, dim), &Device::Cpu).unwrap();
    let bias = Tensor::zeros(OUTPUTS, candle_core::DType::F32, &Device::Cpu).unwrap();
    let tensors = [("fc.weight".to_owned(), weight), ("fc.bias".to_owned(), bias)];
    let meta = Meta { backbone: "fusion".to_owned(), pool: String::new(), frame: None, tta: cxr::Tta::None };
    weights::write(&folder.join(folder::names::WEIGHTS[2]), &tensors, &meta).unwrap();

    let rows: Vec<Vec<f32>> = (0..40).map(|_| (0..dim / 2).map(|_| next().abs() + 0.1).collect()).collect();
    let mut noise = || Grey { width: 40, height: 40, pixels: (0..1600).map(|_| (next() * 255.0) as u8).collect() };
    let rows: Vec<Described> = rows.iter().map(|row| Described::new(row, &noise())).collect();
    let logits: Vec<[f32; OUTPUTS]> = (0..60).map(|_| std::array::from_fn(|_| next() * 2.0)).collect();
    let truth = |row: &[f32; OUTPUTS]| Finding::ALL.into_iter().filter(|f| row[f.index()] > 0.5).collect();
    let labels: Vec<Labels> = logits.iter().map(truth).collect();
    let parts = folder::Parts {
        preparation: Preparation { size_px: SIZE as u32, contrast: 1.0 },
        attention: Attention {
            frame,
            threshold: Threshold::Tau(0.5),
            statistic: Statistic::Max,
            normalise: Normalise::Minmax,
            cells: Some(Backbone::Mini.cells()),
            source: CropSource::Prepared,
            contrast: 1.0,
            size_px: SIZE as u32,
        },
        backbones: [Backbone::Mini, Backbone::Mini].map(|backbone| backbone.name().to_owned()),
        decision: Decision::fit(&logits, &labels, Criterion::Youden),
        gate: Gate { min_side_px: 32, max_colour: 8.0, min_deviation: 4.0, min_levels: 16, max_novelty: 100.0 },
        novelty: &Novelty::fit(&rows[..30], &rows[30..]).unwrap(),
        validation: &Validation { logits: [logits.clone(), logits.clone(), logits], labels },
    };
    folder::write(folder, &parts).unwrap();
}
