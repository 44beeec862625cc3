//! Where the numbers come from, stage by stage.

use serde::Serialize;
use serde_json::Value;
use stage::{Input, Run};

use crate::config::{Config, SPEC};

/// One stage's provenance.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// Name.
    pub stage: String,
    /// Run it was taken from.
    pub run: String,
    /// Key.
    pub key: String,
    /// Stage version.
    pub version: u32,
    /// Seed.
    pub seed: u64,
    /// `--device`.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// Git commit, if known.
    pub git: Option<String>,
    /// When it started.
    pub started: String,
    /// Duration as it is to be read; empty for this report, which is not finished yet.
    pub seconds: String,
    /// Effective configuration, `key = value` lines.
    pub config: Vec<(String, String)>,
}

impl Provenance {
    /// Of a stage whose files were read.
    pub fn of(input: &Input) -> Provenance {
        let manifest = input.manifest();
        Provenance {
            stage: manifest.stage.clone(),
            run: input.run_name().to_owned(),
            key: manifest.key.clone(),
            version: manifest.version,
            seed: manifest.seed,
            device: manifest.device.clone(),
            threads: manifest.threads,
            git: manifest.git.clone(),
            started: manifest.started.clone(),
            seconds: format!("{:.1} s", manifest.seconds),
            config: settings(&manifest.config),
        }
    }

    /// Of this report itself, in the run of that name.
    pub fn of_report(run: &Run, name: &str, config: &Config) -> Provenance {
        Provenance {
            stage: SPEC.name.to_owned(),
            run: name.to_owned(),
            key: run.key(),
            version: SPEC.version,
            seed: run.seed(),
            device: run.device().to_owned(),
            threads: std::thread::available_parallelism().map_or(1, Into::into),
            git: None,
            started: String::new(),
            seconds: String::new(),
            config: settings(&serde_json::json!(config)),
        }
    }
}

fn settings(config: &Value) -> Vec<(String, String)> {
    let pairs = config.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.to_string())).collect()
}
