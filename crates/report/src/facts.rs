//! What a run's own report says about itself: the facts of prep's images and attend's regions are in their tables.

use cxr::Split;
use serde_json::Value;
use stage::Input;

use crate::Error;

/// What a run's report says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The split that it is about.
    pub split: Split,
    /// `attend.threshold` of its regions.
    pub threshold: String,
}

/// The facts of a report.
///
/// # Errors
/// [`Error::Fact`].
pub fn reported(report: &Input) -> Result<Reported, Error> {
    let metrics = &report.manifest().metrics;
    let split = |value: &Value| value.as_str()?.parse().ok();
    Ok(Reported {
        split: fact(report, metrics, "split", "train, validation or test", split)?,
        threshold: fact(report, metrics, "attend_threshold", "a number or a text", number_or_text)?,
    })
}

fn fact<T>(
    input: &Input,
    values: &Value,
    what: &'static str,
    expected: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<T, Error> {
    let got = values.get(what);
    got.and_then(read).ok_or_else(|| Error::Fact {
        stage: input.manifest().stage.clone(),
        what,
        got: got.map_or("missing".to_owned(), Value::to_string),
        expected,
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn number_or_text(value: &Value) -> Option<String> {
    text(value).or_else(|| value.is_number().then(|| value.to_string()))
}
