//! One row per image that a trained model was asked about: `predict --format parquet`.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, StringArray};
use arrow::datatypes::DataType;
use cxr::{Branch, OUTPUTS, output_names};

use crate::Error;
use crate::columns::text;
use crate::schema::{FieldExt, Schema, field};
use crate::sink::Sink;

pub(crate) const TABLE: &str = "answers";
const VERSION: u32 = 1;

/// What a model says about an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The file as it was named, or its name in a table.
    pub image: String,
    /// Why the model should not be asked: a word for programs, a sentence for people.
    pub refused: Option<(String, String)>,
    /// Percentile of the novelty, 0 to 100.
    pub novelty: Option<f32>,
    /// What was seen, unless the image was refused.
    pub seen: Option<Seen>,
}

/// What was seen in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Left, top, right and bottom edge of the attended region in the source image, px.
    pub box_px: [f32; 4],
    /// Probability by branch and output.
    pub probabilities: [[f32; OUTPUTS]; 3],
    /// Calibrated probability of the fusion branch.
    pub calibrated: [f32; OUTPUTS],
    /// Whether an output is called; `None` where there is no threshold.
    pub calls: [Option<bool>; OUTPUTS],
    /// What is said of an output at the error rate that was asked for: `present`, `absent` or `abstain`; `None` where
    /// validation lacks one class.
    pub verdicts: [Option<&'static str>; OUTPUTS],
}

/// Writes the table, in the order given; with the columns of the verdicts where they were asked for.
///
/// # Errors
/// The disk is full.
pub fn write(path: &Path, rows: &[Row], verdicts: bool, stage: &str) -> Result<(), Error> {
    let mut sink = Sink::create(path, schema(verdicts), stage, None)?;
    sink.write_with(|| {
        let strings = |value: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
            Arc::new(rows.iter().map(value).collect::<StringArray>())
        };
        let numbers = |value: &dyn Fn(&Row) -> Option<f32>| -> ArrayRef {
            Arc::new(rows.iter().map(value).collect::<Float32Array>())
        };
        let mut columns = vec![
            text(rows.iter().map(|row| row.image.as_str())),
            strings(&|row| Some(row.refused.as_ref()?.0.clone())),
            strings(&|row| Some(row.refused.as_ref()?.1.clone())),
            numbers(&|row| row.novelty),
        ];
        columns.extend((0..4).map(|edge| numbers(&|row| Some(row.seen.as_ref()?.box_px[edge]))));
        for branch in 0..Branch::ALL.len() {
            let of = |output: usize| numbers(&|row| Some(row.seen.as_ref()?.probabilities[branch][output]));
            columns.extend((0..OUTPUTS).map(of));
        }
        columns.extend((0..OUTPUTS).map(|output| numbers(&|row| Some(row.seen.as_ref()?.calibrated[output]))));
        columns.extend((0..OUTPUTS).map(|output| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.seen.as_ref()?.calls[output]).collect::<BooleanArray>())
        }));
        if verdicts {
            let of = |output: usize| strings(&|row| row.seen.as_ref()?.verdicts[output].map(str::to_owned));
            columns.extend((0..OUTPUTS).map(of));
        }
        Ok(columns)
    })?;
    sink.finish().map(drop)
}

/// The columns; those of the verdicts are the last.
pub(crate) fn schema(verdicts: bool) -> Schema {
    let number = |name: &str, description: &str| field(name, DataType::Float32, description).nullable();
    let mut fields = vec![
        field("image", DataType::Utf8, "the file as it was named, or its name in a table"),
        field("refused", DataType::Utf8, "why the model should not be asked, in a word; null where it may").nullable(),
        field("why", DataType::Utf8, "the same as a sentence").nullable(),
        number("novelty", "share of the validation images that are at most as far from the training images, 0 to 100")
            .unit("percentile"),
        number("x_min_px", "left edge of the attended region in the source image, inclusive").unit("px"),
        number("y_min_px", "top edge, inclusive").unit("px"),
        number("x_max_px", "right edge, exclusive").unit("px"),
        number("y_max_px", "bottom edge, exclusive").unit("px"),
    ];
    for branch in Branch::ALL {
        let of = |name| number(&format!("prob_{branch}_{name}"), &format!("probability of {name} by {branch}"));
        fields.extend(output_names().map(of));
    }
    fields.extend(output_names().map(|name| {
        number(&format!("calibrated_{name}"), &format!("probability of {name} by fusion, calibrated on validation"))
    }));
    fields.extend(output_names().map(|name| {
        let description = format!("whether {name} is called at its threshold from validation");
        field(&format!("call_{name}"), DataType::Boolean, &description).nullable()
    }));
    if verdicts {
        fields.extend(output_names().map(|name| {
            let description =
                format!("with --abstain: present, absent or abstain for {name}; null where validation lacks one class");
            field(&format!("verdict_{name}"), DataType::Utf8, &description).nullable()
        }));
    }
    Schema { table: TABLE, version: VERSION, fields }
}
