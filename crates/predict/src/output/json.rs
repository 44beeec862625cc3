//! An answer as a JSON object.

use cxr::{Branch, OUTPUTS, output_names};
use model::{Answer, Seen};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The object of an image: `image`, `probabilities` by branch and finding, `calibrated`, `calls`, `verdicts` where they were
/// asked for, `box_px`, `novelty`, `refused`. What was not computed is null. Numbers read back as the same `f32`.
pub fn value(image: &str, answer: &Answer) -> Value {
    let seen = answer.seen.as_ref();
    let of = |take: &dyn Fn(&Seen) -> Value| seen.map_or(Value::Null, take);
    let mut object = json!({
        "image": image,
        "probabilities": of(&|seen| {
            let branches = Branch::ALL.into_iter().zip(&seen.probabilities);
            Value::Object(branches.map(|(branch, row)| (branch.name().to_owned(), by_finding(row))).collect())
        }),
        "calibrated": of(&|seen| by_finding(&seen.calibrated)),
        "calls": of(&|seen| by_finding(&seen.calls)),
        "box_px": of(&|seen| json!(seen.box_px)),
        "novelty": answer.novelty,
        "refused": answer.refusal.as_ref().map(|refusal| json!({
            "reason": refusal.code(),
            "why": refusal.to_string(),
        })),
    });
    if let Some(verdicts) = seen.and_then(|seen| seen.verdicts.as_ref()) {
        object["verdicts"] = by_finding(verdicts);
    }
    object
}

fn by_finding<T: Serialize>(values: &[T; OUTPUTS]) -> Value {
    let pairs = output_names().into_iter().zip(values);
    Value::Object(pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>())
}
