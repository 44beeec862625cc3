//! How good predictions are, and how sure we are of it.
//!
//! - [`ranking`]: AUROC, average precision and their curves, which depend on the order of the scores only;
//! - [`decision`]: sensitivity, specificity, F1, ... at a threshold that was chosen on other images;
//! - [`calibration`]: Brier score, expected calibration error, reliability curve, temperature scaling;
//! - [`bootstrap`]: intervals of all of these, by drawing patients;
//! - [`delong`]: the variance of an AUROC's difference in closed form;
//! - [`mod@divergence`]: whether a training went wrong, by its learning curve;
//! - [`seeds`]: intervals over patients and seeds, where one recipe was trained several times;
//! - [`known`]: the images that a metric is measured on, where labels may be unknown;
//! - [`agreement`]: Cohen's kappa of two readers;
//! - [`cell`]: the names of all reported numbers.
//!
//! A metric that does not exist is `None`, never 0.5: one class is absent, or a score is NaN.
//!
//! ```
//! use cxr::metrics::{Bootstrap, Ranking, auroc, average_precision};
//!
//! let scores = [0.9, 0.8, 0.7, 0.1];
//! let positives = [true, false, true, false];
//! assert_eq!(auroc(&scores, &positives), Some(0.75)); // three of the four pairs are in order
//! assert_eq!(average_precision(&scores, &positives), Some(0.5 * 1.0 + 0.5 * 2.0 / 3.0));
//! assert_eq!(auroc(&scores, &[false; 4]), None);
//!
//! let patients = [1, 1, 2, 3];
//! let resamples = Bootstrap { draws: 200, seed: 1 }.resample(&patients);
//! let [auroc, _] = resamples.ranking(&Ranking::new(&scores, &positives).unwrap(), &[0, 1, 2, 3]);
//! assert_eq!(auroc.value, Some(0.75));
//! ```

pub mod agreement;
pub mod bootstrap;
pub mod calibration;
pub mod cell;
pub mod decision;
pub mod delong;
pub mod divergence;
pub mod known;
pub mod ranking;
pub mod seeds;

pub use bootstrap::{Bootstrap, Estimate, Resamples, Sampled};
pub use cell::{AgeBand, Cell, Decision, Metric, Overlap, Pair, Scope, Series, Subset};
pub use divergence::divergence;
pub use known::Known;
pub use ranking::{Mean, Ranking, Scores, auroc, average_precision, mean_auroc};
pub use seeds::{OverSeeds, SeedDraws};

#[cfg(test)]
mod tests;
