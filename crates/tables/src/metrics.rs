//! One row per branch, finding, metric and split: the results, in long form.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, StringArray, UInt64Array};
use arrow::datatypes::DataType;
use cxr::Split;

use crate::columns::{read_split, text};
use crate::schema::{FieldExt, Schema, field, key_fields};
use crate::sink::Sink;
use crate::source::Source;
use crate::{Error, Stamp};

const TABLE: &str = "metrics";
const VERSION: u32 = 1;

/// One number with its interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `global`, `local`, `fusion`, or a difference such as `fusion-global`.
    pub branch: String,
    /// snake_case; `mean` is over the 14.
    pub finding: String,
    /// `auroc`, `average_precision`, ...
    pub metric: String,
    /// Which images.
    pub split: Split,
    /// The number; `None` where it is undefined.
    pub value: Option<f64>,
    /// Lower end of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub ci_high: Option<f64>,
    /// Images with the finding.
    pub n_pos: u64,
    /// Images without it.
    pub n_neg: u64,
}

/// Writes the table.
///
/// # Errors
/// The disk is full.
pub fn write(path: &Path, rows: &[Row], stamp: &Stamp) -> Result<(), Error> {
    let maybe =
        |value: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(value).collect::<Float64Array>()) };
    let count =
        |value: fn(&Row) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(rows.iter().map(value))) };
    let mut sink = Sink::create(path, schema(), stamp)?;
    sink.write_with(|| {
        Ok(vec![
            text(rows.iter().map(|row| row.branch.as_str())),
            text(rows.iter().map(|row| row.finding.as_str())),
            text(rows.iter().map(|row| row.metric.as_str())),
            text(rows.iter().map(|row| row.split.name())),
            maybe(|row| row.value),
            maybe(|row| row.ci_low),
            maybe(|row| row.ci_high),
            count(|row| row.n_pos),
            count(|row| row.n_neg),
        ])
    })?;
    sink.finish().map(drop)
}

/// Reads the table.
///
/// # Errors
/// The file is no `metrics` table or has a value that cannot be.
pub fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut batches = Source::open(path, TABLE, VERSION)?.batches(&schema(), 8192, None)?;
    while let Some(batch) = batches.next()? {
        let branch = batch.column::<StringArray>("branch")?;
        let finding = batch.column::<StringArray>("finding")?;
        let metric = batch.column::<StringArray>("metric")?;
        let split = batch.column::<StringArray>("split")?;
        let value = batch.nullable::<Float64Array>("value")?;
        let ci_low = batch.nullable::<Float64Array>("ci_low")?;
        let ci_high = batch.nullable::<Float64Array>("ci_high")?;
        let n_pos = batch.column::<UInt64Array>("n_pos")?;
        let n_neg = batch.column::<UInt64Array>("n_neg")?;
        let maybe = |column: &Float64Array, row| column.is_valid(row).then(|| column.value(row));
        for row in 0..batch.len() {
            rows.push(Row {
                branch: branch.value(row).to_owned(),
                finding: finding.value(row).to_owned(),
                metric: metric.value(row).to_owned(),
                split: read_split(&batch, split, row)?,
                value: maybe(value, row),
                ci_low: maybe(ci_low, row),
                ci_high: maybe(ci_high, row),
                n_pos: n_pos.value(row),
                n_neg: n_neg.value(row),
            });
        }
    }
    Ok(rows)
}

pub(crate) fn schema() -> Schema {
    let [_, _, split] = key_fields();
    let fields = vec![
        field("branch", DataType::Utf8, "global, local, fusion, or a difference such as fusion-global"),
        field("finding", DataType::Utf8, "snake_case; mean is over the 14 findings"),
        field("metric", DataType::Utf8, "auroc, average_precision, ..."),
        split,
        field("value", DataType::Float64, "the number; null where undefined").nullable(),
        field("ci_low", DataType::Float64, "lower end of the 95 % interval, bootstrap by patient").nullable(),
        field("ci_high", DataType::Float64, "upper end of the 95 % interval, bootstrap by patient").nullable(),
        field("n_pos", DataType::UInt64, "images with the finding").unit("images"),
        field("n_neg", DataType::UInt64, "images without it").unit("images"),
    ];
    Schema { table: TABLE, version: VERSION, fields }
}
