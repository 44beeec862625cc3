//! Cross-entropies that weigh an element by its class, or by how wrong its logit is.

/// How the binary cross-entropy of an element is weighted: one family, whose members are the losses of the literature.
///
/// With `y` the label, `t = y (1 - smoothing) + smoothing / 2` the target, `p = σ(z)` and `r = max(p - shift, 0)`, the loss of
/// an element is `w (t q + (1 - t) r)^γ (-t log p - (1 - t) log(1 - r))`, where `q = 1 - p`, `γ = t γ₊ + (1 - t) γ₋` and
/// `w` the weight of its class. For a label of 1 it is `w₊ (1 - p)^γ₊ (-log p)`, for one of 0 `w₋ r^γ₋ (-log(1 - r))`.
///
/// * Weighted: [`ClassWeights::Counted`] (Wang et al., CVPR 2017, equation 1).
/// * Focal: `w₊ = α`, `w₋ = 1 - α`, both exponents `γ` (Lin et al., ICCV 2017); targets between 0 and 1 count as in
///   torchvision's `sigmoid_focal_loss`.
/// * Asymmetric: two exponents and a shift (Ridnik et al., ICCV 2021); as timm's `AsymmetricLossMultiLabel`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Focus {
    /// The weights of the classes.
    pub weights: ClassWeights,
    /// Exponent of positives, at least 0.
    pub gamma_positive: f64,
    /// Exponent of negatives, at least 0.
    pub gamma_negative: f64,
    /// Taken from the probability of a negative: what is below it costs nothing; at least 0, below 1.
    pub shift: f64,
    /// How far targets move towards one half; at least 0, below 1.
    pub smoothing: f64,
}

/// The weights of positives and negatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClassWeights {
    /// These, of positives and of negatives. A target between 0 and 1 has a share of both.
    Fixed([f64; 2]),
    /// One over the class's share of the known labels of the batch: `(|P| + |N|) / |P|` and `(|P| + |N|) / |N|`; an element
    /// has that of its label, smoothed or not.
    Counted,
    /// As counted, but in a batch of which only a part is here.
    Whole([f64; 2]),
}

impl Focus {
    /// The plain cross-entropy.
    pub const NONE: Focus = Focus {
        weights: ClassWeights::Fixed([1.0, 1.0]),
        gamma_positive: 0.0,
        gamma_negative: 0.0,
        shift: 0.0,
        smoothing: 0.0,
    };

    /// The weights of the classes where so many labels are positive and negative; 0 for a class without any.
    pub fn weights(&self, [positives, negatives]: [usize; 2]) -> [f64; 2] {
        match self.weights {
            ClassWeights::Fixed(weights) | ClassWeights::Whole(weights) => weights,
            ClassWeights::Counted => [positives, negatives].map(|count| match count {
                0 => 0.0,
                count => (positives + negatives) as f64 / count as f64,
            }),
        }
    }

    /// The loss of a logit whose label is `y`, and its derivative with respect to the logit.
    pub fn term(&self, weights: [f64; 2], z: f64, y: f64) -> (f64, f64) {
        let t = y * (1.0 - self.smoothing) + 0.5 * self.smoothing;
        let e = (-z.abs()).exp();
        let (p, q) = if z >= 0.0 { (1.0 / (1.0 + e), e / (1.0 + e)) } else { (e / (1.0 + e), 1.0 / (1.0 + e)) };
        // r, -log(1 - r), and their derivatives.
        let (r, dr, l, dl) = if self.shift == 0.0 {
            (p, p * q, z.max(0.0) + e.ln_1p(), p)
        } else if p > self.shift {
            let r = p - self.shift;
            (r, p * q, -(-r).ln_1p(), p * q / (1.0 - r))
        } else {
            (0.0, 0.0, 0.0, 0.0)
        };
        let entropy = t * ((-z).max(0.0) + e.ln_1p()) + (1.0 - t) * l;
        let slope = (1.0 - t) * dl - t * q;
        let wrong = t * q + (1.0 - t) * r;
        let gamma = self.gamma_positive * t + self.gamma_negative * (1.0 - t);
        let share = if let ClassWeights::Fixed(_) = self.weights { t } else { y };
        let weight = weights[0] * share + weights[1] * (1.0 - share);
        if gamma == 0.0 {
            return (weight * entropy, weight * slope);
        }
        let factor = wrong.powf(gamma);
        // Where nothing is wrong the entropy is 0, and whatever the power's derivative is counts nothing.
        let rise = if wrong > 0.0 { gamma * factor / wrong * ((1.0 - t) * dr - t * p * q) } else { 0.0 };
        (weight * factor * entropy, weight * (factor * slope + rise * entropy))
    }
}
