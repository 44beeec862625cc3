use nets::OptimizerKind;
use serde::Deserialize;

/// The recipe; `default.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml has them
pub struct Config {
    pub init: Init,
    pub epochs: usize,
    pub batch: usize,
    pub optimizer: OptimizerKind,
    pub lr: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub schedule: LrSchedule,
    pub lr_milestones: Vec<usize>,
    pub lr_factor: f64,
    pub warmup_epochs: usize,
    pub standardise: bool,
}

/// Where the weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Anew, by seed.
    Random,
    /// The mean of the two branches' logits.
    Branches,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// By `lr_factor` once after each of the `lr_milestones`.
    Step,
    /// Half a cosine, to 0.
    Cosine,
}

impl Config {
    /// Checks all ranges.
    ///
    /// # Errors
    /// A message with key, value and allowed range.
    pub fn check(&self) -> Result<(), String> {
        let Config { epochs, batch, lr, momentum, weight_decay, lr_milestones, lr_factor, warmup_epochs, .. } = self;
        let count = |value: &usize, most| ((1..=most).contains(value), format!("1 to {most}"));
        let above_zero = |value: &f64, most| (*value > 0.0 && *value <= most, format!("above 0, at most {most}"));
        let checks = [
            ("epochs", epochs.to_string(), count(epochs, 10_000)),
            ("batch", batch.to_string(), count(batch, 65_536)),
            ("lr", lr.to_string(), above_zero(lr, 10.0)),
            ("momentum", momentum.to_string(), ((0.0..1.0).contains(momentum), "at least 0, below 1".to_owned())),
            ("weight_decay", weight_decay.to_string(), ((0.0..=1.0).contains(weight_decay), "0 to 1".to_owned())),
            (
                "lr_milestones",
                format!("{lr_milestones:?}"),
                (
                    lr_milestones.is_sorted_by(|a, b| a < b) && lr_milestones.first() != Some(&0),
                    "ascending numbers of epochs, at least 1".to_owned(),
                ),
            ),
            ("warmup_epochs", warmup_epochs.to_string(), (warmup_epochs <= epochs, format!("0 to {epochs}"))),
            ("lr_factor", lr_factor.to_string(), above_zero(lr_factor, 1.0)),
        ];
        match checks.into_iter().find(|(_, _, (fine, _))| !fine) {
            Some((key, value, (_, expected))) => Err(format!("fusion.{key} = {value}, expected {expected}")),
            None => Ok(()),
        }
    }
}
