//! One row per image that radiologists read again: what they say, beside NIH's labels and never in their place.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray};
use arrow::datatypes::DataType;
use cxr::{Expert, ExpertLabels};

use crate::Error;
use crate::columns::text;
use crate::schema::{FieldExt, Schema, field, image_id_field};
use crate::sink::Sink;
use crate::source::Source;

const TABLE: &str = "experts";
const VERSION: u32 = 1;

/// What experts say of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// NIH's `Image Index`.
    pub image_id: String,
    /// The four findings; `None` where nobody looked for it.
    pub labels: ExpertLabels,
}

/// Writes the table.
///
/// # Errors
/// Ids are not sorted and unique; the disk is full.
pub fn write(path: &Path, rows: &[Row], stage: &str) -> Result<(), Error> {
    let mut sink = Sink::create(path, schema(), stage, None)?;
    sink.all_ids(rows.iter().map(|row| row.image_id.as_str()))?;
    sink.write_with(|| {
        let mut columns = vec![text(rows.iter().map(|row| row.image_id.as_str()))];
        columns.extend(Expert::ALL.map(|expert| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.labels[expert.index()]).collect::<BooleanArray>())
        }));
        Ok(columns)
    })?;
    sink.finish().map(drop)
}

/// Reads the table.
///
/// # Errors
/// The file is no `experts` table or has a value that cannot be.
pub fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut batches = Source::open(path, TABLE, VERSION)?.batches(&schema(), 8192, None)?;
    while let Some(batch) = batches.next_images()? {
        let ids = batch.column::<StringArray>("image_id")?;
        let mut labels = vec![ExpertLabels::default(); batch.len()];
        for expert in Expert::ALL {
            let column = batch.nullable::<BooleanArray>(&name(expert))?;
            for (row, labels) in labels.iter_mut().enumerate() {
                labels[expert.index()] = column.is_valid(row).then(|| column.value(row));
            }
        }
        let row = |(row, labels)| Row { image_id: ids.value(row).to_owned(), labels };
        rows.extend(labels.into_iter().enumerate().map(row));
    }
    Ok(rows)
}

fn name(expert: Expert) -> String {
    format!("expert_{expert}")
}

pub(crate) fn schema() -> Schema {
    let label = |expert: Expert| {
        let what = format!("whether radiologists see {expert}; null where nobody looked for it");
        field(&name(expert), DataType::Boolean, &what).nullable()
    };
    let fields = std::iter::once(image_id_field()).chain(Expert::ALL.map(label)).collect();
    Schema { table: TABLE, version: VERSION, fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("experts.parquet");
        let rows = [
            Row { image_id: "a.png".into(), labels: [Some(true), Some(false), None, Some(true)] },
            Row { image_id: "b.png".into(), labels: [None; 4] },
        ];
        write(&path, &rows, "prep").unwrap();
        assert_eq!(read(&path).unwrap(), rows);
        let twice = [rows[0].clone(), rows[0].clone()];
        assert!(write(&path, &twice, "prep").unwrap_err().to_string().contains("sorted, unique"));
    }
}
