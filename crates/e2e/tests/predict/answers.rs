//! Answers as they are read from each format, and what they have to equal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, BooleanArray, Float32Array, RecordBatch, StringArray};
use cxr::{Branch, Split, output_names};
use e2e::Pipeline;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// What is said of an image; the same from every format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) image: String,
    pub(crate) refused: Option<String>,
    pub(crate) novelty: Option<f32>,
    pub(crate) box_px: Vec<Option<f32>>,
    /// Of global, local and fusion, 15 each.
    pub(crate) probabilities: Vec<Option<f32>>,
    pub(crate) calibrated: Vec<Option<f32>>,
    pub(crate) calls: Vec<Option<bool>>,
    /// Nothing where none were asked for.
    pub(crate) verdicts: Vec<Option<String>>,
}

const EDGES: [&str; 4] = ["x_min_px", "y_min_px", "x_max_px", "y_max_px"];

/// The 15 columns whose names begin with this.
fn columns(prefix: &str) -> Vec<String> {
    output_names().map(|name| format!("{prefix}{name}")).into()
}

fn probability_columns() -> Vec<String> {
    Branch::ALL.into_iter().flat_map(|branch| columns(&format!("prob_{branch}_"))).collect()
}

/// From lines of JSON.
pub(crate) fn of_json(text: &str) -> Vec<Answer> {
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap();
            let number = |value: &Value| value.as_f64().map(|number| number as f32);
            let each = |value: &Value| output_names().map(|name| value[name].clone()).to_vec();
            let numbers = |value: &Value| each(value).iter().map(number).collect::<Vec<_>>();
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let verdicts =
                value.get("verdicts").map_or(Vec::new(), |verdicts| each(verdicts).iter().map(text).collect());
            Answer {
                image: text(&value["image"]).unwrap(),
                refused: text(&value["refused"]["reason"]),
                novelty: number(&value["novelty"]),
                box_px: (0..4).map(|edge| number(&value["box_px"][edge])).collect(),
                probabilities: Branch::ALL.iter().flat_map(|b| numbers(&value["probabilities"][b.name()])).collect(),
                calibrated: numbers(&value["calibrated"]),
                calls: each(&value["calls"]).iter().map(Value::as_bool).collect(),
                verdicts,
            }
        })
        .collect()
}

/// From CSV.
pub(crate) fn of_csv(text: &str) -> Vec<Answer> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows = reader.records().map(|row| {
        let row = row.unwrap();
        let cells: BTreeMap<&str, &str> = header.iter().zip(&row).collect();
        let text = |name: &str| Some(cells[name].to_owned()).filter(|cell| !cell.is_empty());
        let number = |name: &str| text(name).map(|cell| cell.parse().unwrap());
        let numbers = |names: Vec<String>| names.iter().map(|name| number(name)).collect();
        let call = |cell: String| ["0", "1"].iter().position(|known| cell == *known).unwrap() == 1;
        let verdicts = columns("verdict_").into_iter().filter(|name| cells.contains_key(name.as_str()));
        Answer {
            image: text("image").unwrap(),
            refused: text("refused"),
            novelty: number("novelty"),
            box_px: EDGES.map(number).to_vec(),
            probabilities: numbers(probability_columns()),
            calibrated: numbers(columns("calibrated_")),
            calls: columns("call_").iter().map(|name| text(name).map(call)).collect(),
            verdicts: verdicts.map(|name| text(&name)).collect(),
        }
    });
    rows.collect()
}

/// From a Parquet table.
pub(crate) fn of_parquet(path: &Path) -> Vec<Answer> {
    let batches = batches(path);
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    rows.map(|(batch, row)| {
        let text = |name: &str| {
            let array = column::<StringArray>(batch, name)?;
            array.is_valid(row).then(|| array.value(row).to_owned())
        };
        let number = |name: &str| {
            let array = column::<Float32Array>(batch, name).unwrap();
            array.is_valid(row).then(|| array.value(row))
        };
        let call = |name: &String| {
            let array = column::<BooleanArray>(batch, name).unwrap();
            array.is_valid(row).then(|| array.value(row))
        };
        let verdicts = columns("verdict_").into_iter().filter(|name| batch.column_by_name(name).is_some());
        Answer {
            image: text("image").unwrap(),
            refused: text("refused"),
            novelty: number("novelty"),
            box_px: EDGES.map(number).to_vec(),
            probabilities: probability_columns().iter().map(|name| number(name)).collect(),
            calibrated: columns("calibrated_").iter().map(|name| number(name)).collect(),
            calls: columns("call_").iter().map(call).collect(),
            verdicts: verdicts.map(|name| text(&name)).collect(),
        }
    })
    .collect()
}

fn batches(path: &Path) -> Vec<RecordBatch> {
    let (file, _) = fs_err::File::open(path).unwrap().into_parts();
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect()
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Option<&'a T> {
    batch.column_by_name(name)?.as_any().downcast_ref()
}

/// What the stages of the run `default` published for a test image.
pub(crate) struct Published {
    /// The image's file in the synthetic dataset.
    pub(crate) path: PathBuf,
    /// Columns `prob_*` of global, local and fusion.
    pub(crate) probabilities: Vec<Option<f32>>,
    /// attend's region, in an image of 128 x 128 px.
    pub(crate) box_px: Vec<Option<f32>>,
}

/// All test images by their `image_id`.
pub(crate) fn published(pipeline: &Pipeline) -> BTreeMap<String, Published> {
    let images = pipeline.published("default", "phantom").join("images_001/images");
    let regions = pipeline.published("default", "attend");
    let names = e2e::contents(&regions).into_keys().filter(|name| name.to_string_lossy().starts_with("regions-"));
    let files = names.map(|name| regions.join(name)).collect::<Vec<_>>();
    let mut found: BTreeMap<String, Published> = tables::regions::read_meta(&files)
        .unwrap()
        .into_iter()
        .filter(|row| row.key.split == Split::Test)
        .map(|row| {
            let scaled = |edge: f32| Some((f64::from(edge) * (128.0 / 48.0)) as f32);
            let bbox = row.bbox;
            let box_px = [bbox.x_min, bbox.y_min, bbox.x_max, bbox.y_max].map(scaled).to_vec();
            let path = images.join(&row.key.image_id);
            (row.key.image_id, Published { path, probabilities: Vec::new(), box_px })
        })
        .collect();
    for branch in Branch::ALL {
        for batch in batches(&pipeline.published("default", branch.name()).join("predictions.parquet")) {
            let ids: &StringArray = column(&batch, "image_id").unwrap();
            for row in 0..batch.num_rows() {
                if let Some(published) = found.get_mut(ids.value(row)) {
                    let cell = |name: &String| Some(column::<Float32Array>(&batch, name).unwrap().value(row));
                    published.probabilities.extend(columns("prob_").iter().map(cell));
                }
            }
        }
    }
    assert!(found.len() > 15 && found.values().all(|published| published.probabilities.len() == 45));
    found
}
