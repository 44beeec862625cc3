//! The difference of two AUROCs on the same images, with its variance in closed form.
//!
//! DeLong, DeLong and Clarke-Pearson, Biometrics 44:837, 1988, as pROC computes it, where every patient has one image.
//! Where patients have several, the sums over a patient's images take the place of single images: Obuchowski, Biometrics
//! 53:567, 1997. Per patient, let `a` be the sum over the positives, divided by their number, and `b` the sum over the
//! negatives, divided by theirs. Of `I` patients let `I10` have a positive and `I01` a negative. The variance is
//! `I10 / (I10 - 1) sum(a^2) + I01 / (I01 - 1) sum(b^2) + 2 I / (I - 1) sum(a b)`.
//!
//! For the mean over findings, for which nothing is published, `a` and `b` are sums over the findings, each with the square
//! root of its own factor.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::metrics::bootstrap::units;

/// The structural components of one AUROC: for a positive the share of negatives below it, for a negative the share of
/// positives above it, ties half.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// Positions of the images among those that differences are about.
    images: Vec<u32>,
    values: Vec<f64>,
    positives: Vec<bool>,
}

impl Components {
    /// O(n log n); `None` if one class is absent or a score is NaN.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn new(scores: &[f32], positives: &[bool]) -> Option<Components> {
        assert_eq!(scores.len(), positives.len(), "one score per label is needed");
        let with = positives.iter().filter(|&&positive| positive).count();
        let without = positives.len() - with;
        if with == 0 || without == 0 || scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_unstable_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let mut values = vec![0.0; scores.len()];
        let (mut positives_below, mut negatives_below) = (0, 0);
        for group in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
            let here = group.iter().filter(|&&image| positives[image]).count();
            let tied = group.len() - here;
            for &image in group {
                values[image] = if positives[image] {
                    (negatives_below as f64 + tied as f64 / 2.0) / without as f64
                } else {
                    ((with - positives_below - here) as f64 + here as f64 / 2.0) / with as f64
                };
            }
            positives_below += here;
            negatives_below += tied;
        }
        let images = (0..scores.len() as u32).collect();
        Some(Components { images, values, positives: positives.to_vec() })
    }

    /// The same, of some images out of more: `images` has the position of each among all those whose patients
    /// [`Difference`] gets. Images whose label is unknown are left out in this way.
    ///
    /// # Panics
    /// If there are more or fewer positions than scores were.
    pub fn at(self, images: &[u32]) -> Components {
        assert_eq!(images.len(), self.values.len(), "one position per image is needed");
        Components { images: images.to_vec(), ..self }
    }
}

/// A difference with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// First minus second.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
}

impl Difference {
    /// Of two AUROCs, `None` where either class has fewer than two patients.
    ///
    /// # Panics
    /// If the two are not about the same images.
    pub fn new(first: &Components, second: &Components, patients: &[u32]) -> Option<Difference> {
        Difference::of_means(&[(first, second)], patients)
    }

    /// Of the means of several AUROCs each, one pair per finding: what each patient adds to each difference is summed
    /// before it is squared, so that findings in the same patient count as dependent. `patients` has one entry per image;
    /// both of a pair are about the same of these images, other pairs may be about others of them.
    ///
    /// `None` without pairs, or where a class has fewer than two patients.
    ///
    /// # Panics
    /// If a pair is not about the same images, or about one that has no patient.
    pub fn of_means(pairs: &[(&Components, &Components)], patients: &[u32]) -> Option<Difference> {
        let (unit_of, units) = units(patients);
        // Per patient: the sums of each class with the factor of the class, and with that of all patients.
        let mut sums = vec![[[0.0; 2]; 2]; units];
        let mut value = 0.0;
        for (first, second) in pairs {
            assert!(
                first.positives == second.positives && first.images == second.images,
                "two AUROCs on the same images are needed"
            );
            let mut sum = 0.0;
            let count = first.positives.iter().filter(|&&positive| positive).count();
            let change = |image: usize| first.values[image] - second.values[image];
            let all = 0..first.images.len();
            for image in all.clone().filter(|&image| first.positives[image]) {
                sum += change(image);
            }
            let difference = sum / count as f64;
            value += difference / pairs.len() as f64;
            let mut of_patient: Vec<[Option<f64>; 2]> = vec![[None; 2]; units];
            for image in all.clone() {
                let class = usize::from(first.positives[image]);
                let patient = &mut of_patient[unit_of[first.images[image] as usize] as usize];
                *patient[class].get_or_insert(0.0) += change(image) - difference;
            }
            let patients =
                |known: &dyn Fn(&[Option<f64>; 2]) -> bool| of_patient.iter().filter(|sums| known(sums)).count();
            let of_class = [0, 1].map(|class| patients(&|sums| sums[class].is_some()));
            if of_class.iter().any(|&known| known < 2) {
                return None;
            }
            let factor = |known: usize| f64::sqrt(known as f64 / (known as f64 - 1.0));
            let together = factor(patients(&|sums| sums.iter().any(Option::is_some)));
            let images = [all.len() - count, count];
            for (sums, of_patient) in sums.iter_mut().zip(of_patient) {
                for class in [0, 1] {
                    let part = of_patient[class].unwrap_or(0.0) / images[class] as f64 / pairs.len() as f64;
                    sums[class][0] += factor(of_class[class]) * part;
                    sums[class][1] += together * part;
                }
            }
        }
        let of_patient = |[b, a]: &[[f64; 2]; 2]| a[0] * a[0] + b[0] * b[0] + 2.0 * a[1] * b[1];
        // Never below 0 for one finding, as the factor of the product is the smallest; of a mean it might be.
        let variance = sums.iter().map(of_patient).sum::<f64>().max(0.0);
        (!pairs.is_empty()).then_some(Difference { value, standard_error: variance.sqrt() })
    }

    /// Value over standard error; `None` where that is 0, as for two equal models.
    pub fn z(&self) -> Option<f64> {
        (self.standard_error > 0.0).then(|| self.value / self.standard_error)
    }

    /// Two-sided p of the hypothesis that there is no difference, by the normal distribution.
    pub fn p_value(&self) -> Option<f64> {
        Some(2.0 * Normal::standard().sf(self.z()?.abs()))
    }

    /// The interval of that confidence, e.g. 0.95, by the normal distribution.
    pub fn interval(&self, confidence: f64) -> (f64, f64) {
        let z = Normal::standard().inverse_cdf(0.5 + confidence.clamp(0.0, 1.0) / 2.0);
        (self.value - z * self.standard_error, self.value + z * self.standard_error)
    }
}
