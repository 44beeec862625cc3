//! One row per image: where the global branch looks, and the crop that the local branch is trained on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use cxr::heatmap::{Cells, Normalise, Statistic};
use cxr::{BBox, CropSource, EvalFrame, ImageKey, Placement};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::columns::{Images, f32_column, f32_lists, finite, images, keys, read_f32_lists, read_keys};
use crate::schema::{FieldExt, Schema, f32_list, field, image_type, key_fields};
use crate::shards::{self, Wrong};
use crate::source::Batch;

/// The largest side of a heat map that is believed, cells.
const MAX_SIDE: usize = 1 << 12;

/// What holds for all regions: how they were found. Other stages learn it here and not from attend's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The part of the stored images that the global branch was shown: heat maps lie in it, boxes in the stored image.
    pub frame: EvalFrame,
    /// The threshold as configured: a number such as `0.7`, or `otsu`.
    pub threshold: String,
    /// How channels became one heat map.
    pub statistic: Statistic,
    /// How heat maps were normalised.
    pub normalise: Normalise,
    /// Where the heat maps' cells lie in the network's input; `None`: they divide it evenly.
    pub cells: Option<Cells>,
    /// Where regions are put: where the network looks, or as a control elsewhere.
    pub region: Placement,
    /// The seed of random places; `None` where places are not random.
    pub region_seed: Option<u64>,
    /// Where the pixels of the crops come from.
    pub source: CropSource,
    /// Factor on every grey value's distance from the crop's mean; 1 is none.
    pub contrast: f32,
    /// Side of the crops, px.
    pub size_px: u32,
    /// Height and width of the heat maps, cells.
    pub heatmap: [usize; 2],
}

/// One image's region.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whose image it is, and what it (not necessarily the crop) shows.
    pub key: ImageKey,
    /// The normalised heat map, `[height, width]` row-major.
    pub heatmap: Vec<f32>,
    /// Rows of the heat map; the same in a whole table.
    pub heatmap_height: usize,
    /// Columns of the heat map; the same in a whole table.
    pub heatmap_width: usize,
    /// The threshold tau that made the mask; per image with Otsu's method.
    pub threshold: f32,
    /// The region, in pixels of the stored image of `prep/images`.
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

/// Writes regions, sorted by `image_id`, into `regions-NNNNN-of-NNNNN.parquet`.
pub type Writer = shards::Shards<Row>;

/// Reads all rows with their crops, file by file; at most one row group is in memory.
///
/// # Errors
/// What `each` returns; a file that is no `regions` table, that has other [`Facts`] than the first, or that has a value
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

/// Reads all rows without their crops, whose bytes are not even read from disk.
///
/// # Errors
/// As [`read`].
pub fn read_meta(files: &[PathBuf]) -> Result<Vec<Row>, Error> {
    shards::read_meta(files)
}

/// What holds for all regions, from the files' footers.
///
/// # Errors
/// No files; a file that is no `regions` table, lacks a fact, has an unknown one, or has others than the first file.
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

    const TABLE: &'static str = "regions";
    const VERSION: u32 = 4;
    const IMAGE: &'static str = "crop";

    fn image_id(&self) -> &str {
        &self.key.image_id
    }

    fn image_bytes(&self) -> usize {
        self.crop_png.len()
    }

    fn check_facts(facts: &Facts) -> Result<(), String> {
        if facts.region_seed.is_some() != (facts.region == Placement::Random) {
            let Facts { region, region_seed, .. } = facts;
            return Err(format!(
                "`region_seed` = {region_seed:?} of `region` = {region}, expected a seed of random regions only"
            ));
        }
        if let Some(cells) = facts.cells.filter(|cells| !cells.is_valid()) {
            return Err(format!("`cells` = {cells:?}, expected a distance of 0 or more and a step above 0"));
        }
        let sides = 1..=MAX_SIDE;
        match facts.heatmap {
            _ if !facts.frame.fits() => Err(format!("`frame` = {:?}, expected a part of the image", facts.frame)),
            [height, width] if sides.contains(&height) && sides.contains(&width) => Ok(()),
            other => Err(format!("`heatmap` = {other:?}, expected sides of 1 to {MAX_SIDE}")),
        }
    }

    /// Boxes lie inside the stored image to the last bit: [`EvalFrame::to_image`] clips them.
    fn check(&self, facts: &Facts) -> Result<(), Wrong> {
        let ([height, width], size) = (facts.heatmap, facts.frame.image_px);
        Wrong::unless(
            (self.heatmap_height, self.heatmap_width, self.heatmap.len()) == (height, width, height * width),
            "heatmap",
            format!("{height}x{width}"),
            format!("{}x{}, {} values", self.heatmap_height, self.heatmap_width, self.heatmap.len()),
        )?;
        finite(&self.heatmap).or_else(|(_, value)| Wrong::unless(false, "heatmap", "finite numbers", value))?;
        for (column, value) in [("threshold", self.threshold), ("peak", self.peak)] {
            Wrong::unless(value.is_finite(), column, "a finite number", value)?;
        }
        Wrong::unless((0.0..=1.0).contains(&self.mask_frac), "mask_frac", "0 to 1", self.mask_frac)?;
        let inside = self.bbox.is_inside(size as f32, size as f32);
        Wrong::unless(inside, "x_min_px", format!("a box inside {size} x {size} px"), format!("{:?}", self.bbox))
    }

    fn schema(facts: &Facts) -> Schema {
        schema(facts.heatmap)
    }

    fn columns(rows: &[Row], facts: &Facts) -> Result<Vec<ArrayRef>, ArrowError> {
        columns(rows, facts.heatmap)
    }

    fn from_batch(batch: &Batch, facts: &Facts) -> Result<Vec<Row>, Error> {
        read_batch(batch, facts.heatmap)
    }
}

pub(crate) fn schema([height, width]: [usize; 2]) -> Schema {
    let f32_field = |name, description| field(name, DataType::Float32, description);
    let mut fields = key_fields();
    fields.extend([
        field("heatmap", f32_list(height * width), "the global branch's last map, joined over channels, normalised")
            .with("shape", &format!("[{height}, {width}]"))
            .with("dims", "height, width")
            .with("layer", "map"),
        f32_field("threshold", "tau: the mask is where the map exceeds it"),
        f32_field("x_min_px", "left edge of the region, as the fact `region` says where it is put, in the frame of prep/images, inclusive").unit("px"),
        f32_field("y_min_px", "top edge, inclusive").unit("px"),
        f32_field("x_max_px", "right edge, exclusive").unit("px"),
        f32_field("y_max_px", "bottom edge, exclusive").unit("px"),
        f32_field("mask_frac", "fraction of the map above the threshold, 0 to 1"),
        f32_field("peak", "highest value of the map before normalisation"),
        field("fallback", DataType::Boolean, "no region was found; the whole image was taken"),
        field("crop", image_type(), "the region as 8-bit grey PNG, and the original file").nullable(),
    ]);
    Schema { table: <Row as shards::Row>::TABLE, version: <Row as shards::Row>::VERSION, fields }
}

fn columns(rows: &[Row], [height, width]: [usize; 2]) -> Result<Vec<ArrayRef>, ArrowError> {
    let f32s = |value: fn(&Row) -> f32| f32_column(rows.iter().map(value));
    let mut columns = keys(&rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>());
    columns.extend([
        f32_lists(rows.iter().flat_map(|row| row.heatmap.iter().copied()).collect(), height * width)?,
        f32s(|row| row.threshold),
        f32s(|row| row.bbox.x_min),
        f32s(|row| row.bbox.y_min),
        f32s(|row| row.bbox.x_max),
        f32s(|row| row.bbox.y_max),
        f32s(|row| row.mask_frac),
        f32s(|row| row.peak),
        Arc::new(rows.iter().map(|row| Some(row.fallback)).collect::<BooleanArray>()),
        images(rows.iter().map(|row| (row.crop_png.as_slice(), row.path.as_str())))?,
    ]);
    Ok(columns)
}

fn read_batch(batch: &Batch, [height, width]: [usize; 2]) -> Result<Vec<Row>, Error> {
    let heatmaps = read_f32_lists(batch, "heatmap")?;
    let threshold = batch.column::<Float32Array>("threshold")?;
    let x_min = batch.column::<Float32Array>("x_min_px")?;
    let y_min = batch.column::<Float32Array>("y_min_px")?;
    let x_max = batch.column::<Float32Array>("x_max_px")?;
    let y_max = batch.column::<Float32Array>("y_max_px")?;
    let mask_frac = batch.column::<Float32Array>("mask_frac")?;
    let peak = batch.column::<Float32Array>("peak")?;
    let fallback = batch.column::<BooleanArray>("fallback")?;
    let crop = Images::of(batch, "crop")?;

    let maps = heatmaps.chunks_exact(height * width);
    let row = |(row, (key, heatmap)): (usize, (ImageKey, &[f32]))| {
        let bbox = BBox::new(x_min.value(row), y_min.value(row), x_max.value(row), y_max.value(row));
        Ok(Row {
            key,
            heatmap: heatmap.to_vec(),
            heatmap_height: height,
            heatmap_width: width,
            threshold: threshold.value(row),
            bbox: batch.valid_box("x_min_px", row, bbox)?,
            mask_frac: mask_frac.value(row),
            peak: peak.value(row),
            fallback: fallback.value(row),
            crop_png: crop.bytes(row),
            path: crop.path(row),
        })
    };
    read_keys(batch)?.into_iter().zip(maps).enumerate().map(row).collect()
}
