//! Does a copied model still say what it said where it was made?

use std::fmt;
use std::path::Path;

use model::{Model, Question};
use picture::Radiograph;
use serde_json::Value;

use crate::commands::BATCH;
use crate::error::Error;
use crate::export::{EXPECTED, REFERENCE};
use crate::output::value;

/// The most bytes of the expected answers.
const MAX_EXPECTED: u64 = 1 << 28;

/// The most that instruction sets and devices differ by in a probability.
const ROUNDING: f64 = 1e-4;

/// What a self-test found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Reference images.
    pub images: usize,
    /// Numbers that were compared.
    pub numbers: usize,
    /// The largest difference, and where it is.
    pub largest: f64,
    /// Where the largest difference is.
    pub place: String,
    /// What differs and is no number: a call, a reason.
    pub other: Option<String>,
}

impl Found {
    /// Whether nothing differs by more than rounding.
    pub fn is_close(&self) -> bool {
        self.largest <= ROUNDING && self.other.is_none()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { images, numbers, largest, place, other } = self;
        match other {
            Some(other) => write!(f, "different: {other}"),
            None if *images == 0 => {
                f.write_str("nothing compared: the model has no reference images; its files are those of its export")
            }
            None if *largest == 0.0 => write!(f, "equal: {numbers} numbers of {images} reference images, bit for bit"),
            None if self.is_close() => write!(
                f,
                "equal but for rounding: {numbers} numbers of {images} reference images, largest difference {largest:.1e} \
                 ({place})"
            ),
            None => write!(f, "different: {place} by {largest:.1e} (of {numbers} numbers, {images} reference images)"),
        }
    }
}

/// Recomputes the reference answers of the model in `folder`.
///
/// # Errors
/// A reference that is missing or damaged.
pub fn selftest(folder: &Path, model: &Model) -> Result<Found, Error> {
    let folder = folder.join(REFERENCE);
    let path = folder.join(EXPECTED);
    let bad = |problem: String| Error::Path { path: path.clone(), problem };
    let text = guard::read_to_string(&path, MAX_EXPECTED)?;
    let mut found = Found { images: 0, numbers: 0, largest: 0.0, place: "none".to_owned(), other: None };
    let expected: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))?;
    for batch in expected.chunks(BATCH) {
        let mut radiographs = Vec::new();
        for expected in batch {
            let name = expected["image"].as_str().filter(|name| !name.contains(['/', '\\']));
            let name = name.ok_or_else(|| bad(format!("image is {}, expected a file name", expected["image"])))?;
            radiographs.push(Radiograph::read(&folder.join(name))?);
        }
        let radiographs: Vec<&Radiograph> = radiographs.iter().collect();
        let question = Question { no_gate: true, error_rate: None };
        for (expected, answer) in batch.iter().zip(model.answer(&radiographs, question)?) {
            let name = expected["image"].as_str().unwrap_or_default();
            found.images += 1;
            compare(name, expected, &value(name, &answer), &mut found);
        }
    }
    Ok(found)
}

fn compare(place: &str, expected: &Value, got: &Value, found: &mut Found) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) if expected.len() == got.len() => {
            for (key, expected) in expected {
                // Novelty and sentences follow from what is compared, on a scale of their own.
                if !["novelty", "why", "box_px"].contains(&key.as_str()) {
                    compare(&format!("{place} {key}"), expected, got.get(key).unwrap_or(&Value::Null), found);
                }
            }
        }
        (Value::Number(expected), Value::Number(got)) => {
            let difference = (expected.as_f64().unwrap_or(f64::NAN) - got.as_f64().unwrap_or(f64::NAN)).abs();
            found.numbers += 1;
            if difference > found.largest || difference.is_nan() {
                found.largest = if difference.is_nan() { f64::INFINITY } else { difference };
                found.place = place.to_owned();
            }
        }
        _ if expected == got => {}
        _ => found.other = Some(format!("{place} is {got}, expected {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_found() {
        let of = |expected: Value, got: Value| {
            let mut found = Found { images: 1, numbers: 0, largest: 0.0, place: "none".to_owned(), other: None };
            compare("a.png", &expected, &got, &mut found);
            found
        };
        let same = of(json!({"p": {"mass": 0.25}, "call": true}), json!({"p": {"mass": 0.25}, "call": true}));
        assert_eq!(same.to_string(), "equal: 1 numbers of 1 reference images, bit for bit");
        let none = Found { images: 0, numbers: 0, largest: 0.0, place: "none".to_owned(), other: None };
        assert!(none.is_close() && none.to_string().starts_with("nothing compared"), "{none}");
        let close = of(json!({"p": {"mass": 0.25}}), json!({"p": {"mass": 0.25001}}));
        assert!(close.is_close() && close.to_string().contains("(a.png p mass)"), "{close}");
        assert!(!of(json!({"p": {"mass": 0.25}}), json!({"p": {"mass": 0.26}})).is_close());
        assert!(!of(json!({"call": true}), json!({"call": null})).is_close());
        assert!(!of(json!({"p": {"mass": 0.25}}), json!({"p": {}})).is_close());
    }
}
