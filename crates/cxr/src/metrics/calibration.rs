//! Does a probability of 0.3 mean three in ten?
//!
//! [`brier`] and [`expected_calibration_error`] are one number, [`reliability`] is the curve, [`temperature`] is the one
//! parameter that corrects a network that is too sure of itself.

/// The logistic function: a logit as a probability.
pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// The Brier score: mean squared distance between probability and truth, 0 is best (Brier 1950).
///
/// `None` without images.
///
/// # Panics
/// If the slices differ in length.
pub fn brier(probabilities: &[f64], positives: &[bool]) -> Option<f64> {
    assert_eq!(probabilities.len(), positives.len(), "one probability per label is needed");
    let squares = probabilities.iter().zip(positives).map(|(p, &positive)| (p - truth(positive)).powi(2));
    (!positives.is_empty()).then(|| squares.sum::<f64>() / positives.len() as f64)
}

/// Images of similar probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// How many.
    pub images: usize,
    /// Mean of their probabilities.
    pub probability: f64,
    /// Share of them that are positive.
    pub positive: f64,
}

/// Number of bins of [`expected_calibration_error`].
pub const ECE_BINS: usize = 15;

/// The expected calibration error: the distance between probability and share of positives, averaged over the images in
/// 15 bins of equal width (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, Eq. 3, for one output).
///
/// `None` without images. There is no bootstrap interval: every draw has a larger error than the images themselves,
/// which makes such an interval lie beside its value.
///
/// # Panics
/// If the slices differ in length.
pub fn expected_calibration_error(probabilities: &[f64], positives: &[bool]) -> Option<f64> {
    assert_eq!(probabilities.len(), positives.len(), "one probability per label is needed");
    let mut sums = [(0.0, 0.0); ECE_BINS];
    for (&probability, &positive) in probabilities.iter().zip(positives) {
        // The upper edge belongs to a bin, as in the paper: (m - 1) / M < p <= m / M.
        let bin = ((probability * ECE_BINS as f64).ceil() as usize).clamp(1, ECE_BINS) - 1;
        sums[bin].0 += probability;
        sums[bin].1 += truth(positive);
    }
    let gaps: f64 = sums.iter().map(|(probability, positive)| (probability - positive).abs()).sum();
    (!positives.is_empty()).then(|| gaps / positives.len() as f64)
}

/// The reliability curve: `n` bins with as many images each (to within one), by rising probability; fewer where there
/// are fewer images. Findings are rare, so bins of equal width would hold nearly all images in the first.
///
/// # Panics
/// If the slices differ in length.
pub fn reliability(probabilities: &[f64], positives: &[bool], n: usize) -> Vec<Bin> {
    assert_eq!(probabilities.len(), positives.len(), "one probability per label is needed");
    let mut order: Vec<(f64, bool)> = probabilities.iter().copied().zip(positives.iter().copied()).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let end = |bin: usize| bin * order.len() / n.max(1);
    let bins = (0..n).map(|bin| &order[end(bin)..end(bin + 1)]).filter(|bin| !bin.is_empty());
    bins.map(|bin| {
        let images = bin.len() as f64;
        Bin {
            images: bin.len(),
            probability: bin.iter().map(|(probability, _)| probability).sum::<f64>() / images,
            positive: bin.iter().map(|(_, positive)| truth(*positive)).sum::<f64>() / images,
        }
    })
    .collect()
}

/// The temperature T > 0 by which logits are divided so that the mean binary cross-entropy is least (Guo et al. 2017,
/// section 4.2, for sigmoids). T > 1: the network was too sure.
///
/// `None` where no T between 0.01 and 100 is best: one class is absent, the classes are apart, or the scores are worse
/// than none.
///
/// # Panics
/// If the slices differ in length.
pub fn temperature(logits: &[f64], positives: &[bool]) -> Option<f64> {
    assert_eq!(logits.len(), positives.len(), "one logit per label is needed");
    // The loss is convex in a = 1 / T: its slope rises through 0 once.
    let slope = |a: f64| -> f64 {
        logits.iter().zip(positives).map(|(&z, &positive)| z * (sigmoid(a * z) - truth(positive))).sum()
    };
    let (mut low, mut high) = (0.01, 100.0);
    if !(slope(low) < 0.0 && slope(high) > 0.0) {
        return None;
    }
    // Bisection of the logarithm: 60 halvings of ln(10^4) leave less than 1e-17.
    for _ in 0..60 {
        let middle = f64::sqrt(low * high);
        if slope(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(1.0 / f64::sqrt(low * high))
}

fn truth(positive: bool) -> f64 {
    f64::from(u8::from(positive))
}
