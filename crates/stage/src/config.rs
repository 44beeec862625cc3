//! Configuration layers: embedded defaults, then files, then `--set`.

use std::path::Path;

use toml::{Table, Value};

use crate::{Common, Fail, STAGES, Spec};

/// The defaults of every stage: the sections and keys that there are. Each lies beside the stage that reads it.
const DEFAULTS: [&str; STAGES.len()] = [
    include_str!("../../phantom/default.toml"),
    include_str!("../../prep/default.toml"),
    include_str!("../../global/default.toml"),
    include_str!("../../attend/default.toml"),
    include_str!("../../local/default.toml"),
    include_str!("../../fusion/default.toml"),
    include_str!("../../predict/evaluate.toml"),
    include_str!("../../report/default.toml"),
    include_str!("../../predict/default.toml"),
];

/// What is no stage, and has a section: the study of `report study`.
const STUDY: (&str, &str) = ("study", include_str!("../../report/study.toml"));

/// All sections, with their defaults.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    STAGES.into_iter().zip(DEFAULTS).chain([STUDY])
}

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
    /// The sections of the other stages, as they would have them.
    others: Table,
}

impl Given {
    /// The error of a key that its section, with these keys, does not have.
    fn unknown(&self, known: &Table) -> Fail {
        let Given { section, key, value, origin } = self;
        let keys = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Fail::usage(anyhow::anyhow!("unknown key {section}.{key} = {value} in {origin}, expected one of {keys}"))
            .hint(format!("{section} --print-config shows every key with its value"))
    }
}

/// A stage's section of its defaults.
fn section(name: &str, text: &str) -> Result<Table, Fail> {
    let mut table: Table =
        toml::from_str(text).map_err(|error| Fail::failed(anyhow::anyhow!("embedded defaults of {name}: {error}")))?;
    match table.remove(name) {
        Some(Value::Table(section)) => Ok(section),
        _ => Err(Fail::failed(anyhow::anyhow!("embedded defaults of {name} lack [{name}]"))),
    }
}

impl Layers {
    /// Reads the files and the `--set` flags; checks all sections and their keys, and no value.
    pub(crate) fn read(spec: &Spec, common: &Common) -> Result<Self, Fail> {
        let mut given = Vec::new();
        for path in &common.config {
            file(path, &mut given)?;
        }
        for text in &common.set {
            given.push(set(text)?);
        }
        let mut defaults = section(spec.name, spec.defaults)?;
        let mut others = Table::new();
        for (name, text) in sections().filter(|(name, _)| *name != spec.name) {
            others.insert(name.to_owned(), Value::Table(section(name, text)?));
        }
        for setting in &given {
            let known = match others.get_mut(&setting.section) {
                Some(Value::Table(other)) => other,
                _ => &mut defaults,
            };
            if !known.contains_key(&setting.key) {
                return Err(setting.unknown(known));
            }
            known.insert(setting.key.clone(), setting.value.clone());
        }
        Ok(Layers { stage: spec.name, given, effective: defaults, others })
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

    /// What another stage would have for `stage.key` with this configuration.
    pub(crate) fn planned(&self, dotted: &str) -> Option<&Value> {
        let (section, key) = dotted.split_once('.')?;
        self.others.get(section)?.get(key)
    }
}

fn known(section: &str, origin: &str) -> Result<(), Fail> {
    if sections().any(|(known, _)| known == section) {
        return Ok(());
    }
    let expected = sections().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    Err(Fail::usage(anyhow::anyhow!("unknown section {section} in {origin}, expected one of {expected}")))
}

fn file(path: &Path, given: &mut Vec<Given>) -> Result<(), Fail> {
    let text = guard::read_to_string(path, MOST).map_err(Fail::usage)?;
    no_secrets(&text, &path.display().to_string())?;
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

/// Refuses a text with a password in a URL before any of it is shown, here or by a stage that has no use for the setting.
fn no_secrets(text: &str, origin: &str) -> Result<(), Fail> {
    files::refuse_secrets(text).map_err(|error| {
        let hint = error.hint().unwrap_or_default();
        Fail::usage(anyhow::anyhow!("{origin}: {error}")).hint(hint)
    })
}

/// `attend.threshold=0.6`; a value that is no TOML is taken as a string, so quotes can be left away.
fn set(text: &str) -> Result<Given, Fail> {
    no_secrets(text, "--set")?;
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
