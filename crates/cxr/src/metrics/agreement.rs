//! How far two readers of the same images agree.

use crate::metrics::bootstrap::{Resamples, Sampled};

/// Cohen's kappa of two readers: by how much they agree more often than two who call as many images each, by chance.
/// 1 is agreement, 0 is chance (Cohen, Educational and Psychological Measurement 20:37, 1960).
///
/// `None` without images, and where chance alone would make them agree: both say the same of all.
///
/// # Panics
/// If the slices differ in length.
pub fn kappa(first: &[bool], second: &[bool]) -> Option<f64> {
    assert_eq!(first.len(), second.len(), "two opinions per image are needed");
    let n = first.len() as f64;
    let share = |count: usize| count as f64 / n;
    let agree = share(first.iter().zip(second).filter(|(a, b)| a == b).count());
    let [a, b] = [first, second].map(|reader| share(reader.iter().filter(|&&called| called).count()));
    Some(beyond_chance(agree, a, b)).filter(|kappa| kappa.is_finite())
}

/// Kappa from the share of agreement and the shares that both readers call.
fn beyond_chance(agree: f64, a: f64, b: f64) -> f64 {
    let chance = a * b + (1.0 - a) * (1.0 - b);
    if chance < 1.0 { (agree - chance) / (1.0 - chance) } else { f64::NAN }
}

impl Resamples {
    /// [`kappa`] of two readers on every draw; one opinion of each per image.
    ///
    /// # Panics
    /// If the slices differ in length from the resampled images.
    pub fn kappa(&self, first: &[bool], second: &[bool]) -> Sampled {
        let mean = |of: &dyn Fn(bool, bool) -> bool| {
            let values: Vec<f64> = first.iter().zip(second).map(|(&a, &b)| f64::from(u8::from(of(a, b)))).collect();
            self.mean(&values)
        };
        let shares = [mean(&|a, b| a == b), mean(&|a, _| a), mean(&|_, b| b)];
        Sampled::combine(kappa(first, second), &shares, |[agree, a, b]| beyond_chance(agree, a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Bootstrap;

    #[test]
    fn kappa_of_a_published_table() {
        // Cohen's kappa of the 2 x 2 table 20, 5, 10, 15: (0.7 - 0.5) / (1 - 0.5) (en.wikipedia.org/wiki/Cohen's_kappa).
        let table = [(true, true, 20), (true, false, 5), (false, true, 10), (false, false, 15)];
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (first, second, count) in table {
            a.extend(vec![first; count]);
            b.extend(vec![second; count]);
        }
        assert!((kappa(&a, &b).unwrap() - 0.4).abs() < 1e-12);
        assert_eq!((kappa(&[], &[]), kappa(&[true; 3], &[true; 3])), (None, None));
        assert_eq!(kappa(&[true, false], &[true, false]), Some(1.0));

        let patients: Vec<u32> = (0..50).collect();
        let sampled = Bootstrap { draws: 2000, seed: 1 }.resample(&patients).kappa(&a, &b);
        let estimate = sampled.estimate(0.95);
        assert_eq!(estimate.value, kappa(&a, &b));
        // The standard error by Fleiss et al. 1969 is about 0.126.
        let (low, high) = (estimate.low.unwrap(), estimate.high.unwrap());
        assert!((high - low - 2.0 * 1.96 * 0.126).abs() < 0.06, "{low} {high}");
    }
}
