//! Two branches that see half of the truth each.

#![allow(dead_code, unreachable_pub)] // not every test binary uses everything

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use candle_nn::Linear;
use cxr::{Finding, ImageKey, Labels, OUTPUTS, Split};
use fusion::{Branch, Config, Samples};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tables::features::Features;
use tables::predictions::Row;
use tables::{features, predictions};

/// Images: 300 to train, 100 to validate, 100 to test.
pub const IMAGES: usize = 500;

/// Features of global and local: one of signal per finding, the others noise.
pub const DIMS: [usize; 2] = [20, 16];

/// The tables of a branch.
#[derive(Clone)]
pub struct Tables {
    pub features: Features,
    pub predictions: Vec<Row>,
}

/// A finding is present where the sum of what the two branches see of it is large. Their logits are zero.
pub fn branches() -> [Tables; 2] {
    branches_of(IMAGES, DIMS)
}

/// As [`branches`], of any size.
pub fn branches_of(images: usize, dims: [usize; 2]) -> [Tables; 2] {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut seen: [Vec<f32>; 2] = Default::default();
    let mut rows = Vec::new();
    for index in 0..images {
        let [global, local] = dims.map(|dim| (0..dim).map(|_| random.random_range(0.0..2.0)).collect::<Vec<f32>>());
        let mut labels = Labels::default();
        for finding in
            Finding::ALL.into_iter().filter(|&finding| global[finding.index()] + local[finding.index()] > 2.4)
        {
            labels.set(finding, Some(true));
        }
        seen[0].extend(global);
        seen[1].extend(local);
        let split = match index % 5 {
            0..3 => Split::Train,
            3 => Split::Validation,
            _ => Split::Test,
        };
        let (image_id, patient_id) = (format!("{index:08}_000.png"), index as u32);
        let key = ImageKey { image_id, patient_id, split, labels };
        rows.push(Row { key, logits: [0.0; OUTPUTS] });
    }
    let image_ids: Vec<String> = rows.iter().map(|row| row.key.image_id.clone()).collect();
    let mut seen = seen.into_iter();
    dims.map(|dim| {
        let pool = seen.next().unwrap_or_default();
        Tables { features: Features { image_ids: image_ids.clone(), dim, pool }, predictions: rows.clone() }
    })
}

impl Tables {
    /// Writes them, and a last layer whose bias is `bias`, as a branch does.
    pub fn write(&self, folder: &Path, bias: f32) {
        features::write(&folder.join("features.parquet"), &self.features, "test").unwrap();
        predictions::write(&folder.join("predictions.parquet"), &self.predictions, "test").unwrap();
        let dim = self.features.dim;
        let weight: Vec<f32> = (0..OUTPUTS * dim).map(|index| (index as f32 + bias).sin()).collect();
        let tensors = [
            ("fc.weight".to_owned(), Tensor::from_vec(weight, (OUTPUTS, dim), &Device::Cpu).unwrap()),
            ("fc.bias".to_owned(), Tensor::full(bias, OUTPUTS, &Device::Cpu).unwrap()),
        ];
        let meta =
            nets::weights::Meta { backbone: "test".to_owned(), pool: String::new(), frame: None, tta: cxr::Tta::None };
        nets::weights::write(&folder.join("weights.safetensors"), &tensors, &meta).unwrap();
    }
}

/// Writes both branches into `<folder>/global` and `<folder>/local`.
pub fn write(folder: &Path, branches: &[Tables; 2]) -> [PathBuf; 2] {
    let folders = ["global", "local"].map(|name| folder.join(name));
    for (folder, (tables, bias)) in folders.iter().zip(branches.iter().zip([0.25, -1.5])) {
        fs_err::create_dir_all(folder).unwrap();
        tables.write(folder, bias);
    }
    folders
}

/// Reads and joins them.
pub fn join(folders: &[PathBuf; 2]) -> Result<Samples, fusion::Error> {
    let read = |folder: &PathBuf| Branch::read(&folder.join("features.parquet"), &folder.join("predictions.parquet"));
    fusion::join(read(&folders[0])?, read(&folders[1])?)
}

/// The defaults.
pub fn config() -> Config {
    toml::from_str::<toml::Table>(fusion::SPEC.defaults).unwrap()["fusion"].clone().try_into().unwrap()
}

/// Trains in a folder of its own.
pub fn train(
    samples: &Samples,
    config: &Config,
    start: &Linear,
    seed: u64,
) -> Result<(Linear, nets::Fit), fusion::Error> {
    let folder = tempfile::tempdir().unwrap();
    let identity = fusion::identity(samples, config, start, seed)?;
    let checkpoints = nets::Checkpoints { folder: folder.path(), others: &[], minutes: 10.0 };
    fusion::train(samples, config, start, &identity, &checkpoints, &mut stage::Scalars::nowhere())
}

/// Scores all images by a layer that was just trained.
pub fn score(layer: &Linear, samples: &Samples) -> Result<Vec<tables::predictions::Row>, fusion::Error> {
    fusion::score(&model::fusion::FusionLayer::new(layer.weight(), layer.bias())?, samples)
}
