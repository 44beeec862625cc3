//! Mean and variance per channel, combined from the moments of parts of the pixels.

use std::mem::MaybeUninit;

/// Mean and biased variance of every channel.
pub(crate) struct Moments {
    pub(crate) mean: Vec<f64>,
    pub(crate) var: Vec<f64>,
}

impl Moments {
    /// `1 / sqrt(var + eps)`.
    pub(crate) fn inv_std(&self, eps: f64) -> Vec<f64> {
        self.var.iter().map(|v| (v + eps).sqrt().recip()).collect()
    }
}

/// The mean, and the sum of squared deviations from it, of each part of the pixels and channel: `[part][2][channels]`.
pub(crate) struct Parts {
    /// Pixels of each part.
    pixels: Vec<usize>,
    channels: usize,
    values: Vec<f64>,
}

impl Parts {
    pub(crate) fn new(pixels: Vec<usize>, channels: usize) -> Parts {
        let values = vec![0.0; pixels.len() * 2 * channels];
        Parts { pixels, channels, values }
    }

    /// All values, for writing.
    pub(crate) fn values(&mut self) -> &mut [MaybeUninit<f64>] {
        let (start, len) = (self.values.as_mut_ptr(), self.values.len());
        // SAFETY: the same elements under the same exclusive borrow; they are initialised, and only numbers are written.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), len) }
    }

    /// Where the two rows of a part start in the values.
    pub(crate) fn at(part: usize, channels: usize) -> [usize; 2] {
        [2 * part * channels, (2 * part + 1) * channels]
    }

    /// The moments of all pixels (Chan, Golub and LeVeque 1979). There must be at least one pixel.
    pub(crate) fn total(&self) -> Moments {
        let c = self.channels;
        let (mut mean, mut squares) = (vec![0.0; c], vec![0.0; c]);
        let mut count = 0.0;
        for (part, pixels) in self.pixels.iter().enumerate() {
            let [means, deviations] = Parts::at(part, c).map(|at| &self.values[at..][..c]);
            let n = *pixels as f64;
            let (share, weight) = (n / (count + n), count * n / (count + n));
            count += n;
            let totals = mean.iter_mut().zip(squares.iter_mut());
            for ((mean, squares), (part, deviations)) in totals.zip(means.iter().zip(deviations)) {
                let d = part - *mean;
                *mean += d * share;
                *squares += deviations + d * d * weight;
            }
        }
        Moments { mean, var: squares.into_iter().map(|sum| sum / count).collect() }
    }
}

/// Channels of the widest row.
const LANES: usize = 32;

/// Mean and sum of squared deviations of at most 32 channels over a few rows; at least one row.
///
/// Values are taken relative to the first row, so that the variance stays exact when the mean is far from zero.
#[inline(always)]
pub(crate) fn of_rows<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]> + Clone, [mean, squares]: [&mut [f64]; 2]) {
    let n = rows.len() as f64;
    let (mut origin, mut sum, mut product) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    if let Some(first) = rows.clone().next() {
        origin[..first.len()].copy_from_slice(first);
    }
    for row in rows {
        if let Ok(row) = <&[f32; LANES]>::try_from(row) {
            for lane in 0..LANES {
                let d = row[lane] - origin[lane];
                sum[lane] += d;
                product[lane] += d * d;
            }
        } else {
            for (lane, x) in row.iter().enumerate().take(LANES) {
                let d = x - origin[lane];
                sum[lane] += d;
                product[lane] += d * d;
            }
        }
    }
    for (lane, (mean, squares)) in mean.iter_mut().zip(squares).enumerate() {
        let (origin, sum, product) = (f64::from(origin[lane]), f64::from(sum[lane]), f64::from(product[lane]));
        *mean = origin + sum / n;
        *squares = (product - sum * sum / n).max(0.0);
    }
}
