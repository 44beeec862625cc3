//! What the report must know of other stages beside their tables, typed. No other file reads another stage's
//! configuration or headline metrics.

use cxr::{EvalCrop, EvalFrame, Split};
use serde_json::Value;
use stage::Input;

use crate::Error;

/// What prep says about its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Whether `phantom` made them.
    pub synthetic: bool,
    /// How they were split: `prep.split`.
    pub split: String,
}

/// What attend says about its regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    /// The part of the stored images that the heat maps cover.
    pub frame: EvalFrame,
    /// `attend.threshold`: a number, or the name of a method.
    pub threshold: String,
}

/// What a run's report says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The split that it is about.
    pub split: Split,
    /// `attend.threshold` of its regions.
    pub threshold: String,
}

/// The facts of prep's images.
///
/// # Errors
/// [`Error::Fact`].
pub fn images(prep: &Input) -> Result<Images, Error> {
    Ok(Images {
        synthetic: prep.manifest().inputs.iter().any(|source| source.stage == "phantom"),
        split: fact(prep, prep.config(), "split", "a text", text)?,
    })
}

/// The facts of attend's regions; `image_px` is the side of the stored images.
///
/// # Errors
/// [`Error::Fact`].
pub fn regions(attend: &Input, global: &Input, image_px: usize) -> Result<Regions, Error> {
    let crop = |input: &Input| fact(input, input.config(), "crop", "a number of pixels", Value::as_u64);
    let side = match crop(attend)? {
        0 => crop(global)?,
        side => side,
    };
    let threshold = fact(attend, attend.config(), "threshold", "a number or a text", number_or_text)?;
    Ok(Regions { frame: EvalFrame { crop: EvalCrop::Centre, image_px, input_px: side as usize }, threshold })
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
