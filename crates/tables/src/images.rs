//! One row per image: whose it is, what it shows, and the image itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, ListArray, StringArray, StructArray, UInt16Array, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use cxr::{BBox, DatasetKind, Finding, FindingBox, ImageKey, ImageRecord, Labels, Sex, Split, SplitKind, ViewPosition};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::columns::{Images, f32_column, images, keys, read_keys, text};
use crate::schema::{FieldExt, Schema, field, image_type, key_fields};
use crate::shards::{self, Wrong};
use crate::source::Batch;

/// What holds for all images; other stages learn it here and not from prep's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Side of the stored images, px.
    pub size_px: u32,
    /// Factor on every grey value's distance from the image's mean that prep applied; 1 is none.
    pub contrast: f32,
    /// From how many bits the values of 16-bit PNG files were stretched that fit into so many; 16 is none.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub depth: u32,
    /// How the images were divided.
    pub split: SplitKind,
    /// File name of the label table.
    pub label_table: String,
    /// Whose images they are.
    pub dataset: DatasetKind,
}

/// All bits of 16.
const WHOLE: u32 = 16;

fn whole() -> u32 {
    WHOLE
}

fn is_whole(depth: &u32) -> bool {
    *depth == WHOLE
}

/// One image.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// NIH's table row.
    pub record: ImageRecord,
    /// What the image may be used for.
    pub split: Split,
    /// Bytes of an 8-bit grey PNG of `height_px` x `width_px`. Empty from [`read_meta`].
    pub png: Vec<u8>,
    /// The original file, relative to `prep.root`, e.g. `images_001/images/00000001_000.png`.
    pub path: String,
    /// BLAKE3 of the original file, 64 hexadecimal digits.
    pub source_blake3: String,
    /// Width of the stored image, px.
    pub width_px: u32,
    /// Height of the stored image, px.
    pub height_px: u32,
    /// Width of the original file, px.
    pub source_width_px: u32,
    /// Height of the original file, px.
    pub source_height_px: u32,
    /// Boxes drawn around findings, in the frame of the stored image.
    pub boxes: Vec<FindingBox>,
}

impl Row {
    /// The columns that every table of images begins with.
    pub fn key(&self) -> ImageKey {
        let ImageRecord { ref image_id, patient_id, labels, .. } = self.record;
        ImageKey { image_id: image_id.clone(), patient_id, split: self.split, labels }
    }
}

/// Writes the images of a split, sorted by `image_id`, into `<split>-NNNNN-of-NNNNN.parquet`.
pub type Writer = shards::Shards<Row>;

/// Reads all rows with their images, file by file; at most one row group is in memory.
///
/// # Errors
/// What `each` returns; a file that is no `images` table, that has other [`Facts`] than the first, or that has a value
/// that cannot be.
pub fn read<E: From<Error>>(files: &[PathBuf], each: impl FnMut(Row) -> Result<(), E>) -> Result<(), E> {
    shards::read(files, each)
}

/// Reads the rows of some images, in their order; row groups without any of them are not read. What is not there is left out.
///
/// # Errors
/// As [`read`].
pub fn read_some<E: From<Error>>(
    files: &[PathBuf],
    images: &BTreeSet<&str>,
    each: impl FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    shards::read_some(files, images, each)
}

/// Reads all rows without their images, whose bytes are not even read from disk.
///
/// # Errors
/// As [`read`].
pub fn read_meta(files: &[PathBuf]) -> Result<Vec<Row>, Error> {
    shards::read_meta(files)
}

/// What holds for all images, from the files' footers.
///
/// # Errors
/// No files; a file that is no `images` table, lacks a fact, has an unknown one, or has others than the first file.
pub fn facts(files: &[PathBuf]) -> Result<Facts, Error> {
    shards::facts::<Row>(files)
}

/// The number of rows of each split, in the order of [`cxr::Split::ALL`].
///
/// # Errors
/// A file that is no such table.
pub fn rows(files: &[PathBuf]) -> Result<[usize; 3], Error> {
    shards::split_rows::<Row>(files)
}

impl shards::Row for Row {
    type Facts = Facts;

    const TABLE: &'static str = "images";
    const VERSION: u32 = 3;
    const IMAGE: &'static str = "image";

    fn image_id(&self) -> &str {
        &self.record.image_id
    }

    fn image_bytes(&self) -> usize {
        self.png.len()
    }

    fn check_facts(facts: &Facts) -> Result<(), String> {
        let (size, depth) = (facts.size_px, facts.depth);
        if size == 0 {
            return Err(format!("`size_px` = {size}, expected at least 1"));
        }
        if (8..=WHOLE).contains(&depth) { Ok(()) } else { Err(format!("`depth` = {depth}, expected 8 to {WHOLE}")) }
    }

    /// Boxes lie inside the image to the last bit: prep clips NIH's, whose edges may be a pixel outside.
    fn check(&self, facts: &Facts) -> Result<(), Wrong> {
        let size = facts.size_px;
        for (column, px) in [("width_px", self.width_px), ("height_px", self.height_px)] {
            Wrong::unless(px == size, column, format!("{size} px, as the table's facts say"), px)?;
        }
        let hash = &self.source_blake3;
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        Wrong::unless(is_hash, "source_blake3", "64 hexadecimal digits", format!("{hash:?}"))?;
        for FindingBox { bbox, .. } in &self.boxes {
            let inside = bbox.is_inside(size as f32, size as f32);
            Wrong::unless(inside, "boxes", format!("a box inside {size} x {size} px"), format!("{bbox:?}"))?;
        }
        Ok(())
    }

    fn schema(_: &Facts) -> Schema {
        schema()
    }

    fn columns(rows: &[Row], _: &Facts) -> Result<Vec<ArrayRef>, ArrowError> {
        columns(rows)
    }

    fn from_batch(batch: &Batch, _: &Facts) -> Result<Vec<Row>, Error> {
        read_batch(batch)
    }
}

pub(crate) fn schema() -> Schema {
    let mut fields = key_fields();
    fields.extend([
        field("follow_up", DataType::UInt32, "NIH's Follow-up #; null in other data").nullable(),
        field("age_years", DataType::UInt16, "the patient's age; null where the source is impossible")
            .unit("years")
            .nullable(),
        field("sex", DataType::Utf8, "F or M; null where not recorded").nullable(),
        field("view", DataType::Utf8, "view position, AP or PA; null where not recorded").nullable(),
        field("findings", DataType::List(item(DataType::Utf8)), "NIH's names of the findings that are present"),
        field("image", image_type(), "8-bit grey PNG, and the original file relative to prep.root").nullable(),
        field("width_px", DataType::UInt32, "width of the stored image").unit("px"),
        field("height_px", DataType::UInt32, "height of the stored image").unit("px"),
        field("source_width_px", DataType::UInt32, "width of the original file").unit("px"),
        field("source_height_px", DataType::UInt32, "height of the original file").unit("px"),
        field("source_blake3", DataType::Utf8, "BLAKE3 of the original file, 64 hexadecimal digits"),
        field("boxes", DataType::List(item(box_type())), "boxes around findings, half-open, inside the stored image")
            .unit("px"),
    ]);
    Schema { table: <Row as shards::Row>::TABLE, version: <Row as shards::Row>::VERSION, fields }
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
    let mut columns = keys(&rows.iter().map(Row::key).collect::<Vec<_>>());
    let follow_up: ArrayRef = Arc::new(rows.iter().map(|row| row.record.follow_up).collect::<UInt32Array>());
    columns.extend([
        follow_up,
        Arc::new(rows.iter().map(|row| row.record.age_years).collect::<UInt16Array>()),
        Arc::new(rows.iter().map(|row| row.record.sex.map(Sex::name)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.record.view_position.map(ViewPosition::name)).collect::<StringArray>()),
        finding_lists(rows)?,
        images(rows.iter().map(|row| (row.png.as_slice(), row.path.as_str())))?,
        u32s(|row| row.width_px),
        u32s(|row| row.height_px),
        u32s(|row| row.source_width_px),
        u32s(|row| row.source_height_px),
        text(rows.iter().map(|row| row.source_blake3.as_str())),
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
    let follow_up = batch.nullable::<UInt32Array>("follow_up")?;
    let age_years = batch.nullable::<UInt16Array>("age_years")?;
    let sex = batch.nullable::<StringArray>("sex")?;
    let view = batch.nullable::<StringArray>("view")?;
    let findings = batch.column::<ListArray>("findings")?;
    let image = Images::of(batch, "image")?;
    let width_px = batch.column::<UInt32Array>("width_px")?;
    let height_px = batch.column::<UInt32Array>("height_px")?;
    let source_width_px = batch.column::<UInt32Array>("source_width_px")?;
    let source_height_px = batch.column::<UInt32Array>("source_height_px")?;
    let source_blake3 = batch.column::<StringArray>("source_blake3")?;
    let boxes = batch.column::<ListArray>("boxes")?;

    let row = |(row, key): (usize, ImageKey)| {
        let ImageKey { image_id, patient_id, split, labels } = key;
        let listed = read_findings(batch, findings, row)?;
        let present: Labels = labels.findings().collect();
        if listed != present {
            return Err(batch.value("findings", row, &format!("{present} as in label_*"), &listed.to_string()));
        }
        let record = ImageRecord {
            image_id,
            patient_id,
            follow_up: follow_up.is_valid(row).then(|| follow_up.value(row)),
            age_years: age_years.is_valid(row).then(|| age_years.value(row)),
            sex: batch.parse_nullable("sex", row, sex, "F or M")?,
            view_position: batch.parse_nullable("view", row, view, "AP or PA")?,
            labels,
        };
        Ok(Row {
            record,
            split,
            png: image.bytes(row),
            path: image.path(row),
            source_blake3: source_blake3.value(row).to_owned(),
            width_px: width_px.value(row),
            height_px: height_px.value(row),
            source_width_px: source_width_px.value(row),
            source_height_px: source_height_px.value(row),
            boxes: read_boxes(batch, boxes, row)?,
        })
    };
    read_keys(batch)?.into_iter().enumerate().map(row).collect()
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
                bbox: batch.valid_box("boxes", row, BBox::new(x_min, y_min, x_max, y_max))?,
            })
        })
        .collect()
}
