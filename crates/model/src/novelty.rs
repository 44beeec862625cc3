//! How far an image is from those that the model was trained on.
//!
//! Two descriptions of an image are held against those of the training images: the global branch's pooled features, scaled
//! to length 1, and its [`layout`]. Each distance is Mahalanobis' (Lee et al., A simple unified framework for detecting
//! out-of-distribution samples, NeurIPS 2018, with one class; features scaled as in Mueller & Hein, Mahalanobis++, ICML
//! 2025), divided by what 99 % of the validation images have; the larger of the two counts.
//! Both were chosen by measurement, which `docs/predict.md` has: a branch that is trained on few images sees little
//! difference between a chest and a cat; the layout sees it, and knows nothing of texture.

use std::path::Path;

use candle_core::{Device, Tensor};
use nets::weights::{self, Meta};
use picture::Grey;
use rayon::prelude::*;

use crate::error::Error;
use crate::layout::layout;

/// Share of the mean variance that replaces a covariance's own: with fewer images than numbers it would have no inverse.
const SHRINKAGE: f64 = 0.1;
/// The most training images that a reference is made of, evenly spread; 10 for each of 2,048 features.
pub const MOST: usize = 20_000;
/// Quantiles of the validation images' distances that are kept: percentiles in steps of 0.1.
const QUANTILES: usize = 1001;
/// The quantile of the validation images' distances that is 1, of [`QUANTILES`].
const UNIT: usize = 990;
/// Images whose products are added up at a time; fixed, so that no result depends on the number of threads.
const PART: usize = 256;

/// An image in two descriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The global branch's pooled features `[K]`, of length 1.
    features: Vec<f32>,
    layout: Vec<f32>,
}

impl Described {
    /// Describes an image by the global branch's features and the prepared image.
    pub fn new(features: &[f32], prepared: &Grey) -> Described {
        Described { features: unit(features), layout: layout(prepared) }
    }
}

/// The training images in short, and how far validation images are from them.
#[derive(Debug, Clone, PartialEq)]
pub struct Novelty {
    features: Reference,
    layout: Reference,
    /// Distances of validation images, rising, evenly spread over their order.
    quantiles: Vec<f32>,
}

/// Mean and covariance of one description of the training images.
#[derive(Debug, Clone, PartialEq)]
struct Reference {
    /// `[D]`.
    mean: Vec<f32>,
    /// The Cholesky factor `[D, D]` of the regularised covariance, row-major; 0 above the diagonal.
    factor: Vec<f32>,
    /// What 99 % of the validation images are nearer than.
    scale: f32,
}

impl Novelty {
    /// Measures `training` images and holds `validation` images against them.
    ///
    /// # Errors
    /// [`Error::Setting`] with fewer than 2 images of either, or with images that are all the same.
    pub fn fit(training: &[Described], validation: &[Described]) -> Result<Novelty, Error> {
        for (key, rows) in [("training images", training), ("validation images", validation)] {
            if rows.len() < 2 {
                return Err(Error::Setting { key, got: rows.len().to_string(), expected: "at least 2".to_owned() });
            }
        }
        let reference = |of: fn(&Described) -> &[f32]| {
            let mut reference = Reference::fit(&training.iter().map(of).collect::<Vec<_>>())?;
            let distances = validation.par_iter().map(|image| reference.distance(of(image))).collect();
            // Images that were learned by heart may all lie at 0.
            reference.scale = quantiles(distances)[UNIT].max(f32::MIN_POSITIVE);
            Ok::<_, Error>(reference)
        };
        let (features, layout) = (reference(|image| &image.features)?, reference(|image| &image.layout)?);
        let mut novelty = Novelty { features, layout, quantiles: Vec::new() };
        novelty.quantiles = quantiles(validation.par_iter().map(|image| novelty.distance(image)).collect());
        Ok(novelty)
    }

    /// The larger of the two distances, each in units of what 99 % of the validation images have; infinite where all
    /// features are 0.
    ///
    /// # Panics
    /// Where the image has another number of features.
    pub fn distance(&self, image: &Described) -> f32 {
        let distance = |reference: &Reference, row: &[f32]| reference.distance(row) / reference.scale;
        distance(&self.features, &image.features).max(distance(&self.layout, &image.layout))
    }

    /// The share of validation images that are at most as far as the image, 0 to 100; 100 is farther than all of them.
    ///
    /// # Panics
    /// As [`Novelty::distance`].
    pub fn percentile(&self, image: &Described) -> f32 {
        let distance = self.distance(image);
        let below = self.quantiles.partition_point(|&quantile| quantile < distance);
        below as f32 * 100.0 / self.quantiles.len() as f32
    }

    /// Writes the reference as a weights file of ours: of `features` and `layout` the `mean [D]`, the `factor [D, D]` and
    /// the `scale [1]`, and `quantiles [1001]`.
    ///
    /// # Errors
    /// The disk, with the path.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu);
        let mut tensors = Vec::new();
        for (name, reference) in [("features", &self.features), ("layout", &self.layout)] {
            let dim = reference.mean.len();
            tensors.push((format!("{name}.mean"), tensor(&reference.mean, &[dim])?));
            tensors.push((format!("{name}.factor"), tensor(&reference.factor, &[dim, dim])?));
            tensors.push((format!("{name}.scale"), tensor(&[reference.scale], &[1])?));
        }
        tensors.push(("quantiles".to_owned(), tensor(&self.quantiles, &[QUANTILES])?));
        Ok(weights::write(
            path,
            &tensors,
            &Meta { backbone: KIND.to_owned(), pool: String::new(), frame: None, tta: cxr::Tta::None },
        )?)
    }

    /// Reads what [`Novelty::write`] wrote, for `dim` features.
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
        let reference = |name: &str, dim: usize| {
            Ok::<_, Error>(Reference {
                mean: take(&format!("{name}.mean"), &[dim])?,
                factor: take(&format!("{name}.factor"), &[dim, dim])?,
                scale: take(&format!("{name}.scale"), &[1])?[0],
            })
        };
        let (features, layout) = (reference("features", dim)?, reference("layout", crate::layout::LEN)?);
        Ok(Novelty { features, layout, quantiles: take("quantiles", &[QUANTILES])? })
    }
}

impl Reference {
    fn fit(rows: &[&[f32]]) -> Result<Reference, Error> {
        let kept = rows.len().min(MOST);
        let rows: Vec<&[f32]> = (0..kept).map(|i| rows[i * rows.len() / kept]).collect();
        let dim = rows[0].len();
        let mut sums = vec![0.0_f64; dim];
        for row in &rows {
            sums.iter_mut().zip(*row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / kept as f64) as f32).collect();
        let mut covariance = covariance(&rows, &mean);
        let trace: f64 = (0..dim).map(|i| covariance[i][i]).sum::<f64>() / dim as f64;
        for (i, row) in covariance.iter_mut().enumerate() {
            row.iter_mut().for_each(|value| *value *= 1.0 - SHRINKAGE);
            row[i] += SHRINKAGE * trace;
        }
        let factor = cholesky(covariance).ok_or(Error::Setting {
            key: "training images",
            got: "the same".to_owned(),
            expected: "images that differ".to_owned(),
        })?;
        Ok(Reference { mean, factor, scale: 1.0 })
    }

    /// Mahalanobis' distance, without unit; infinite where a number is not finite.
    fn distance(&self, row: &[f32]) -> f32 {
        let dim = self.mean.len();
        assert_eq!(row.len(), dim, "numbers that describe an image");
        let mut solved = vec![0.0_f64; dim];
        let mut sum = 0.0;
        for (i, value) in row.iter().enumerate() {
            let factor = &self.factor[i * dim..][..=i];
            let before = dot(&factor[..i], &solved[..i]);
            solved[i] = (f64::from(value - self.mean[i]) - before) / f64::from(factor[i]);
            sum += solved[i] * solved[i];
        }
        if sum.is_finite() { sum.sqrt() as f32 } else { f32::INFINITY }
    }
}

/// The sum of products, in eight parts: in one, each addition would wait for the one before it.
fn dot(a: &[f32], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += f64::from(a[lane]) * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(&a, b)| f64::from(a) * b).sum::<f64>()
}

/// [`QUANTILES`] of some distances, evenly spread over their order.
fn quantiles(mut distances: Vec<f32>) -> Vec<f32> {
    distances.sort_by(f32::total_cmp);
    let last = distances.len() - 1;
    (0..QUANTILES).map(|i| distances[(i * last + (QUANTILES - 1) / 2) / (QUANTILES - 1)]).collect()
}

/// What stands for the backbone in the file's metadata.
const KIND: &str = "novelty";

/// The features divided by their length.
fn unit(features: &[f32]) -> Vec<f32> {
    let length = features.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    features.iter().map(|&value| (f64::from(value) / length) as f32).collect()
}

/// Rows 0 to i of the covariance's lower triangle have 1 to K values; f64, and the same on any number of threads.
fn covariance(rows: &[&[f32]], mean: &[f32]) -> Vec<Vec<f64>> {
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

    /// Images whose features scatter around a direction, those of the second half ten times less than those of the first,
    /// and which show a bright square somewhere in the middle.
    fn images(count: usize, dim: usize, seed: u32) -> Vec<Described> {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let feature = |i: usize, draw: f32| 1.0 + draw * if i < dim / 2 { 0.5 } else { 0.05 };
        (0..count)
            .map(|_| {
                let features: Vec<f32> = (0..dim).map(|i| feature(i, draw())).collect();
                Described::new(&features, &square(20.0 + 3.0 * draw(), 12.0 + 2.0 * draw(), 150.0 + 50.0 * draw()))
            })
            .collect()
    }

    /// A square that begins at `from` in both directions, of side `side` px and brightness `grey`, on black.
    fn square(from: f32, side: f32, grey: f32) -> Grey {
        let inside = |at: usize| at as f32 >= from && (at as f32) < from + side;
        let pixel = |i: usize| if inside(i / 64) && inside(i % 64) { grey as u8 } else { 0 };
        Grey { width: 64, height: 64, pixels: (0..64 * 64).map(pixel).collect() }
    }

    #[test]
    fn distances_are_the_textbooks() {
        let rows: Vec<Vec<f32>> = images(400, 6, 1).into_iter().map(|image| image.features).collect();
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let reference = Reference::fit(&slices).unwrap();
        // The factor times its transpose is the covariance, regularised.
        let value = |row: &Vec<f32>, i: usize| f64::from(row[i]);
        let mean: Vec<f64> = (0..6).map(|i| rows.iter().map(|row| value(row, i)).sum::<f64>() / 400.0).collect();
        let plain = |i: usize, j: usize| {
            rows.iter().map(|row| (value(row, i) - mean[i]) * (value(row, j) - mean[j])).sum::<f64>() / 399.0
        };
        let trace = (0..6).map(|i| plain(i, i)).sum::<f64>() / 6.0;
        let factor = |i: usize, k: usize| f64::from(reference.factor[i * 6 + k]);
        for (i, j) in (0..6).flat_map(|i| (0..6).map(move |j| (i, j))) {
            let product: f64 = (0..6).map(|k| factor(i, k) * factor(j, k)).sum();
            let expected = 0.9 * plain(i, j) + if i == j { 0.1 * trace } else { 0.0 };
            assert!((product - expected).abs() < 1e-6 * trace, "{i} {j}: {product}, expected {expected}");
        }
        // The factor times z is as far from the mean as z is long.
        let z = [0.5, -1.0, 0.25, 1.0, -0.75, 0.5];
        let step = |i: usize| (0..=i).map(|k| factor(i, k) * z[k]).sum::<f64>();
        let row: Vec<f32> = (0..6).map(|i| (f64::from(reference.mean[i]) + step(i)) as f32).collect();
        let (distance, expected) = (f64::from(reference.distance(&row)), z.iter().map(|z| z * z).sum::<f64>().sqrt());
        assert!((distance - expected).abs() < 1e-3 * expected, "{distance}, expected {expected}");
        assert!(reference.distance(&reference.mean) < 1e-6);
    }

    #[test]
    fn novelty_is_in_either_description() {
        let (training, validation, test) = (images(300, 8, 1), images(200, 8, 2), images(200, 8, 3));
        let novelty = Novelty::fit(&training, &validation).unwrap();
        let above = |percentile: f32| test.iter().filter(|image| novelty.percentile(image) > percentile).count();
        assert!((70..=130).contains(&above(50.0)) && above(99.5) <= 6, "{} {}", above(50.0), above(99.5));
        // A feature that hardly ever changes.
        let mut features = test[0].features.clone();
        features[7] += 0.3;
        assert_eq!(novelty.percentile(&Described { features, ..test[0].clone() }), 100.0);
        // Another layout: the square is dark, or elsewhere.
        let plain = square(20.0, 12.0, 150.0);
        let features = &test[0].features;
        assert!(novelty.percentile(&Described::new(features, &plain)) < 99.0);
        let inverted = Grey { pixels: plain.pixels.iter().map(|value| 255 - value).collect(), ..plain };
        for other in [inverted, square(2.0, 12.0, 150.0)] {
            assert_eq!(novelty.percentile(&Described::new(features, &other)), 100.0);
        }
        // Features without length, and those of another length.
        assert_eq!(novelty.distance(&Described::new(&[0.0; 8], &plain)), f32::INFINITY);
        let longer: Vec<f32> = features.iter().map(|value| value * 2.0).collect();
        let [one, two] = [features, &longer].map(|features| novelty.distance(&Described::new(features, &plain)));
        assert!((one - two).abs() < 1e-4 * one, "{one} {two}");
    }

    #[test]
    fn a_reference_survives_its_file_and_no_other_is_taken() {
        let images = images(50, 5, 1);
        let novelty = Novelty::fit(&images, &images).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("novelty.safetensors");
        novelty.write(&path).unwrap();
        assert_eq!(Novelty::open(&path, 5).unwrap(), novelty);
        let error = Novelty::open(&path, 6).unwrap_err().to_string();
        assert!(error.contains("features.mean: expected finite numbers [6], got [5]"), "{error}");
        let same = vec![images[0].clone(); 9];
        assert!(Novelty::fit(&same, &same).is_err());
        assert!(Novelty::fit(&images[..1], &images).is_err());
    }
}
