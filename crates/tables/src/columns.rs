//! Columns that several tables have: keys, f32 lists, images.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, StringArray, StructArray, UInt32Array,
};
use arrow::error::ArrowError;
use cxr::{Finding, ImageKey, Labels, OUTPUTS, Split, output_names};

use crate::Error;
use crate::schema::{f32_item, image_fields};
use crate::source::Batch;

pub(crate) fn text<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

pub(crate) fn f32_column(values: impl Iterator<Item = f32>) -> ArrayRef {
    Arc::new(Float32Array::from_iter_values(values))
}

/// `[rows, len]`, row-major.
pub(crate) fn f32_lists(values: Vec<f32>, len: usize) -> Result<ArrayRef, ArrowError> {
    let len = i32::try_from(len).map_err(|_| ArrowError::InvalidArgumentError(format!("a list of {len} values")))?;
    Ok(Arc::new(FixedSizeListArray::try_new(f32_item(), len, Arc::new(Float32Array::from(values)), None)?))
}

/// The values of all rows' lists, `[rows, len]` row-major, all of them finite.
pub(crate) fn read_f32_lists<'a>(batch: &'a Batch, column: &str) -> Result<&'a [f32], Error> {
    let lists = batch.column::<FixedSizeListArray>(column)?;
    let len = usize::try_from(lists.value_length()).unwrap_or(0);
    let values: &Float32Array = batch.child(column, Some(lists.values().as_ref()))?;
    let values = values.values();
    finite(values)
        .map_err(|(index, value)| batch.value(column, index / len.max(1), "finite numbers", &value.to_string()))?;
    Ok(values)
}

/// Index and value of the first number that is not finite.
pub(crate) fn finite(values: &[f32]) -> Result<(), (usize, f32)> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err((index, values[index])),
        None => Ok(()),
    }
}

/// `struct<bytes, path>`.
pub(crate) fn images<'a>(rows: impl Iterator<Item = (&'a [u8], &'a str)> + Clone) -> Result<ArrayRef, ArrowError> {
    let bytes = Arc::new(BinaryArray::from_iter_values(rows.clone().map(|(bytes, _)| bytes)));
    let paths = text(rows.map(|(_, path)| path));
    Ok(Arc::new(StructArray::try_new(image_fields(), vec![bytes, paths], None)?))
}

/// The images of a batch; `bytes` is `None` where they were left out.
pub(crate) struct Images<'a> {
    bytes: Option<&'a BinaryArray>,
    paths: &'a StringArray,
}

impl<'a> Images<'a> {
    pub(crate) fn of(batch: &'a Batch, column: &str) -> Result<Self, Error> {
        let images = batch.column::<StructArray>(column)?;
        let child = |name| images.column_by_name(name).map(|array| array.as_ref());
        let bytes = match child("bytes") {
            None => None,
            bytes => Some(batch.child(&format!("{column}.bytes"), bytes)?),
        };
        Ok(Images { bytes, paths: batch.child(&format!("{column}.path"), child("path"))? })
    }

    pub(crate) fn bytes(&self, row: usize) -> Vec<u8> {
        self.bytes.map_or(Vec::new(), |bytes| bytes.value(row).to_vec())
    }

    pub(crate) fn path(&self, row: usize) -> String {
        self.paths.value(row).to_owned()
    }
}

/// The columns of [`key_fields`](crate::schema::key_fields).
pub(crate) fn keys(keys: &[ImageKey]) -> Vec<ArrayRef> {
    let mut columns = vec![
        text(keys.iter().map(|key| key.image_id.as_str())),
        Arc::new(UInt32Array::from_iter_values(keys.iter().map(|key| key.patient_id))),
        text(keys.iter().map(|key| key.split.name())),
    ];
    columns.extend((0..OUTPUTS).map(|output| -> ArrayRef {
        Arc::new(keys.iter().map(|key| key.labels.outputs()[output]).collect::<BooleanArray>())
    }));
    columns
}

/// Reads the key columns; `label_no_finding` must say what follows from the other 14.
pub(crate) fn read_keys(batch: &Batch) -> Result<Vec<ImageKey>, Error> {
    let image_id = batch.column::<StringArray>("image_id")?;
    let patient_id = batch.column::<UInt32Array>("patient_id")?;
    let split = batch.column::<StringArray>("split")?;
    let labels = read_labels(batch)?;
    let key = |(row, labels)| {
        let split = read_split(batch, split, row)?;
        Ok(ImageKey { image_id: image_id.value(row).to_owned(), patient_id: patient_id.value(row), split, labels })
    };
    labels.into_iter().enumerate().map(key).collect()
}

fn read_labels(batch: &Batch) -> Result<Vec<Labels>, Error> {
    let mut labels = vec![Labels::default(); batch.len()];
    for finding in Finding::ALL {
        let column = batch.nullable::<BooleanArray>(&format!("label_{}", finding.snake()))?;
        for (row, labels) in labels.iter_mut().enumerate() {
            labels.set(finding, known(column, row));
        }
    }
    let name = format!("label_{}", output_names()[OUTPUTS - 1]);
    let no_finding = batch.nullable::<BooleanArray>(&name)?;
    let said = |value: Option<bool>| value.map_or("null".to_owned(), |value| value.to_string());
    for (row, labels) in labels.iter().enumerate() {
        if known(no_finding, row) != labels.no_finding() {
            let expected = format!("{} beside the labels {labels}", said(labels.no_finding()));
            return Err(batch.value(&name, row, &expected, &said(known(no_finding, row))));
        }
    }
    Ok(labels)
}

/// A value; `None` where it is null.
fn known(column: &BooleanArray, row: usize) -> Option<bool> {
    column.is_valid(row).then(|| column.value(row))
}

pub(crate) fn read_split(batch: &Batch, column: &StringArray, row: usize) -> Result<Split, Error> {
    batch.parse("split", row, column.value(row), "train, validation or test")
}
