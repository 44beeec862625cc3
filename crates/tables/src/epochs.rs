//! One row per epoch of a training: the learning curve. Timings are in the log and the manifest: two trainings of the same
//! recipe write the same bytes.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, UInt32Array};
use arrow::datatypes::DataType;

use crate::Error;
use crate::schema::{FieldExt, Schema, field};
use crate::sink::Sink;
use crate::source::Source;

const TABLE: &str = "epochs";
const VERSION: u32 = 2;

/// One epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Row {
    /// Counted from 1.
    pub epoch: u32,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    /// Mean loss over the training images, as seen during the epoch.
    pub train_loss: f64,
    /// Mean loss over the validation images after the epoch.
    pub validation_loss: Option<f64>,
    /// Mean AUROC over the findings that validation has both classes of; `None` where there is none.
    pub validation_auroc: Option<f64>,
    /// Whether this epoch's weights were published.
    pub best: bool,
}

/// Writes the table.
///
/// # Errors
/// The disk is full.
pub fn write(path: &Path, rows: &[Row], stage: &str) -> Result<(), Error> {
    let f64s =
        |value: fn(&Row) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(rows.iter().map(value))) };
    let maybe =
        |value: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(value).collect::<Float64Array>()) };
    let mut sink = Sink::create(path, schema(), stage, None)?;
    sink.write_with(|| {
        Ok(vec![
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.epoch))),
            f64s(|row| row.lr),
            f64s(|row| row.train_loss),
            maybe(|row| row.validation_loss),
            maybe(|row| row.validation_auroc),
            Arc::new(rows.iter().map(|row| Some(row.best)).collect::<BooleanArray>()),
        ])
    })?;
    sink.finish().map(drop)
}

/// Reads the table.
///
/// # Errors
/// The file is no `epochs` table or has a value that cannot be.
pub fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut batches = Source::open(path, TABLE, VERSION)?.batches(&schema(), 8192, None)?;
    while let Some(batch) = batches.next()? {
        let epoch = batch.column::<UInt32Array>("epoch")?;
        let lr = batch.column::<Float64Array>("lr")?;
        let train_loss = batch.column::<Float64Array>("train_loss")?;
        let validation_loss = batch.nullable::<Float64Array>("validation_loss")?;
        let validation_auroc = batch.nullable::<Float64Array>("validation_auroc")?;
        let best = batch.column::<BooleanArray>("best")?;
        rows.extend((0..batch.len()).map(|row| Row {
            epoch: epoch.value(row),
            lr: lr.value(row),
            train_loss: train_loss.value(row),
            validation_loss: validation_loss.is_valid(row).then(|| validation_loss.value(row)),
            validation_auroc: validation_auroc.is_valid(row).then(|| validation_auroc.value(row)),
            best: best.value(row),
        }));
    }
    Ok(rows)
}

pub(crate) fn schema() -> Schema {
    let fields = vec![
        field("epoch", DataType::UInt32, "counted from 1"),
        field("lr", DataType::Float64, "learning rate of the last step"),
        field("train_loss", DataType::Float64, "mean loss over the training images during the epoch").unit("nats"),
        field("validation_loss", DataType::Float64, "mean loss over the validation images").unit("nats").nullable(),
        field("validation_auroc", DataType::Float64, "mean over the findings; null where undefined").nullable(),
        field("best", DataType::Boolean, "whether this epoch's weights were published"),
    ];
    Schema { table: TABLE, version: VERSION, fields }
}
