//! One row per image: what a branch says about each of the 15 outputs, beside the labels.

use std::path::Path;

use arrow::array::Float32Array;
use arrow::datatypes::DataType;
use cxr::{ImageKey, OUTPUTS, output_names};

use crate::Error;
use crate::columns::{f32_column, finite, keys, read_keys};
use crate::schema::{Schema, field, key_fields};
use crate::sink::Sink;
use crate::source::Source;

const TABLE: &str = "predictions";
const VERSION: u32 = 2;

/// One image's scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whose image it is, and what it shows.
    pub key: ImageKey,
    /// Scores before the sigmoid, in output order. The file has the probabilities too.
    pub logits: [f32; OUTPUTS],
}

/// Writes the table.
///
/// # Errors
/// A logit is not finite; ids are not sorted and unique; the disk is full.
pub fn write(path: &Path, rows: &[Row], stage: &str) -> Result<(), Error> {
    let mut sink = Sink::create(path, schema(), stage, None)?;
    sink.all_ids(rows.iter().map(|row| row.key.image_id.as_str()))?;
    for (index, row) in rows.iter().enumerate() {
        finite(&row.logits).map_err(|(output, value)| {
            sink.value(&format!("logit_{}", output_names()[output]), index, "a finite number", &value.to_string())
        })?;
    }
    sink.write_with(|| {
        let mut columns = keys(&rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>());
        columns.extend((0..OUTPUTS).map(|output| f32_column(rows.iter().map(|row| row.logits[output]))));
        columns.extend((0..OUTPUTS).map(|output| f32_column(rows.iter().map(|row| sigmoid(row.logits[output])))));
        Ok(columns)
    })?;
    sink.finish().map(drop)
}

/// Reads the table; probabilities follow from the logits and are not read.
///
/// # Errors
/// The file is no `predictions` table or has a value that cannot be.
pub fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut batches = Source::open(path, TABLE, VERSION)?.batches(&schema(), 8192, None)?;
    while let Some(batch) = batches.next_images()? {
        let mut logits = vec![[0.0; OUTPUTS]; batch.len()];
        for (output, name) in output_names().into_iter().enumerate() {
            let name = format!("logit_{name}");
            let column = batch.column::<Float32Array>(&name)?.values();
            finite(column).map_err(|(row, value)| batch.value(&name, row, "a finite number", &value.to_string()))?;
            for (logits, &value) in logits.iter_mut().zip(column) {
                logits[output] = value;
            }
        }
        rows.extend(read_keys(&batch)?.into_iter().zip(logits).map(|(key, logits)| Row { key, logits }));
    }
    Ok(rows)
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

pub(crate) fn schema() -> Schema {
    let score = |prefix: &str, what: &str, name: &str| {
        field(&format!("{prefix}_{name}"), DataType::Float32, &format!("{what} of {name}"))
    };
    let fields = (key_fields().into_iter())
        .chain(output_names().map(|name| score("logit", "score before the sigmoid", name)))
        .chain(output_names().map(|name| score("prob", "predicted probability (not calibrated)", name)))
        .collect();
    Schema { table: TABLE, version: VERSION, fields }
}
