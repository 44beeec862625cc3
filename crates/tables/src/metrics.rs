//! One row per branch, finding, metric, subset and split: the results, in long form.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, StringArray, UInt64Array};
use arrow::datatypes::DataType;
use cxr::Split;

use crate::Error;
use crate::columns::{read_split, text};
use crate::schema::{FieldExt, Schema, field, split_field};
use crate::sink::Sink;
use crate::source::Source;

const TABLE: &str = "metrics";
const VERSION: u32 = 2;

/// One number with its interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `global`, `local`, `fusion`, or a difference such as `fusion-global`.
    pub branch: String,
    /// snake_case; `mean` is over the 14.
    pub finding: String,
    /// `auroc`, `average_precision`, ...
    pub metric: String,
    /// `all`, or a part of the images such as `sex=F`.
    pub subset: String,
    /// Which images.
    pub split: Split,
    /// The number; `None` where it is undefined.
    pub value: Option<f64>,
    /// Lower end of its interval.
    pub ci_low: Option<f64>,
    /// Upper end of its interval.
    pub ci_high: Option<f64>,
    /// Images with the finding.
    pub n_pos: u64,
    /// Images without it.
    pub n_neg: u64,
    /// Why there is no value, or no interval.
    pub reason: Option<String>,
}

/// Writes the table.
///
/// # Errors
/// The disk is full.
pub fn write(path: &Path, rows: &[Row], stage: &str) -> Result<(), Error> {
    let maybe =
        |value: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(value).collect::<Float64Array>()) };
    let count =
        |value: fn(&Row) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(rows.iter().map(value))) };
    let mut sink = Sink::create(path, schema(), stage, None)?;
    sink.write_with(|| {
        Ok(vec![
            text(rows.iter().map(|row| row.branch.as_str())),
            text(rows.iter().map(|row| row.finding.as_str())),
            text(rows.iter().map(|row| row.metric.as_str())),
            text(rows.iter().map(|row| row.subset.as_str())),
            text(rows.iter().map(|row| row.split.name())),
            maybe(|row| row.value),
            maybe(|row| row.ci_low),
            maybe(|row| row.ci_high),
            count(|row| row.n_pos),
            count(|row| row.n_neg),
            Arc::new(rows.iter().map(|row| row.reason.as_deref()).collect::<StringArray>()),
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
        let subset = batch.column::<StringArray>("subset")?;
        let split = batch.column::<StringArray>("split")?;
        let value = batch.nullable::<Float64Array>("value")?;
        let ci_low = batch.nullable::<Float64Array>("ci_low")?;
        let ci_high = batch.nullable::<Float64Array>("ci_high")?;
        let n_pos = batch.column::<UInt64Array>("n_pos")?;
        let n_neg = batch.column::<UInt64Array>("n_neg")?;
        let reason = batch.nullable::<StringArray>("reason")?;
        let maybe = |column: &Float64Array, row| column.is_valid(row).then(|| column.value(row));
        for row in 0..batch.len() {
            rows.push(Row {
                branch: branch.value(row).to_owned(),
                finding: finding.value(row).to_owned(),
                metric: metric.value(row).to_owned(),
                subset: subset.value(row).to_owned(),
                split: read_split(&batch, split, row)?,
                value: maybe(value, row),
                ci_low: maybe(ci_low, row),
                ci_high: maybe(ci_high, row),
                n_pos: n_pos.value(row),
                n_neg: n_neg.value(row),
                reason: reason.is_valid(row).then(|| reason.value(row).to_owned()),
            });
        }
    }
    Ok(rows)
}

pub(crate) fn schema() -> Schema {
    let fields = vec![
        field("branch", DataType::Utf8, "global, local, fusion, a difference such as fusion-global, or attend (boxes)"),
        field("finding", DataType::Utf8, "snake_case; mean is over the 14 findings, all is one number for all of them"),
        field("metric", DataType::Utf8, "auroc, average_precision, ...; docs/reading-the-numbers.md explains each"),
        field("subset", DataType::Utf8, "all, or the part of the images measured on: sex=F, age=40-59, view=AP, ..."),
        split_field(),
        field("value", DataType::Float64, "the number; null where undefined").nullable(),
        field("ci_low", DataType::Float64, "lower end of the interval (report.confidence, by patient)").nullable(),
        field("ci_high", DataType::Float64, "upper end of the interval").nullable(),
        field("n_pos", DataType::UInt64, "images with the finding, or boxes").unit("images"),
        field("n_neg", DataType::UInt64, "images without it").unit("images"),
        field("reason", DataType::Utf8, "why the value, or its interval, is null").nullable(),
    ];
    Schema { table: TABLE, version: VERSION, fields }
}
