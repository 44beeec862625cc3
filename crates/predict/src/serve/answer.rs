//! The bytes of an image become the JSON that is sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cxr::{BBox, OUTPUTS, output_names};
use model::{Answer, Model, Question};
use picture::Radiograph;
use serde_json::{Map, Value, json};

use crate::output::value;
use crate::overlays::heat_map;
use crate::serve::failure::Failure;
use crate::serve::upload::Upload;

/// What stands in every answer.
pub(super) const NOTICE: &str = "not for clinical use";

/// Decoders may take so many bytes for each pixel that an image may have.
const BYTES_PER_PIXEL: u64 = 16;

/// Decodes an image and asks the model about it: `predict --format json`'s object, with the model's digest, its findings in
/// their order, its thresholds, and pictures where they are wanted. An image has at most `pixels` pixels.
pub(super) fn answer(
    model: &Model,
    upload: &Upload,
    pixels: u64,
    question: Question,
    pictures: bool,
) -> Result<Value, Failure> {
    // A header that cannot be read needs nothing; decoding says what is wrong with it.
    let (needed, most) = (picture::needs(&upload.label, &upload.bytes).unwrap_or(0), BYTES_PER_PIXEL * pixels);
    if needed > most {
        return Err(picture::Error::TooMuchMemory { name: upload.label.clone(), needed, most }.into());
    }
    let radiograph = Radiograph::decode_within(&upload.label, &upload.bytes, pixels)?;
    let answers = model.answer(&[&radiograph], question).map_err(|error| Failure::internal(&error))?;
    let answer = answers.first().ok_or_else(|| Failure::internal(&"no answer for one image"))?;
    let mut object = value(&upload.label, answer);
    object["model"] = json!(model.digest);
    object["findings"] = json!(output_names());
    object["thresholds"] = thresholds(model);
    object["notice"] = json!(NOTICE);
    if pictures {
        object["pictures"] = drawn(model, &radiograph, answer);
    }
    Ok(object)
}

/// The thresholds on the scale of the calibrated probabilities, by finding.
pub(super) fn thresholds(model: &Model) -> Value {
    let pairs: [_; OUTPUTS] = std::array::from_fn(|output| (output_names()[output], model.thresholds()[output]));
    Value::Object(pairs.into_iter().map(|(name, threshold)| (name.to_owned(), json!(threshold))).collect::<Map<_, _>>())
}

/// The radiograph as it was prepared, and what the model saw in it; all boxes in its pixels.
fn drawn(model: &Model, radiograph: &Radiograph, answer: &Answer) -> Value {
    let png = |bytes: Vec<u8>| json!(STANDARD.encode(bytes));
    let frame = model.network.attention().frame;
    let (offset, side) = (frame.offset_px() as f32, frame.side_px() as f32);
    let edges = |bbox: BBox| json!([bbox.x_min, bbox.y_min, bbox.x_max, bbox.y_max]);
    let mut pictures = json!({
        "size_px": frame.image_px,
        "radiograph": null,
        "heat_map": null,
        "heat_frame_px": null,
        "box_px": null,
        "crop": null,
    });
    match &answer.seen {
        None => pictures["radiograph"] = png(model.network.prepare(&radiograph.image).encode()),
        Some(seen) => {
            let sight = &seen.sight;
            pictures["radiograph"] = png(sight.prepared.encode());
            pictures["heat_map"] = png(heat_map(sight, model).layer());
            pictures["heat_frame_px"] = json!([offset, offset, offset + side, offset + side]);
            pictures["box_px"] = edges(sight.bbox);
            pictures["crop"] = png(sight.crop.encode());
        }
    }
    pictures
}
