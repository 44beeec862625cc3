//! Configuration layers: embedded defaults, then files, then `--set`.

use std::path::Path;

use toml::{Table, Value};

use crate::{Common, Fail, STAGES, Spec};

/// A value that the user gave, and where.
#[derive(Debug, Clone)]
struct Given {
    section: String,
    key: String,
    value: Value,
    origin: String,
}

/// The most bytes of a configuration file.
const MOST: u64 = 1 << 24;

/// All layers, merged for one stage.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    stage: &'static str,
    given: Vec<Given>,
    effective: Table,
}

impl Layers {
    /// Reads the files and the `--set` flags; checks sections, and the keys of the stage's own section.
    pub(crate) fn read(spec: &Spec, common: &Common) -> Result<Self, Fail> {
        let mut given = Vec::new();
        for path in &common.config {
            file(path, &mut given)?;
        }
        for text in &common.set {
            given.push(set(text)?);
        }
        let defaults: Table = toml::from_str(spec.defaults)
            .map_err(|e| Fail::failed(anyhow::anyhow!("embedded default.toml of {}: {e}", spec.name)))?;
        let Some(Value::Table(mut effective)) = defaults.get(spec.name).cloned() else {
            return Err(Fail::failed(anyhow::anyhow!("embedded default.toml lacks [{}]", spec.name)));
        };
        for setting in given.iter().filter(|setting| setting.section == spec.name) {
            if !effective.contains_key(&setting.key) {
                let keys: Vec<_> = effective.keys().map(String::as_str).collect();
                return Err(Fail::usage(anyhow::anyhow!(
                    "unknown key {}.{} = {} in {}, expected one of {}",
                    spec.name,
                    setting.key,
                    setting.value,
                    setting.origin,
                    keys.join(", ")
                ))
                .hint(format!("{} --print-config shows every key with its value", spec.name)));
            }
            effective.insert(setting.key.clone(), setting.value.clone());
        }
        Ok(Layers { stage: spec.name, given, effective })
    }

    /// The stage's own section.
    pub(crate) fn effective(&self) -> &Table {
        &self.effective
    }

    /// The own section as the stage's configuration type.
    pub(crate) fn parse<C: serde::de::DeserializeOwned>(&self) -> Result<C, Fail> {
        Value::Table(self.effective.clone()).try_into().map_err(|error: toml::de::Error| {
            let text = error.to_string().trim().replace('\n', " ");
            let origins: Vec<_> = self
                .given
                .iter()
                .filter(|setting| setting.section == self.stage)
                .map(|setting| format!("{}.{} = {} ({})", self.stage, setting.key, setting.value, setting.origin))
                .collect();
            Fail::usage(anyhow::anyhow!("configuration of {}: {text}; given were {}", self.stage, origins.join(", ")))
        })
    }

    /// What the user set for `stage.key`, of whatever section; `None` where nothing was said.
    pub(crate) fn setting(&self, dotted: &str) -> Option<&Value> {
        let (section, key) = dotted.split_once('.')?;
        self.given.iter().rev().find(|s| s.section == section && s.key == key).map(|s| &s.value)
    }
}

fn known(section: &str, origin: &str) -> Result<(), Fail> {
    if STAGES.contains(&section) {
        return Ok(());
    }
    let expected = STAGES.join(", ");
    Err(Fail::usage(anyhow::anyhow!("unknown section {section} in {origin}, expected one of {expected}")))
}

fn file(path: &Path, given: &mut Vec<Given>) -> Result<(), Fail> {
    let text = guard::read_to_string(path, MOST).map_err(Fail::usage)?;
    let table: Table =
        toml::from_str(&text).map_err(|e| Fail::usage(anyhow::anyhow!("{}: not valid TOML: {e}", path.display())))?;
    let origin = path.display().to_string();
    for (section, values) in table {
        known(&section, &origin)?;
        let Value::Table(values) = values else {
            let message = anyhow::anyhow!("{origin}: {section} = {values}, expected a section [{section}]");
            return Err(Fail::usage(message));
        };
        for (key, value) in values {
            given.push(Given { section: section.clone(), key, value: at_home(value), origin: origin.clone() });
        }
    }
    Ok(())
}

/// `attend.threshold=0.6`; a value that is no TOML is taken as a string, so quotes can be left away.
fn set(text: &str) -> Result<Given, Fail> {
    let parts = text.split_once('=').and_then(|(name, value)| Some((name.trim().split_once('.')?, value.trim())));
    let Some(((section, key), value)) = parts else {
        return Err(Fail::usage(anyhow::anyhow!("--set {text}: expected STAGE.KEY=VALUE, e.g. attend.threshold=0.6")));
    };
    let origin = format!("--set {text}");
    known(section, &origin)?;
    let value = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    Ok(Given { section: section.to_owned(), key: key.to_owned(), value: at_home(value), origin })
}

/// A value in which `~/` in front, which a shell would have replaced, is the user's home: only paths begin so.
fn at_home(value: Value) -> Value {
    let home = std::env::var("HOME").unwrap_or_default();
    match &value {
        Value::String(text) if !home.is_empty() && (text == "~" || text.starts_with("~/")) => {
            Value::String(format!("{home}{}", &text[1..]))
        }
        _ => value,
    }
}
