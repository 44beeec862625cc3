//! Whether trainings that stand beside each other are what they are said to be: one recipe with several seeds, or the arms
//! of a study. The manifests of their stages say what was done.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stage::Input;

use crate::Error;
use crate::study::ArmSettings;

/// What a run did.
pub(super) struct Recipe {
    /// The run.
    run: String,
    /// What its trainings drew from.
    seed: Option<u64>,
    /// `stage.key` and its value, of everything that a result depends on.
    settings: BTreeMap<String, Value>,
}

impl Recipe {
    /// Of the stages of a run; the last one knows the seed.
    pub(super) fn of(run: &str, stages: &[&Input]) -> Recipe {
        let mut settings = BTreeMap::new();
        for manifest in stages.iter().map(|input| input.manifest()) {
            let dotted = |key: &str| format!("{}.{key}", manifest.stage);
            for (key, value) in manifest.config.as_object().into_iter().flatten() {
                if !manifest.execution.contains(key) {
                    settings.insert(dotted(key), value.clone());
                }
            }
            settings.insert(dotted("--limit"), Value::from(manifest.limit));
        }
        let seed = stages.last().and_then(|input| input.manifest().seed);
        Recipe { run: run.to_owned(), seed, settings }
    }

    /// The seed.
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or_default()
    }
}

/// Checks `[arm][seed]` recipes: an arm has what it sets, and nothing else differs; every arm has the same different
/// seeds, which are `planned` where somebody planned them.
///
/// # Errors
/// [`Error::Seeds`], [`Error::Recipe`], [`Error::NotTheArm`].
pub(super) fn check(arms: &[ArmSettings], recipes: &[Vec<Recipe>], planned: Option<&[u64]>) -> Result<(), Error> {
    let Some(first) = recipes.first().and_then(|arm| arm.first()) else { return Ok(()) };
    let seeds = |arm: &[Recipe]| arm.iter().map(Recipe::seed).collect::<Vec<_>>();
    let expected = planned.map_or_else(|| seeds(&recipes[0]), <[u64]>::to_vec);
    let distinct = expected.iter().collect::<BTreeSet<_>>().len() == expected.len();
    for (arm, of_arm) in arms.iter().zip(recipes) {
        let got = seeds(of_arm);
        if !distinct || got != expected {
            let runs = of_arm.iter().map(|recipe| recipe.run.as_str()).collect::<Vec<_>>().join(", ");
            let expected = planned.map_or("different ones".to_owned(), |planned| format!("{planned:?}"));
            return Err(Error::Seeds { runs, got: format!("{got:?}"), expected });
        }
        for recipe in of_arm {
            has_what_it_sets(arm, recipe)?;
            let free = |key: &str| arm.set.contains_key(key) || arms[0].set.contains_key(key);
            let keys: BTreeSet<&String> = first.settings.keys().chain(recipe.settings.keys()).collect();
            for key in keys.into_iter().filter(|key| !free(key)) {
                let [one, other] = [first, recipe].map(|recipe| recipe.settings.get(key));
                if one != other {
                    let runs = [first.run.clone(), recipe.run.clone()];
                    return Err(Error::Recipe { runs, key: key.clone(), got: [text(one), text(other)] });
                }
            }
        }
    }
    Ok(())
}

/// Checks that a run has what its arm sets, of the stages that are known here.
fn has_what_it_sets(arm: &ArmSettings, recipe: &Recipe) -> Result<(), Error> {
    for (key, value) in &arm.set {
        let Some(got) = recipe.settings.get(key) else { continue };
        let expected = serde_json::to_value(value).unwrap_or_default();
        if !alike(got, &expected) {
            let (arm, run, key) = (arm.name.clone(), recipe.run.clone(), key.clone());
            return Err(Error::NotTheArm { arm, run, key, got: got.to_string(), expected: expected.to_string() });
        }
    }
    Ok(())
}

/// Whether two values are the same setting: some settings are 32-bit numbers.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let [a, b] = [a, b].map(|number| number.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        _ => a == b,
    }
}

fn text(value: Option<&Value>) -> String {
    value.map_or("missing".to_owned(), Value::to_string)
}
