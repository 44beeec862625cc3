//! What a study consists of: the section `[study]`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stage::{Fail, Section, Settings, Spec};

/// How a study is published.
pub const SPEC: Spec =
    Spec { name: "study", version: 1, seeded: true, defaults: include_str!("../study.toml"), about: "" };

/// The section `[study]`; `study.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Seeds of every arm.
    pub seeds: Vec<u64>,
    /// The arms; the first is what the others are compared with.
    pub arms: Vec<ArmSettings>,
}

/// One arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSettings {
    /// A word, part of its runs' names.
    pub name: String,
    /// What it is, in words.
    #[serde(default)]
    pub about: String,
    /// `stage.key` and its value.
    #[serde(default)]
    pub set: BTreeMap<String, toml::Value>,
}

/// The most trainings of one kind that a study may ask for: a typing error should not be a month.
const MOST: usize = 256;

impl Settings for Study {
    const EXECUTION: &'static [&'static str] = &[];

    fn check(&self, section: Section) -> Result<(), Fail> {
        let distinct = self.seeds.iter().collect::<BTreeSet<_>>().len() == self.seeds.len();
        if self.seeds.is_empty() || self.seeds.len() > MOST || !distinct {
            return Err(section.refuse("seeds", &format!("{:?}", self.seeds), "1 to 256 different seeds"));
        }
        if self.arms.is_empty() || self.arms.len() > MOST {
            return Err(section.refuse("arms", &format!("{} arms", self.arms.len()), "1 to 256 arms"));
        }
        let mut names = BTreeSet::new();
        for arm in &self.arms {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if arm.name.is_empty() || !arm.name.chars().all(plain) || !names.insert(&arm.name) {
                let expected = "different names of letters, digits, '_' and '.'";
                return Err(section.refuse("arms.name", &format!("{:?}", arm.name), expected));
            }
            if let Some(key) = arm.set.keys().find(|key| !key.contains('.') || key.contains(['\t', '\n', '='])) {
                let expected = "STAGE.KEY = VALUE, e.g. \"attend.region\" = \"random\"";
                return Err(section.refuse("arms.set", &format!("{key:?}"), expected));
            }
        }
        Ok(())
    }
}

impl ArmSettings {
    /// What it sets, `stage.key = value` lines.
    pub fn lines(&self) -> String {
        self.set.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join("\n")
    }
}

impl Study {
    /// The name of the run of an arm and a seed, for the study of the run `study`.
    pub fn run(study: &str, arm: &ArmSettings, seed: u64) -> String {
        format!("{study}-{}-seed-{seed}", arm.name)
    }

    /// The flags of every training, one line each, seed by seed; the flags of a line are separated by tabs.
    pub fn plan(&self, study: &str) -> String {
        let mut text = String::new();
        for &seed in &self.seeds {
            for arm in &self.arms {
                text += &format!("--run\t{}\t--seed\t{seed}", Study::run(study, arm, seed));
                for (key, value) in &arm.set {
                    // TOML on one line: a text has its line breaks and tabs escaped.
                    text += &format!("\t--set\t{key}={}", value.to_string().replace(['\n', '\t'], " "));
                }
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(text: &str) -> Study {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_plan_has_a_line_per_training() {
        let study = study(
            "seeds = [2, 1]\n[[arms]]\nname = 'attended'\n[[arms]]\nname = 'low'\nset = { 'attend.threshold' = 0.5, 'local.pool' = 'avg' }\n",
        );
        study.check(Section("study")).unwrap();
        assert_eq!(
            study.plan("s"),
            "--run\ts-attended-seed-2\t--seed\t2\n\
             --run\ts-low-seed-2\t--seed\t2\t--set\tattend.threshold=0.5\t--set\tlocal.pool=\"avg\"\n\
             --run\ts-attended-seed-1\t--seed\t1\n\
             --run\ts-low-seed-1\t--seed\t1\t--set\tattend.threshold=0.5\t--set\tlocal.pool=\"avg\"\n"
        );
    }

    #[test]
    fn impossible_studies_are_refused() {
        for (text, why) in [
            ("seeds = []\narms = [{ name = 'a' }]", "seeds"),
            ("seeds = [1, 1]\narms = [{ name = 'a' }]", "seeds"),
            ("seeds = [1]\narms = []", "arms"),
            ("seeds = [1]\narms = [{ name = 'a' }, { name = 'a' }]", "arms.name"),
            ("seeds = [1]\narms = [{ name = 'a-versus-b' }]", "arms.name"),
            ("seeds = [1]\narms = [{ name = 'a', set = { threshold = 1 } }]", "arms.set"),
        ] {
            let error = study(text).check(Section("study")).unwrap_err().to_string();
            assert!(error.contains(&format!("study.{why} = ")), "{error}");
        }
    }

    #[test]
    fn the_default_study_is_possible() {
        let table: toml::Table = toml::from_str(SPEC.defaults).unwrap();
        let study: Study = table["study"].clone().try_into().unwrap();
        study.check(Section("study")).unwrap();
        assert_eq!(study.arms[0].set, BTreeMap::new());
    }
}
