//! Joining two branches' tables: one sample per image.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use cxr::{OUTPUTS, Split};
use tables::features::Features;
use tables::predictions::Row;
use tables::{features, predictions};

use crate::{Difference, Error};

/// The tables of a branch, and where they are.
#[derive(Debug, Clone)]
pub struct Branch {
    features: Features,
    predictions: Vec<Row>,
    path: PathBuf,
}

impl Branch {
    /// Reads two tables of one branch.
    ///
    /// # Errors
    /// A file that is no such table; an image that is in one of them only.
    pub fn read(features: &Path, predictions: &Path) -> Result<Branch, Error> {
        let (path, other) = (predictions, features);
        let (features, predictions) = (features::read(features)?, predictions::read(predictions)?);
        let ids = features.image_ids.iter().map(String::as_str);
        same_images((path, predictions.iter().map(|row| row.key.image_id.as_str())), (other, ids))?;
        Ok(Branch { features, predictions, path: path.to_owned() })
    }
}

/// All images that both branches know, with the features of both, sorted by `image_id`.
#[derive(Debug, Clone)]
pub struct Samples {
    rows: Vec<Row>,
    global: Features,
    local: Features,
}

/// Joins two branches by `image_id`.
///
/// # Errors
/// An image that one of them lacks; an image of another split, patient or other labels.
pub fn join(global: Branch, local: Branch) -> Result<Samples, Error> {
    let ids = |branch: &Branch| branch.predictions.iter().map(|row| row.key.image_id.clone()).collect::<Vec<_>>();
    let (of_global, of_local) = (ids(&global), ids(&local));
    let ids = (of_global.iter().map(String::as_str), of_local.iter().map(String::as_str));
    same_images((&global.path, ids.0), (&local.path, ids.1))?;
    for (one, two) in global.predictions.iter().zip(&local.predictions) {
        let differs = |what, expected: String, got: String| {
            let (path, other) = (local.path.clone(), global.path.clone());
            Err(Box::new(Difference { image_id: one.key.image_id.clone(), what, path, got, other, expected }).into())
        };
        if one.key.split != two.key.split {
            return differs("split", one.key.split.to_string(), two.key.split.to_string());
        }
        if one.key.patient_id != two.key.patient_id {
            return differs("patient_id", one.key.patient_id.to_string(), two.key.patient_id.to_string());
        }
        if one.key.labels != two.key.labels {
            return differs("labels", one.key.labels.to_string(), two.key.labels.to_string());
        }
    }
    Ok(Samples { rows: global.predictions, global: global.features, local: local.features })
}

/// Both tables, sorted by `image_id` and free of duplicates as readers promise, have the same images.
fn same_images<'a>(
    (path, mut ids): (&Path, impl Iterator<Item = &'a str>),
    (other_path, mut other_ids): (&Path, impl Iterator<Item = &'a str>),
) -> Result<(), Error> {
    let missing = |image_id: &str, path: &Path, other: &Path| {
        Err(Error::Missing { image_id: image_id.to_owned(), path: path.to_owned(), other: other.to_owned() })
    };
    loop {
        match (ids.next(), other_ids.next()) {
            (None, None) => return Ok(()),
            (Some(id), None) => return missing(id, other_path, path),
            (None, Some(id)) => return missing(id, path, other_path),
            // In sorted tables the smaller of two that differ is the one that its neighbour lacks.
            (Some(id), Some(other)) => match id.cmp(other) {
                Ordering::Equal => {}
                Ordering::Less => return missing(id, other_path, path),
                Ordering::Greater => return missing(other, path, other_path),
            },
        }
    }
}

impl Samples {
    /// Keys and labels. The logits are those of the global branch.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Features per branch: K of global, K of local.
    pub fn dims(&self) -> [usize; 2] {
        [self.global.dim, self.local.dim]
    }

    /// D, the features of both.
    pub fn dim(&self) -> usize {
        self.global.dim + self.local.dim
    }

    /// Keeps the first `limit` images of every split.
    pub fn limit(&mut self, limit: usize) {
        let mut taken = [0; 3];
        let keep: Vec<bool> = (self.rows.iter())
            .map(|row| {
                taken[row.key.split as usize] += 1;
                taken[row.key.split as usize] <= limit
            })
            .collect();
        let kept: Vec<usize> = (0..keep.len()).filter(|&index| keep[index]).collect();
        for features in [&mut self.global, &mut self.local] {
            features.pool = kept.iter().flat_map(|&index| features.row(index)).copied().collect();
            features.image_ids = kept.iter().map(|&index| std::mem::take(&mut features.image_ids[index])).collect();
        }
        let mut keep = keep.into_iter();
        self.rows.retain(|_| keep.next() == Some(true));
    }

    /// Positions of a split's images.
    pub(crate) fn of(&self, split: Split) -> Vec<usize> {
        (0..self.rows.len()).filter(|&index| self.rows[index].key.split == split).collect()
    }

    /// The features of one image: global, local.
    pub(crate) fn features(&self, index: usize) -> [&[f32]; 2] {
        [self.global.row(index), self.local.row(index)]
    }

    /// The features `[indices, D]` of some images.
    pub(crate) fn inputs(&self, indices: &[usize]) -> Vec<f32> {
        let mut inputs = Vec::with_capacity(indices.len() * self.dim());
        for &index in indices {
            self.features(index).iter().for_each(|half| inputs.extend_from_slice(half));
        }
        inputs
    }

    /// The targets `[indices, 15]` of some images.
    pub(crate) fn targets(&self, indices: &[usize], device: &Device) -> candle_core::Result<Tensor> {
        let targets =
            indices.iter().flat_map(|&index| self.rows[index].key.labels.outputs().map(ops::target)).collect();
        Tensor::from_vec(targets, (indices.len(), OUTPUTS), device)
    }

    /// 64 hex digits over ids, labels and features of some splits, in order: what a training learns from them.
    pub fn digest(&self, splits: &[Split]) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = Vec::new();
        for &split in splits {
            let indices = self.of(split);
            let header = format!("{split} {} images of {:?} features\n", indices.len(), self.dims());
            hasher.update(header.as_bytes());
            for index in indices {
                let row = &self.rows[index];
                hasher.update(format!("{} {}\n", row.key.image_id, row.key.labels).as_bytes());
                bytes.clear();
                bytes.extend(self.features(index).into_iter().flatten().flat_map(|value| value.to_le_bytes()));
                hasher.update(&bytes);
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}
