//! Typed settings: what a stage's section of the configuration becomes, how it is checked, and what of it is hashed.

use std::fmt::{Display, Write};
use std::ops::{Bound, RangeBounds};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Fail;

/// A stage's section of the configuration as a type.
///
/// The checked values are what the key hashes, so two spellings of one value (`1` and `1.0`) are the same setting.
pub trait Settings: Serialize + DeserializeOwned {
    /// Keys that say how or where to compute and never change the result, e.g. `eval_batch`: they are recorded in the
    /// manifest and are no part of the key.
    const EXECUTION: &'static [&'static str];

    /// Checks what types cannot: ranges, and keys that depend on each other.
    ///
    /// # Errors
    /// Exit code 2, naming key, value and what is allowed.
    fn check(&self, section: Section) -> Result<(), Fail>;
}

/// Settings that nobody checks: of a stage without any, or of a test.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Unchecked(pub Value);

impl Settings for Unchecked {
    const EXECUTION: &'static [&'static str] = &[];

    fn check(&self, _: Section) -> Result<(), Fail> {
        Ok(())
    }
}

/// The name of a section, e.g. `attend`; checks values of its keys.
#[derive(Debug, Clone, Copy)]
pub struct Section(pub &'static str);

impl Section {
    /// Refuses a value outside `range`.
    ///
    /// # Errors
    /// Exit code 2: `attend.size = 7, expected 16 to 2048`.
    pub fn within<T: PartialOrd + Display>(self, key: &str, value: T, range: impl RangeBounds<T>) -> Result<(), Fail> {
        if range.contains(&value) { Ok(()) } else { Err(self.refuse(key, &value, &describe(&range))) }
    }

    /// The error of a value that is not allowed; `expected` says what is.
    pub fn refuse(self, key: &str, value: &impl Display, expected: &str) -> Fail {
        Fail::usage(anyhow::anyhow!("{}.{key} = {value}, expected {expected}", self.0))
    }
}

/// `1 to 4096`, `above 0, at most 1`, `at least 0, below 1`.
fn describe<T: Display>(range: &impl RangeBounds<T>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(least), Bound::Included(most)) => format!("{least} to {most}"),
        (least, most) => {
            let least = match least {
                Bound::Included(least) => Some(format!("at least {least}")),
                Bound::Excluded(least) => Some(format!("above {least}")),
                Bound::Unbounded => None,
            };
            let most = match most {
                Bound::Included(most) => Some(format!("at most {most}")),
                Bound::Excluded(most) => Some(format!("below {most}")),
                Bound::Unbounded => None,
            };
            [least, most].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}

/// Above 0, at most `most`.
pub fn above_zero(most: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(0.0), Bound::Included(most))
}

/// BLAKE3 of a value's canonical form, 32 hex digits: equal values, equal digests, whatever the order of keys.
pub fn digest(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// JSON with sorted keys and without spaces, written here because the order that `serde_json` keeps depends on a
/// feature that any dependency may switch on.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|&(name, _)| name);
            out.push('{');
            for (index, (name, item)) in entries.into_iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                // Writing to a String cannot fail.
                let _ = write!(out, "{comma}{}:", Value::from(name.as_str()));
                canonical(item, out);
            }
            out.push('}');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digests_depend_on_values_and_on_nothing_else() {
        let known = json!({"b": [1, 2.5, "x"], "a": {"z": null, "y": true}});
        assert_eq!(digest(&known), digest(&json!({"a": {"y": true, "z": null}, "b": [1, 2.5, "x"]})));
        // Stored, so that a change of the canonical form, which would change every key, is seen.
        assert_eq!(digest(&known), "ec5c0605ed67e83345436457dbdb6d78");
        assert_ne!(digest(&json!([1])), digest(&json!(["1"])));
    }

    #[test]
    fn ranges_in_words() {
        let message = |result: Result<(), Fail>| result.unwrap_err().to_string();
        let section = Section("attend");
        assert!(section.within("size", 16, 16..=2048).is_ok());
        assert_eq!(message(section.within("size", 7, 16..=2048)), "attend.size = 7, expected 16 to 2048");
        let above = message(section.within("lr", 0.0, above_zero(10.0)));
        assert_eq!(above, "attend.lr = 0, expected above 0, at most 10");
        assert_eq!(message(section.within("m", 1.0, 0.0..1.0)), "attend.m = 1, expected at least 0, below 1");
        assert!(section.within("lr", f64::NAN, above_zero(10.0)).is_err());
    }
}
