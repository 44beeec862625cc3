//! One row per image: where the global branch looks, and the crop that the local branch is trained on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, StringArray, UInt32Array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use cxr::{BBox, Labels, Split};

use crate::columns::{
    Pictures, f32_column, f32_lists, finite, labels, pictures, read_f32_lists, read_labels, read_split, text,
};
use crate::images::{BYTES_PER_GROUP, ROWS_PER_BATCH, ROWS_PER_GROUP};
use crate::schema::{FieldExt, Schema, f32_list, field, key_fields, label_fields, picture_type};
use crate::sink::Sink;
use crate::source::{Batch, Source, split_rows};
use crate::{Error, Stamp};

const TABLE: &str = "regions";
const VERSION: u32 = 1;

/// One image's region.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The key.
    pub image_id: String,
    /// NIH's Patient ID.
    pub patient_id: u32,
    /// What the image may be used for.
    pub split: Split,
    /// What the image (not necessarily the crop) shows.
    pub labels: Labels,
    /// The normalised heat map, `[height, width]` row-major.
    pub heatmap: Vec<f32>,
    /// Rows of the heat map; the same in a whole file.
    pub heatmap_height: usize,
    /// Columns of the heat map; the same in a whole file.
    pub heatmap_width: usize,
    /// The threshold tau that made the mask; per image with Otsu's method.
    pub threshold: f32,
    /// How channels were joined: `max`, `l1`, `l2`, ...
    pub statistic: String,
    /// How the map was normalised: `minmax`, `max`, `none`.
    pub normalise: String,
    /// Where the pixels of the crop come from: `prepared` or `original`.
    pub source: String,
    /// The region, half-open, in pixels of the frame of `prep/images`.
    pub bbox: BBox,
    /// Fraction of the map above the threshold, 0 to 1.
    pub mask_frac: f32,
    /// Highest value of the heat map before normalisation.
    pub peak: f32,
    /// Whether no region was found, so that the whole image was taken.
    pub fallback: bool,
    /// The crop: bytes of an 8-bit grey PNG. Empty from [`read_meta`].
    pub crop_png: Vec<u8>,
    /// The original file, relative to `prep.root`.
    pub path: String,
}

/// Writes one file, sorted by `image_id`.
pub struct Writer {
    sink: Sink,
    heatmap: (usize, usize),
    rows: Vec<Row>,
    bytes: usize,
}

impl Writer {
    /// Creates `regions-<shard>-of-<shards>.parquet` in `dir`, shards counted from 0, for heat maps of
    /// `(height, width)`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(
        dir: &Path,
        shard: usize,
        shards: usize,
        heatmap: (usize, usize),
        stamp: &Stamp,
    ) -> Result<Self, Error> {
        let path = dir.join(format!("regions-{shard:05}-of-{shards:05}.parquet"));
        Ok(Writer { sink: Sink::create(&path, schema(heatmap), stamp)?, heatmap, rows: Vec::new(), bytes: 0 })
    }

    /// Appends a row; rows are kept until a row group is full.
    ///
    /// # Errors
    /// `image_id` does not come after the one before; the heat map has another shape or a number that is not finite;
    /// the disk is full.
    pub fn write(&mut self, row: &Row) -> Result<(), Error> {
        let index = self.rows.len();
        self.sink.next_id(index, &row.image_id)?;
        let (height, width) = self.heatmap;
        if (row.heatmap_height, row.heatmap_width, row.heatmap.len()) != (height, width, height * width) {
            let got = format!("{}x{}, {} values", row.heatmap_height, row.heatmap_width, row.heatmap.len());
            return Err(self.sink.value("heatmap", index, &format!("{height}x{width}"), &got));
        }
        finite(&row.heatmap)
            .map_err(|(_, value)| self.sink.value("heatmap", index, "finite numbers", &value.to_string()))?;
        self.bytes += row.crop_png.len();
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
            self.sink.write_with(|| columns(&self.rows, self.heatmap))?;
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

/// Reads all rows with their crops, file by file; at most one row group is in memory.
///
/// # Errors
/// What `each` returns; a file that is no `regions` table or has a value that cannot be.
pub fn read<E: From<Error>>(files: &[PathBuf], mut each: impl FnMut(Row) -> Result<(), E>) -> Result<(), E> {
    for path in files {
        read_file(path, ROWS_PER_BATCH, None, &mut each)?;
    }
    Ok(())
}

/// Reads all rows without their crops, whose bytes are not even read from disk.
///
/// # Errors
/// As [`read`].
pub fn read_meta(files: &[PathBuf]) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for path in files {
        read_file(path, 8192, Some("crop.bytes"), &mut |row| -> Result<(), Error> {
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
    let source = Source::open(path, TABLE, VERSION)?;
    let heatmap = heatmap_shape(&source)?;
    let mut batches = source.batches(&schema(heatmap), rows, without)?;
    while let Some(batch) = batches.next_images()? {
        for row in read_batch(&batch, heatmap)? {
            each(row)?;
        }
    }
    Ok(())
}

/// `(height, width)` from the column's metadata, which must agree with its length.
fn heatmap_shape(source: &Source) -> Result<(usize, usize), Error> {
    let len = source.list_len("heatmap")?;
    let shape = source.field("heatmap", "a heat map")?.metadata().get("shape").cloned().unwrap_or_default();
    let sides: Option<Vec<usize>> =
        shape.trim_matches(['[', ']']).split(',').map(|side| side.trim().parse().ok()).collect();
    match sides.as_deref() {
        Some(&[height, width]) if height.checked_mul(width) == Some(len) => Ok((height, width)),
        _ => Err(source.column(
            "heatmap",
            &format!("metadata `shape` of two sides with {len} values"),
            &format!("{shape:?}"),
        )),
    }
}

pub(crate) fn schema((height, width): (usize, usize)) -> Schema {
    let f32_field = |name, description| field(name, DataType::Float32, description);
    let fields = (key_fields().into_iter())
        .chain(label_fields())
        .chain([
            field(
                "heatmap",
                f32_list(height * width),
                "the global branch's last map, joined over channels, normalised",
            )
            .with("shape", &format!("[{height}, {width}]"))
            .with("dims", "height, width")
            .with("layer", "map"),
            f32_field("threshold", "tau: the mask is where the map exceeds it"),
            field("statistic", DataType::Utf8, "how channels were joined"),
            field("normalise", DataType::Utf8, "how the map was normalised"),
            field("source", DataType::Utf8, "where the crop's pixels come from: prepared or original"),
            f32_field("x_min_px", "left edge of the region in the frame of prep/images, inclusive").unit("px"),
            f32_field("y_min_px", "top edge, inclusive").unit("px"),
            f32_field("x_max_px", "right edge, exclusive").unit("px"),
            f32_field("y_max_px", "bottom edge, exclusive").unit("px"),
            f32_field("mask_frac", "fraction of the map above the threshold, 0 to 1"),
            f32_field("peak", "highest value of the map before normalisation"),
            field("fallback", DataType::Boolean, "no region was found; the whole image was taken"),
            field("crop", picture_type(), "the region as 8-bit grey PNG, and the original file").nullable(),
        ])
        .collect();
    Schema { table: TABLE, version: VERSION, fields }
}

fn columns(rows: &[Row], (height, width): (usize, usize)) -> Result<Vec<ArrayRef>, ArrowError> {
    let f32s = |value: fn(&Row) -> f32| f32_column(rows.iter().map(value));
    let mut columns = vec![
        text(rows.iter().map(|row| row.image_id.as_str())),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.patient_id))),
        text(rows.iter().map(|row| row.split.name())),
    ];
    columns.extend(labels(rows.iter().map(|row| row.labels)));
    columns.extend([
        f32_lists(rows.iter().flat_map(|row| row.heatmap.iter().copied()).collect(), height * width)?,
        f32s(|row| row.threshold),
        text(rows.iter().map(|row| row.statistic.as_str())),
        text(rows.iter().map(|row| row.normalise.as_str())),
        text(rows.iter().map(|row| row.source.as_str())),
        f32s(|row| row.bbox.x_min),
        f32s(|row| row.bbox.y_min),
        f32s(|row| row.bbox.x_max),
        f32s(|row| row.bbox.y_max),
        f32s(|row| row.mask_frac),
        f32s(|row| row.peak),
        Arc::new(rows.iter().map(|row| Some(row.fallback)).collect::<BooleanArray>()),
        pictures(rows.iter().map(|row| (row.crop_png.as_slice(), row.path.as_str())))?,
    ]);
    Ok(columns)
}

fn read_batch(batch: &Batch, (height, width): (usize, usize)) -> Result<Vec<Row>, Error> {
    let image_id = batch.column::<StringArray>("image_id")?;
    let patient_id = batch.column::<UInt32Array>("patient_id")?;
    let split = batch.column::<StringArray>("split")?;
    let labels = read_labels(batch)?;
    let heatmaps = read_f32_lists(batch, "heatmap")?;
    let threshold = batch.column::<Float32Array>("threshold")?;
    let statistic = batch.column::<StringArray>("statistic")?;
    let normalise = batch.column::<StringArray>("normalise")?;
    let source = batch.column::<StringArray>("source")?;
    let x_min = batch.column::<Float32Array>("x_min_px")?;
    let y_min = batch.column::<Float32Array>("y_min_px")?;
    let x_max = batch.column::<Float32Array>("x_max_px")?;
    let y_max = batch.column::<Float32Array>("y_max_px")?;
    let mask_frac = batch.column::<Float32Array>("mask_frac")?;
    let peak = batch.column::<Float32Array>("peak")?;
    let fallback = batch.column::<BooleanArray>("fallback")?;
    let crop = Pictures::of(batch, "crop")?;

    heatmaps
        .chunks_exact(height * width)
        .enumerate()
        .map(|(row, heatmap)| {
            Ok(Row {
                image_id: image_id.value(row).to_owned(),
                patient_id: patient_id.value(row),
                split: read_split(batch, split, row)?,
                labels: labels[row],
                heatmap: heatmap.to_vec(),
                heatmap_height: height,
                heatmap_width: width,
                threshold: threshold.value(row),
                statistic: statistic.value(row).to_owned(),
                normalise: normalise.value(row).to_owned(),
                source: source.value(row).to_owned(),
                bbox: BBox::new(x_min.value(row), y_min.value(row), x_max.value(row), y_max.value(row)),
                mask_frac: mask_frac.value(row),
                peak: peak.value(row),
                fallback: fallback.value(row),
                crop_png: crop.bytes(row),
                path: crop.path(row),
            })
        })
        .collect()
}
