//! What this stage is, and what can be set.

use std::ops::Bound;

use std::collections::BTreeMap;

use cxr::{Expert, Finding, Split};
use serde::{Deserialize, Serialize};

use stage::{Fail, Section, Settings, Spec};

/// What this stage is.
pub const SPEC: Spec = Spec {
    name: "report",
    version: 8,
    seeded: true,
    defaults: include_str!("../default.toml"),
    about: "Metrics with patient-level intervals, figures and one HTML page

Reads prep, global, attend, local and fusion of the run; writes metrics.parquet, index.html, figures/ and overlays/. A short table goes to stdout.",
};

/// Configuration, see `default.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Draws of the bootstrap.
    pub draws: usize,
    /// Share of draws inside an interval.
    pub confidence: f64,
    /// `test` or `validation`.
    pub split: Split,
    /// Number of cases in the gallery.
    pub cases: usize,
    /// Imported models that are shown beside the branches.
    pub peers: Vec<String>,
    /// Which of NIH's findings make one of the experts'.
    pub experts: BTreeMap<String, Vec<String>>,
}

impl Settings for Config {
    const EXECUTION: &'static [&'static str] = &[];

    fn check(&self, section: Section) -> Result<(), Fail> {
        section.within("draws", self.draws, 0..=20_000)?;
        section.within("confidence", self.confidence, (Bound::Excluded(0.0), Bound::Excluded(1.0)))?;
        // With fewer, no draw lies outside the interval, or the interval is one draw.
        let least = (2.0 / (1.0 - self.confidence)).ceil().max(20.0);
        if self.draws > 0 && (self.draws as f64) < least {
            let expected = format!("0 for no intervals, or at least {least}, so that draws lie on both sides of them");
            return Err(section.refuse("draws", &self.draws, &expected));
        }
        section.within("cases", self.cases, 0..=300)?;
        for (expert, findings) in &self.experts {
            if let Err(unknown) = expert.parse::<Expert>() {
                return Err(section.refuse("experts", &format!("{expert:?}"), &format!("one of {}", unknown.allowed)));
            }
            if let Some(Err(unknown)) = findings.iter().map(|name| name.parse::<Finding>()).find(Result::is_err) {
                let expected = format!("for {expert} findings of {}", unknown.allowed);
                return Err(section.refuse("experts", &format!("{:?}", unknown.got), &expected));
            }
        }
        match self.split {
            Split::Train => Err(section.refuse("split", &"\"train\"", "\"test\" or \"validation\"")),
            Split::Validation | Split::Test => Ok(()),
        }
    }
}

impl Config {
    /// Which of NIH's findings make one of the experts', in the experts' order.
    pub fn mapping(&self) -> Vec<(Expert, Vec<Finding>)> {
        let of = |expert: Expert| {
            let findings = self.experts.get(expert.name())?.iter().filter_map(|name| name.parse().ok());
            Some((expert, findings.collect()))
        };
        Expert::ALL.into_iter().filter_map(of).collect()
    }

    /// The split that is reported, and the other one.
    pub fn splits(&self) -> [Split; 2] {
        match self.split {
            Split::Validation => [Split::Validation, Split::Test],
            _ => [Split::Test, Split::Validation],
        }
    }
}
