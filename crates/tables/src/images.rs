//! One row per image: whose it is, what it shows, and the picture itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, ListArray, StringArray, StructArray, UInt16Array, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use cxr::{BBox, Finding, FindingBox, ImageRecord, Labels, Sex, Split, View};

use crate::columns::{Pictures, f32_column, labels, pictures, read_labels, read_split, text};
use crate::schema::{FieldExt, Schema, field, key_fields, label_fields, picture_type};
use crate::sink::Sink;
use crate::source::{Batch, Source, split_rows};
use crate::{Error, Stamp};

const TABLE: &str = "images";
const VERSION: u32 = 1;

/// A row group ends at this many rows or bytes of pictures: a reader holds one at most.
pub(crate) const ROWS_PER_GROUP: usize = 512;
pub(crate) const BYTES_PER_GROUP: usize = 64 << 20;
/// Rows handed on at a time when pictures are read.
pub(crate) const ROWS_PER_BATCH: usize = 64;

/// One image.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// NIH's table row.
    pub record: ImageRecord,
    /// What the image may be used for.
    pub split: Split,
    /// The picture: bytes of an 8-bit grey PNG of `height_px` x `width_px`. Empty from [`read_meta`].
    pub png: Vec<u8>,
    /// The original file, relative to `prep.root`, e.g. `images_001/images/00000001_000.png`.
    pub path: String,
    /// Width of the stored picture, pixels.
    pub width_px: u32,
    /// Height of the stored picture, pixels.
    pub height_px: u32,
    /// Width of the original file, pixels.
    pub source_width_px: u32,
    /// Height of the original file, pixels.
    pub source_height_px: u32,
    /// Boxes drawn around findings, in the frame of the stored picture.
    pub boxes: Vec<FindingBox>,
}

/// Writes one file, sorted by `image_id`.
pub struct Writer {
    sink: Sink,
    rows: Vec<Row>,
    bytes: usize,
}

impl Writer {
    /// Creates `<split>-<shard>-of-<shards>.parquet` in `dir`; shards count from 0.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(dir: &Path, split: Split, shard: usize, shards: usize, stamp: &Stamp) -> Result<Self, Error> {
        let path = dir.join(format!("{split}-{shard:05}-of-{shards:05}.parquet"));
        Ok(Writer { sink: Sink::create(&path, schema(), stamp)?, rows: Vec::new(), bytes: 0 })
    }

    /// Appends a row; rows are kept until a row group is full.
    ///
    /// # Errors
    /// `image_id` does not come after the one before; the disk is full.
    pub fn write(&mut self, row: &Row) -> Result<(), Error> {
        self.sink.next_id(self.rows.len(), &row.record.image_id)?;
        self.bytes += row.png.len();
        self.rows.push(row.clone());
        if self.rows.len() >= ROWS_PER_GROUP || self.bytes >= BYTES_PER_GROUP {
            self.flush()?;
        }
        Ok(())
    }

    /// Completes and syncs the file; returns the number of rows.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.flush()?;
        self.sink.finish()
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.rows.is_empty() {
            self.sink.write_with(|| columns(&self.rows))?;
        }
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// The number of rows of each split, in the order of [`Split::ALL`].
///
/// # Errors
/// A file that is no such table.
pub fn rows(files: &[PathBuf]) -> Result<[usize; 3], Error> {
    split_rows(files, TABLE, VERSION)
}

/// Reads all rows with their pictures, file by file; at most one row group is in memory.
///
/// # Errors
/// What `each` returns; a file that is no `images` table or has a value that cannot be.
pub fn read<E: From<Error>>(files: &[PathBuf], mut each: impl FnMut(Row) -> Result<(), E>) -> Result<(), E> {
    for path in files {
        read_file(path, ROWS_PER_BATCH, None, &mut each)?;
    }
    Ok(())
}

/// Reads all rows without their pictures, whose bytes are not even read from disk.
///
/// # Errors
/// As [`read`].
pub fn read_meta(files: &[PathBuf]) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for path in files {
        read_file(path, 8192, Some("image.bytes"), &mut |row| -> Result<(), Error> {
            rows.push(row);
            Ok(())
        })?;
    }
    Ok(rows)
}

fn read_file<E: From<Error>>(
    path: &Path,
    rows: usize,
    without: Option<&str>,
    each: &mut impl FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut batches = Source::open(path, TABLE, VERSION)?.batches(&schema(), rows, without)?;
    while let Some(batch) = batches.next_images()? {
        for row in read_batch(&batch)? {
            each(row)?;
        }
    }
    Ok(())
}

pub(crate) fn schema() -> Schema {
    let [image_id, patient_id, split] = key_fields();
    let mut fields = vec![
        image_id,
        patient_id,
        split,
        field("follow_up", DataType::UInt32, "NIH's Follow-up #"),
        field("age_years", DataType::UInt16, "the patient's age; null where the source is impossible")
            .unit("years")
            .nullable(),
        field("sex", DataType::Utf8, "F or M; null where not recorded").nullable(),
        field("view", DataType::Utf8, "view position, AP or PA; null where not recorded").nullable(),
        field("findings", DataType::List(item(DataType::Utf8)), "NIH's names of the findings; empty for No Finding"),
    ];
    fields.extend(label_fields());
    fields.extend([
        field("image", picture_type(), "8-bit grey PNG, and the original file relative to prep.root").nullable(),
        field("width_px", DataType::UInt32, "width of the stored picture").unit("px"),
        field("height_px", DataType::UInt32, "height of the stored picture").unit("px"),
        field("source_width_px", DataType::UInt32, "width of the original file").unit("px"),
        field("source_height_px", DataType::UInt32, "height of the original file").unit("px"),
        field("boxes", DataType::List(item(box_type())), "boxes around findings, half-open, in the stored frame")
            .unit("px"),
    ]);
    Schema { table: TABLE, version: VERSION, fields }
}

fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, false))
}

const EDGES: [&str; 4] = ["x_min_px", "y_min_px", "x_max_px", "y_max_px"];

fn box_fields() -> Fields {
    let edges = EDGES.map(|name| Field::new(name, DataType::Float32, false));
    [Field::new("finding", DataType::Utf8, false)].into_iter().chain(edges).collect()
}

fn box_type() -> DataType {
    DataType::Struct(box_fields())
}

fn columns(rows: &[Row]) -> Result<Vec<ArrayRef>, ArrowError> {
    let u32s = |value: fn(&Row) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(value))) };
    let mut columns = vec![
        text(rows.iter().map(|row| row.record.image_id.as_str())),
        u32s(|row| row.record.patient_id),
        text(rows.iter().map(|row| row.split.name())),
        u32s(|row| row.record.follow_up),
        Arc::new(rows.iter().map(|row| row.record.age_years).collect::<UInt16Array>()),
        Arc::new(rows.iter().map(|row| row.record.sex.map(Sex::name)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.record.view.map(View::name)).collect::<StringArray>()),
        finding_lists(rows)?,
    ];
    columns.extend(labels(rows.iter().map(|row| row.record.labels)));
    columns.extend([
        pictures(rows.iter().map(|row| (row.png.as_slice(), row.path.as_str())))?,
        u32s(|row| row.width_px),
        u32s(|row| row.height_px),
        u32s(|row| row.source_width_px),
        u32s(|row| row.source_height_px),
        box_lists(rows)?,
    ]);
    Ok(columns)
}

fn finding_lists(rows: &[Row]) -> Result<ArrayRef, ArrowError> {
    let lengths = OffsetBuffer::from_lengths(rows.iter().map(|row| row.record.labels.findings().count()));
    let names = text(rows.iter().flat_map(|row| row.record.labels.findings()).map(Finding::name));
    Ok(Arc::new(ListArray::try_new(item(DataType::Utf8), lengths, names, None)?))
}

fn box_lists(rows: &[Row]) -> Result<ArrayRef, ArrowError> {
    let boxes = || rows.iter().flat_map(|row| &row.boxes);
    let children = vec![
        text(boxes().map(|drawn| drawn.finding.name())),
        f32_column(boxes().map(|drawn| drawn.bbox.x_min)),
        f32_column(boxes().map(|drawn| drawn.bbox.y_min)),
        f32_column(boxes().map(|drawn| drawn.bbox.x_max)),
        f32_column(boxes().map(|drawn| drawn.bbox.y_max)),
    ];
    let lengths = OffsetBuffer::from_lengths(rows.iter().map(|row| row.boxes.len()));
    let boxes = StructArray::try_new(box_fields(), children, None)?;
    Ok(Arc::new(ListArray::try_new(item(box_type()), lengths, Arc::new(boxes), None)?))
}

fn read_batch(batch: &Batch) -> Result<Vec<Row>, Error> {
    let image_id = batch.column::<StringArray>("image_id")?;
    let patient_id = batch.column::<UInt32Array>("patient_id")?;
    let split = batch.column::<StringArray>("split")?;
    let follow_up = batch.column::<UInt32Array>("follow_up")?;
    let age_years = batch.nullable::<UInt16Array>("age_years")?;
    let sex = batch.nullable::<StringArray>("sex")?;
    let view = batch.nullable::<StringArray>("view")?;
    let findings = batch.column::<ListArray>("findings")?;
    let labels = read_labels(batch)?;
    let image = Pictures::of(batch, "image")?;
    let width_px = batch.column::<UInt32Array>("width_px")?;
    let height_px = batch.column::<UInt32Array>("height_px")?;
    let source_width_px = batch.column::<UInt32Array>("source_width_px")?;
    let source_height_px = batch.column::<UInt32Array>("source_height_px")?;
    let boxes = batch.column::<ListArray>("boxes")?;

    (0..batch.len())
        .map(|row| {
            let listed = read_findings(batch, findings, row)?;
            if listed != labels[row] {
                return Err(batch.value(
                    "findings",
                    row,
                    &format!("{} as in label_*", labels[row]),
                    &listed.to_string(),
                ));
            }
            Ok(Row {
                record: ImageRecord {
                    image_id: image_id.value(row).to_owned(),
                    patient_id: patient_id.value(row),
                    follow_up: follow_up.value(row),
                    age_years: age_years.is_valid(row).then(|| age_years.value(row)),
                    sex: one_of(batch, "sex", sex, row, &[Sex::Female, Sex::Male], Sex::name)?,
                    view: one_of(batch, "view", view, row, &[View::Ap, View::Pa], View::name)?,
                    labels: labels[row],
                },
                split: read_split(batch, split, row)?,
                png: image.bytes(row),
                path: image.path(row),
                width_px: width_px.value(row),
                height_px: height_px.value(row),
                source_width_px: source_width_px.value(row),
                source_height_px: source_height_px.value(row),
                boxes: read_boxes(batch, boxes, row)?,
            })
        })
        .collect()
}

fn one_of<T: Copy>(
    batch: &Batch,
    column: &str,
    values: &StringArray,
    row: usize,
    allowed: &[T],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, Error> {
    if values.is_null(row) {
        return Ok(None);
    }
    let found = allowed.iter().copied().find(|&value| name(value) == values.value(row));
    found.map(Some).ok_or_else(|| {
        let expected: Vec<&str> = allowed.iter().map(|&value| name(value)).collect();
        batch.value(column, row, &expected.join(" or "), &format!("{:?}", values.value(row)))
    })
}

const A_FINDING: &str = "one of the 14 findings in NIH's spelling";

fn read_findings(batch: &Batch, lists: &ListArray, row: usize) -> Result<Labels, Error> {
    let names = lists.value(row);
    let names: &StringArray = batch.child("findings", Some(names.as_ref()))?;
    (0..names.len()).map(|index| batch.parse("findings", row, names.value(index), A_FINDING)).collect()
}

fn read_boxes(batch: &Batch, lists: &ListArray, row: usize) -> Result<Vec<FindingBox>, Error> {
    let boxes = lists.value(row);
    let boxes: &StructArray = batch.child("boxes", Some(boxes.as_ref()))?;
    let child = |name: &str| boxes.column_by_name(name).map(|array| array.as_ref());
    let findings: &StringArray = batch.child("boxes.finding", child("finding"))?;
    let mut edges = Vec::with_capacity(EDGES.len());
    for name in EDGES {
        edges.push(batch.child::<Float32Array>(&format!("boxes.{name}"), child(name))?);
    }
    (0..boxes.len())
        .map(|index| {
            let [x_min, y_min, x_max, y_max] = [0, 1, 2, 3].map(|edge| edges[edge].value(index));
            Ok(FindingBox {
                finding: batch.parse("boxes.finding", row, findings.value(index), A_FINDING)?,
                bbox: BBox::new(x_min, y_min, x_max, y_max),
            })
        })
        .collect()
}
