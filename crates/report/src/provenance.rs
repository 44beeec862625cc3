//! Where the numbers come from, stage by stage. Dates and durations are in the manifests: the page depends on what it
//! shows and on nothing else.

use serde::Serialize;
use serde_json::Value;
use stage::{Input, Run};

use crate::config::{Config, SPEC};

/// One stage's provenance.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// Name.
    pub stage: String,
    /// Key.
    pub key: String,
    /// Stage version.
    pub version: u32,
    /// Seed, where the stage uses one.
    pub seed: Option<u64>,
    /// What it was computed on.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// Commit that its program was built from, if known.
    pub build: Option<String>,
    /// Effective configuration, `key = value` lines.
    pub config: Vec<(String, String)>,
}

impl Provenance {
    /// Of a stage whose files were read.
    pub fn of(input: &Input) -> Provenance {
        let manifest = input.manifest();
        Provenance {
            stage: manifest.stage.clone(),
            key: manifest.key.clone(),
            version: manifest.version,
            seed: manifest.seed,
            device: manifest.computed.device.clone(),
            threads: manifest.threads,
            build: manifest.build.clone(),
            config: settings(&manifest.config),
        }
    }

    /// Of this report itself.
    pub fn of_report(run: &Run, config: &Config) -> Provenance {
        Provenance {
            stage: SPEC.name.to_owned(),
            key: run.key(),
            version: SPEC.version,
            seed: Some(run.seed()),
            device: "CPU".to_owned(),
            threads: stage::threads(),
            build: stage::build(),
            config: settings(&serde_json::json!(config)),
        }
    }
}

fn settings(config: &Value) -> Vec<(String, String)> {
    let pairs = config.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.to_string())).collect()
}
