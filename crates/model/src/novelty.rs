//! How far an image is from those that the model was trained on.
//!
//! The distance is Mahalanobis' between the global branch's pooled features, scaled to length 1, and those of the training
//! images (Lee et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS 2018, with one class;
//! scaled as in Mueller & Hein, Mahalanobis++, ICML 2025). It was chosen by measurement: `docs/predict.md` has the table.

use std::path::Path;

use candle_core::{Device, Tensor};
use nets::weights::{self, Meta};
use rayon::prelude::*;

use crate::error::Error;

/// Share of the mean variance that replaces a covariance's own: with fewer images than features it would have no inverse.
const SHRINKAGE: f64 = 0.1;
/// The most training images that the covariance is taken over, evenly spread; 10 for each of 2,048 features.
const MOST: usize = 20_000;
/// Quantiles of the validation images' distances that are kept: percentiles in steps of 0.1.
const QUANTILES: usize = 1001;
/// Images whose products are added up at a time; fixed, so that no result depends on the number of threads.
const PART: usize = 256;

/// The training images' features in short, and how far validation images are from them.
#[derive(Debug, Clone, PartialEq)]
pub struct Novelty {
    /// `[K]`.
    mean: Vec<f32>,
    /// The Cholesky factor `[K, K]` of the regularised covariance, row-major; 0 above the diagonal.
    factor: Vec<f32>,
    /// Distances of validation images, rising, evenly spread over their order.
    quantiles: Vec<f32>,
}

impl Novelty {
    /// Measures `training` images and holds `validation` images against them; each row has the K features of one image.
    ///
    /// # Errors
    /// [`Error::Setting`] with fewer than 2 images of either, or with features that never change.
    pub fn fit(training: &[&[f32]], validation: &[&[f32]]) -> Result<Novelty, Error> {
        for (key, rows) in [("training images", training), ("validation images", validation)] {
            if rows.len() < 2 {
                return Err(Error::Setting { key, got: rows.len().to_string(), expected: "at least 2".to_owned() });
            }
        }
        let kept = training.len().min(MOST);
        let rows: Vec<Vec<f32>> =
            (0..kept).into_par_iter().map(|i| unit(training[i * training.len() / kept])).collect();
        let dim = rows[0].len();
        let mut sums = vec![0.0_f64; dim];
        for row in &rows {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / kept as f64) as f32).collect();
        let mut covariance = covariance(&rows, &mean);
        let trace: f64 = (0..dim).map(|i| covariance[i][i]).sum::<f64>() / dim as f64;
        for (i, row) in covariance.iter_mut().enumerate() {
            row.iter_mut().for_each(|value| *value *= 1.0 - SHRINKAGE);
            row[i] += SHRINKAGE * trace;
        }
        let factor = cholesky(covariance).ok_or(Error::Setting {
            key: "features of the training images",
            got: "the same in all of them".to_owned(),
            expected: "features that differ between images".to_owned(),
        })?;
        let mut novelty = Novelty { mean, factor, quantiles: Vec::new() };
        let mut distances: Vec<f32> = validation.par_iter().map(|features| novelty.distance(features)).collect();
        distances.sort_by(f32::total_cmp);
        let last = distances.len() - 1;
        let at = |i: usize| distances[(i * last + (QUANTILES - 1) / 2) / (QUANTILES - 1)];
        novelty.quantiles = (0..QUANTILES).map(at).collect();
        Ok(novelty)
    }

    /// K, the features of an image.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Mahalanobis' distance of an image with these features `[K]`, without unit; infinite where they are all 0.
    ///
    /// # Panics
    /// Where there are not K features.
    pub fn distance(&self, features: &[f32]) -> f32 {
        let dim = self.dim();
        assert_eq!(features.len(), dim, "features of the global branch");
        let mut solved = vec![0.0_f64; dim];
        let mut sum = 0.0;
        for (i, value) in unit(features).into_iter().enumerate() {
            let row = &self.factor[i * dim..][..=i];
            let before: f64 = row[..i].iter().zip(&solved).map(|(&factor, solved)| f64::from(factor) * solved).sum();
            solved[i] = (f64::from(value - self.mean[i]) - before) / f64::from(row[i]);
            sum += solved[i] * solved[i];
        }
        if sum.is_finite() { sum.sqrt() as f32 } else { f32::INFINITY }
    }

    /// The share of validation images that are at most as far as an image with these features, 0 to 100; 100 is farther than
    /// all of them.
    ///
    /// # Panics
    /// As [`Novelty::distance`].
    pub fn percentile(&self, features: &[f32]) -> f32 {
        let distance = self.distance(features);
        let below = self.quantiles.partition_point(|&quantile| quantile < distance);
        below as f32 * 100.0 / self.quantiles.len() as f32
    }

    /// Writes the reference as a weights file of ours: `mean [K]`, `factor [K, K]`, `quantiles [1001]`.
    ///
    /// # Errors
    /// The disk, with the path.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let dim = self.dim();
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu);
        let tensors = [
            ("mean".to_owned(), tensor(&self.mean, &[dim])?),
            ("factor".to_owned(), tensor(&self.factor, &[dim, dim])?),
            ("quantiles".to_owned(), tensor(&self.quantiles, &[QUANTILES])?),
        ];
        Ok(weights::write(path, &tensors, &Meta { backbone: KIND.to_owned(), pool: String::new(), frame: None })?)
    }

    /// Reads what [`Novelty::write`] wrote, for features of `dim` numbers.
    ///
    /// # Errors
    /// A file that is damaged or no such reference; numbers that are not finite.
    pub fn open(path: &Path, dim: usize) -> Result<Novelty, Error> {
        let (tensors, _) = weights::read(path, &Device::Cpu)?;
        let take = |name: &str, shape: &[usize]| -> Result<Vec<f32>, Error> {
            let found = tensors.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor);
            let foreign = |got: String| Error::Foreign {
                path: path.to_owned(),
                what: name.to_owned(),
                expected: format!("finite numbers {shape:?}"),
                got,
            };
            let tensor = found.ok_or_else(|| foreign("none".to_owned()))?;
            if tensor.dims() != shape {
                return Err(foreign(format!("{:?}", tensor.dims())));
            }
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            match values.iter().find(|value| !value.is_finite()) {
                Some(value) => Err(foreign(value.to_string())),
                None => Ok(values),
            }
        };
        let quantiles = take("quantiles", &[QUANTILES])?;
        Ok(Novelty { mean: take("mean", &[dim])?, factor: take("factor", &[dim, dim])?, quantiles })
    }
}

/// What stands for the backbone in the file's metadata.
const KIND: &str = "novelty";

/// The features divided by their length.
fn unit(features: &[f32]) -> Vec<f32> {
    let length = features.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    features.iter().map(|&value| (f64::from(value) / length) as f32).collect()
}

/// Rows 0 to i of the covariance's lower triangle have 1 to K values; f64, and the same on any number of threads.
fn covariance(rows: &[Vec<f32>], mean: &[f32]) -> Vec<Vec<f64>> {
    let mut triangle: Vec<Vec<f64>> = (0..mean.len()).map(|i| vec![0.0; i + 1]).collect();
    for part in rows.chunks(PART) {
        let centred: Vec<Vec<f32>> =
            part.iter().map(|row| row.iter().zip(mean).map(|(value, mean)| value - mean).collect()).collect();
        triangle.par_iter_mut().enumerate().for_each(|(i, sums)| {
            for row in &centred {
                let factor = f64::from(row[i]);
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += factor * f64::from(value));
            }
        });
    }
    let count = (rows.len() - 1) as f64;
    triangle.par_iter_mut().flatten().for_each(|sum| *sum /= count);
    triangle
}

/// The lower factor `[K, K]` of a symmetric matrix that is given by its lower triangle; `None` where it is not positive
/// definite.
fn cholesky(mut triangle: Vec<Vec<f64>>) -> Option<Vec<f32>> {
    let dim = triangle.len();
    for column in 0..dim {
        let (above, below) = triangle.split_at_mut(column + 1);
        let pivot_row = &mut above[column];
        let squares: f64 = pivot_row[..column].iter().map(|value| value * value).sum();
        let pivot = pivot_row[column] - squares;
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        pivot_row[column] = pivot.sqrt();
        let (pivot_row, root) = (&pivot_row[..column], pivot.sqrt());
        below.par_iter_mut().with_min_len(64).for_each(|row| {
            let product: f64 = row[..column].iter().zip(pivot_row).map(|(a, b)| a * b).sum();
            row[column] = (row[column] - product) / root;
        });
    }
    let mut factor = vec![0.0; dim * dim];
    for (i, row) in triangle.iter().enumerate() {
        factor[i * dim..][..=i].iter_mut().zip(row).for_each(|(to, &from)| *to = from as f32);
    }
    Some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images whose features scatter around a direction; `spread` of the second half of the features is ten times less.
    fn images(count: usize, dim: usize, seed: u32) -> Vec<Vec<f32>> {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let feature = |i: usize, draw: f32| 1.0 + draw * if i < dim / 2 { 0.5 } else { 0.05 };
        (0..count).map(|_| (0..dim).map(|i| feature(i, draw())).collect()).collect()
    }

    fn slices(rows: &[Vec<f32>]) -> Vec<&[f32]> {
        rows.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn distances_are_the_textbooks() {
        let rows = images(400, 6, 1);
        let novelty = Novelty::fit(&slices(&rows), &slices(&rows)).unwrap();
        // The factor times its transpose is the covariance, regularised.
        let units: Vec<Vec<f64>> = rows.iter().map(|row| unit(row).into_iter().map(f64::from).collect()).collect();
        let mean: Vec<f64> = (0..6).map(|i| units.iter().map(|row| row[i]).sum::<f64>() / 400.0).collect();
        let plain =
            |i: usize, j: usize| units.iter().map(|row| (row[i] - mean[i]) * (row[j] - mean[j])).sum::<f64>() / 399.0;
        let trace = (0..6).map(|i| plain(i, i)).sum::<f64>() / 6.0;
        for (i, j) in (0..6).flat_map(|i| (0..6).map(move |j| (i, j))) {
            let product: f64 =
                (0..6).map(|k| f64::from(novelty.factor[i * 6 + k]) * f64::from(novelty.factor[j * 6 + k])).sum();
            let expected = 0.9 * plain(i, j) + if i == j { 0.1 * trace } else { 0.0 };
            assert!((product - expected).abs() < 1e-6 * trace, "{i} {j}: {product}, expected {expected}");
        }
        // The factor times z is as far from the mean as z is long; t makes of it features of length 1.
        let z = [0.5, -1.0, 0.25, 1.0, -0.75, 0.5];
        let steps: Vec<f64> =
            (0..6).map(|i| (0..=i).map(|k| f64::from(novelty.factor[i * 6 + k]) * z[k]).sum()).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (a, b, c) = (dot(&steps, &steps), dot(&mean, &steps), dot(&mean, &mean) - 1.0);
        let t = ((b * b - a * c).sqrt() - b) / a;
        let features: Vec<f32> = mean.iter().zip(&steps).map(|(mean, step)| (mean + t * step) as f32).collect();
        let (distance, expected) = (f64::from(novelty.distance(&features)), t * dot(&z, &z).sqrt());
        assert!((distance - expected).abs() < 1e-3 * expected, "{distance}, expected {expected}");
    }

    #[test]
    fn what_is_far_in_a_quiet_direction_is_novel() {
        let (training, validation, test) = (images(300, 8, 1), images(200, 8, 2), images(200, 8, 3));
        let novelty = Novelty::fit(&slices(&training), &slices(&validation)).unwrap();
        let above = |percentile: f32| test.iter().filter(|row| novelty.percentile(row) > percentile).count();
        assert!((80..=120).contains(&above(50.0)) && above(99.5) <= 5, "{} {}", above(50.0), above(99.5));
        let mut quiet = test[0].clone();
        quiet[7] += 1.0;
        assert_eq!(novelty.percentile(&quiet), 100.0);
        assert_eq!(novelty.distance(&[0.0; 8]), f32::INFINITY);
        // Lengths do not count.
        let longer: Vec<f32> = test[0].iter().map(|value| value * 2.0).collect();
        assert_eq!(novelty.distance(&longer), novelty.distance(&test[0]));
    }

    #[test]
    fn a_reference_survives_its_file_and_no_other_is_taken() {
        let rows = images(50, 5, 1);
        let novelty = Novelty::fit(&slices(&rows), &slices(&rows)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("novelty.safetensors");
        novelty.write(&path).unwrap();
        assert_eq!(Novelty::open(&path, 5).unwrap(), novelty);
        let error = Novelty::open(&path, 6).unwrap_err().to_string();
        assert!(error.contains("mean: expected finite numbers [6], got [5]"), "{error}");
        let same = vec![vec![1.0_f32; 4]; 9];
        assert!(Novelty::fit(&slices(&same), &slices(&same)).is_err());
        assert!(Novelty::fit(&slices(&rows[..1]), &slices(&rows)).is_err());
    }
}
