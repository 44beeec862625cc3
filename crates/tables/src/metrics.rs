//! One row per branch, finding, metric, subset and split: the results, in long form.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, StringArray, UInt64Array};
use arrow::datatypes::DataType;
use cxr::UnknownName;
use cxr::metrics::Cell;

use crate::Error;
use crate::columns::{read_split, text};
use crate::schema::{FieldExt, Schema, field, split_field};
use crate::sink::Sink;
use crate::source::{Batch, Source};

const TABLE: &str = "metrics";

/// 5: the columns `n_seeds`, `seed_sd` and `seeds_above`. The columns of version 4 are unchanged.
const VERSION: u32 = 5;

/// One number with its interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What the number is; no two rows of a table have the same.
    pub cell: Cell,
    /// The number; `None` where it is undefined.
    pub value: Option<f64>,
    /// Lower end of its interval.
    pub ci_low: Option<f64>,
    /// Upper end of its interval.
    pub ci_high: Option<f64>,
    /// Images with the finding, or boxes.
    pub n_pos: u64,
    /// Images without it.
    pub n_neg: u64,
    /// Images of which that is unknown: the number says nothing about them.
    pub n_unknown: u64,
    /// Draws of the bootstrap in which the number was undefined: left out, or for a mean drawn again.
    pub undefined_draws: u64,
    /// Why there is no value, or no interval.
    pub reason: Option<String>,
    /// Of a mean over several trainings, what their seeds change; `None` for a number of one training.
    pub seeds: Option<Seeds>,
}

/// What the seeds of several trainings change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seeds {
    /// Trainings that the value is the mean of.
    pub count: u64,
    /// Standard deviation of their values, with `count - 1` in the denominator; `None` for one training, and for an
    /// ensemble.
    pub sd: Option<f64>,
    /// Of a difference: in how many of them it is above 0.
    pub above: Option<u64>,
}

/// Writes the table.
///
/// # Errors
/// The disk is full.
pub fn write(path: &Path, rows: &[Row], stage: &str) -> Result<(), Error> {
    let names = |name: fn(&Cell) -> String| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(name(&row.cell))).collect::<StringArray>())
    };
    let maybe =
        |value: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(value).collect::<Float64Array>()) };
    let count =
        |value: fn(&Row) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(rows.iter().map(value))) };
    let mut sink = Sink::create(path, schema(), stage, None)?;
    sink.write_with(|| {
        Ok(vec![
            text(rows.iter().map(|row| row.cell.series.name())),
            text(rows.iter().map(|row| row.cell.scope.name())),
            names(|cell| cell.metric.to_string()),
            names(|cell| cell.subset.to_string()),
            text(rows.iter().map(|row| row.cell.split.name())),
            maybe(|row| row.value),
            maybe(|row| row.ci_low),
            maybe(|row| row.ci_high),
            count(|row| row.n_pos),
            count(|row| row.n_neg),
            count(|row| row.n_unknown),
            count(|row| row.undefined_draws),
            Arc::new(rows.iter().map(|row| row.reason.as_deref()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| Some(row.seeds?.count)).collect::<UInt64Array>()),
            maybe(|row| row.seeds?.sd),
            Arc::new(rows.iter().map(|row| row.seeds?.above).collect::<UInt64Array>()),
        ])
    })?;
    sink.finish().map(drop)
}

/// Reads the table.
///
/// # Errors
/// The file is no `metrics` table or has a value that cannot be, such as an unknown metric.
pub fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut batches = Source::open(path, TABLE, VERSION)?.batches(&schema(), 8192, None)?;
    while let Some(batch) = batches.next()? {
        let split = batch.column::<StringArray>("split")?;
        let value = batch.nullable::<Float64Array>("value")?;
        let ci_low = batch.nullable::<Float64Array>("ci_low")?;
        let ci_high = batch.nullable::<Float64Array>("ci_high")?;
        let n_pos = batch.column::<UInt64Array>("n_pos")?;
        let n_neg = batch.column::<UInt64Array>("n_neg")?;
        let n_unknown = batch.column::<UInt64Array>("n_unknown")?;
        let undefined_draws = batch.column::<UInt64Array>("undefined_draws")?;
        let reason = batch.nullable::<StringArray>("reason")?;
        let n_seeds = batch.nullable::<UInt64Array>("n_seeds")?;
        let seed_sd = batch.nullable::<Float64Array>("seed_sd")?;
        let seeds_above = batch.nullable::<UInt64Array>("seeds_above")?;
        let seeds = |row| {
            let above = seeds_above.is_valid(row).then(|| seeds_above.value(row));
            let sd = seed_sd.is_valid(row).then(|| seed_sd.value(row));
            n_seeds.is_valid(row).then(|| Seeds { count: n_seeds.value(row), sd, above })
        };
        let maybe = |column: &Float64Array, row| column.is_valid(row).then(|| column.value(row));
        for row in 0..batch.len() {
            rows.push(Row {
                cell: Cell {
                    series: name(&batch, "branch", row)?,
                    scope: name(&batch, "finding", row)?,
                    metric: name(&batch, "metric", row)?,
                    subset: name(&batch, "subset", row)?,
                    split: read_split(&batch, split, row)?,
                },
                value: maybe(value, row),
                ci_low: maybe(ci_low, row),
                ci_high: maybe(ci_high, row),
                n_pos: n_pos.value(row),
                n_neg: n_neg.value(row),
                n_unknown: n_unknown.value(row),
                undefined_draws: undefined_draws.value(row),
                reason: reason.is_valid(row).then(|| reason.value(row).to_owned()),
                seeds: seeds(row),
            });
        }
    }
    Ok(rows)
}

/// A text that is one of the known names of its column.
fn name<T: FromStr<Err = UnknownName>>(batch: &Batch, column: &str, row: usize) -> Result<T, Error> {
    let text = batch.column::<StringArray>(column)?.value(row);
    text.parse().map_err(|unknown: UnknownName| {
        batch.value(column, row, &format!("one of {}", unknown.allowed), &format!("{text:?}"))
    })
}

pub(crate) fn schema() -> Schema {
    let fields = vec![
        field(
            "branch",
            DataType::Utf8,
            "global, local, fusion, ensemble (of seeds), peer (imported), nih (labels against experts'), a difference \
             such as fusion-global, ensemble-fusion or global-peer; attend, class_map (boxes)",
        ),
        field("finding", DataType::Utf8, "snake_case; mean is over the 14 findings, all is one number for all of them"),
        field("metric", DataType::Utf8, "auroc, average_precision, ...; docs/reading-the-numbers.md explains each"),
        field(
            "subset",
            DataType::Utf8,
            "all, or the part of the images measured on: sex=F, age=40-59, view=AP, experts, peer=NAME, ...; of a study \
             arm=NAME or arm=NAME-versus-NAME",
        ),
        split_field(),
        field("value", DataType::Float64, "the number; null where undefined").nullable(),
        field("ci_low", DataType::Float64, "lower end of the interval (report.confidence, by patient)").nullable(),
        field("ci_high", DataType::Float64, "upper end of the interval").nullable(),
        field("n_pos", DataType::UInt64, "images with the finding, or boxes").unit("images"),
        field("n_neg", DataType::UInt64, "images without it").unit("images"),
        field("n_unknown", DataType::UInt64, "images of which that is unknown, which are left out").unit("images"),
        field(
            "undefined_draws",
            DataType::UInt64,
            "draws of patients in which the number was undefined: left out, or for a mean drawn again",
        )
        .unit("draws"),
        field("reason", DataType::Utf8, "why the value, or its interval, is null").nullable(),
        field(
            "n_seeds",
            DataType::UInt64,
            "trainings that the value is a mean or an ensemble of; null for one training",
        )
        .nullable(),
        field("seed_sd", DataType::Float64, "standard deviation of the trainings' values").nullable(),
        field("seeds_above", DataType::UInt64, "trainings in which the difference is above 0").nullable(),
    ];
    Schema { table: TABLE, version: VERSION, fields }
}
