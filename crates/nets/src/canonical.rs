//! JSON in one form only.

use serde_json::Value;

/// The text of a value with sorted keys and without spaces, whatever order the features of `serde_json` keep keys in.
pub(crate) fn canonical(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(",");
    match value {
        Value::Object(entries) => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort();
            let entry = |key: &&String| format!("{}:{}", Value::from(key.as_str()), canonical(&entries[*key]));
            format!("{{{}}}", joined(keys.iter().map(entry).collect()))
        }
        Value::Array(items) => format!("[{}]", joined(items.iter().map(canonical).collect())),
        other => other.to_string(),
    }
}

/// Whether a value is what it is where nobody says anything, so that its JSON may leave it out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
