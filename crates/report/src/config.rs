//! What this stage is, and what can be set.

use cxr::Split;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What this stage is.
pub const SPEC: stage::Spec = stage::Spec { name: "report", version: 4, defaults: include_str!("../default.toml") };

/// Configuration, see `default.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Draws of the bootstrap.
    pub draws: usize,
    /// Share of draws inside an interval.
    pub confidence: f64,
    /// `test` or `validation`.
    pub split: String,
    /// Number of cases in the gallery.
    pub cases: usize,
}

impl Config {
    /// Checks the ranges; returns the split that is reported, and the other one.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(&self) -> Result<[Split; 2], Error> {
        let setting = |key, got: String, expected| Err(Error::Setting { key, got, expected });
        if self.draws > 20_000 {
            return setting("draws", self.draws.to_string(), "0 to 20000");
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return setting("confidence", self.confidence.to_string(), "above 0 and below 1");
        }
        if self.cases > 300 {
            return setting("cases", self.cases.to_string(), "0 to 300");
        }
        match self.split.as_str() {
            "test" => Ok([Split::Test, Split::Validation]),
            "validation" => Ok([Split::Validation, Split::Test]),
            other => setting("split", format!("{other:?}"), "\"test\" or \"validation\""),
        }
    }
}
