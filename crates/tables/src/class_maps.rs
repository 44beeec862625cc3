//! One row per image with boxes: a class activation map for each finding, and the region that it points at. Held against the
//! boxes beside the attended region, which knows no finding.

use std::path::Path;

use arrow::array::{ArrayRef, StringArray};
use arrow::error::ArrowError;
use cxr::{BBox, Finding};

use crate::Error;
use crate::columns::{f32_lists, finite, read_f32_lists, text};
use crate::schema::{FieldExt, Schema, f32_list, field, image_id_field};
use crate::sink::Sink;
use crate::source::Source;

const TABLE: &str = "class_maps";
const VERSION: u32 = 1;
const EDGES: [&str; 4] = ["x_min_px", "y_min_px", "x_max_px", "y_max_px"];

/// The maps of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// NIH's `Image Index`.
    pub image_id: String,
    /// `[14, height, width]`, each brought onto 0 to 1 by its minimum and maximum; all 0 where one was constant.
    pub maps: Vec<f32>,
    /// The region of each finding in pixels of the stored image: of the largest part of its map above the threshold of
    /// `regions`, or the whole image where there is none.
    pub regions: [BBox; Finding::COUNT],
}

impl Row {
    /// The map of a finding.
    pub fn map(&self, finding: Finding) -> &[f32] {
        let cells = self.maps.len() / Finding::COUNT;
        &self.maps[finding.index() * cells..][..cells]
    }
}

/// Writes the table; the maps have `(height, width)` cells.
///
/// # Errors
/// Ids are not sorted and unique; a value is not finite; the disk is full.
pub fn write(path: &Path, rows: &[Row], shape: (usize, usize), stage: &str) -> Result<(), Error> {
    let mut sink = Sink::create(path, schema(shape), stage, None)?;
    sink.all_ids(rows.iter().map(|row| row.image_id.as_str()))?;
    for (row, image) in rows.iter().enumerate() {
        finite(&image.maps).map_err(|(_, value)| sink.value("maps", row, "finite numbers", &value.to_string()))?;
    }
    sink.write_with(|| columns(rows, shape))?;
    sink.finish().map(drop)
}

fn columns(rows: &[Row], (height, width): (usize, usize)) -> Result<Vec<ArrayRef>, ArrowError> {
    let maps = rows.iter().flat_map(|row| row.maps.iter().copied()).collect();
    let mut columns =
        vec![text(rows.iter().map(|row| row.image_id.as_str())), f32_lists(maps, Finding::COUNT * height * width)?];
    let edges: [fn(&BBox) -> f32; 4] = [|b| b.x_min, |b| b.y_min, |b| b.x_max, |b| b.y_max];
    for edge in edges {
        let values = rows.iter().flat_map(|row| row.regions.iter().map(edge)).collect();
        columns.push(f32_lists(values, Finding::COUNT)?);
    }
    Ok(columns)
}

/// Reads the table, whose maps must have `(height, width)` cells.
///
/// # Errors
/// The file is no `class_maps` table or has a value that cannot be.
pub fn read(path: &Path, shape: (usize, usize)) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut batches = Source::open(path, TABLE, VERSION)?.batches(&schema(shape), 256, None)?;
    while let Some(batch) = batches.next_images()? {
        let ids = batch.column::<StringArray>("image_id")?;
        let maps = read_f32_lists(&batch, "maps")?;
        let [x_min, y_min, x_max, y_max] = EDGES.map(|edge| read_f32_lists(&batch, edge));
        let (x_min, y_min, x_max, y_max) = (x_min?, y_min?, x_max?, y_max?);
        for (row, maps) in maps.chunks_exact(Finding::COUNT * shape.0 * shape.1).enumerate() {
            let mut regions = [BBox::frame(1.0, 1.0); Finding::COUNT];
            for (finding, region) in regions.iter_mut().enumerate() {
                let at = row * Finding::COUNT + finding;
                *region = batch.valid_box("x_min_px", row, BBox::new(x_min[at], y_min[at], x_max[at], y_max[at]))?;
            }
            rows.push(Row { image_id: ids.value(row).to_owned(), maps: maps.to_vec(), regions });
        }
    }
    Ok(rows)
}

pub(crate) fn schema((height, width): (usize, usize)) -> Schema {
    let maps = field(
        "maps",
        f32_list(Finding::COUNT * height * width),
        "the class activation map of each of the 14 findings, signed values brought onto 0 to 1 by (H - min H) / (max H - min H), whatever attend.normalise; all 0 where it is constant",
    );
    let maps =
        maps.with("shape", &format!("[{}, {height}, {width}]", Finding::COUNT)).with("dims", "finding, height, width");
    let edge = |name, what: &str| {
        let what = format!("{what} of the region of each finding, in the frame of prep/images");
        field(name, f32_list(Finding::COUNT), &what).unit("px").with("dims", "finding")
    };
    let [left, top, right, bottom] = EDGES;
    let edges = [
        edge(left, "left edge, inclusive,"),
        edge(top, "top edge, inclusive,"),
        edge(right, "right edge, exclusive,"),
        edge(bottom, "bottom edge, exclusive,"),
    ];
    Schema { table: TABLE, version: VERSION, fields: [image_id_field(), maps].into_iter().chain(edges).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("class_maps.parquet");
        let row = |image_id: &str, side: f32| Row {
            image_id: image_id.to_owned(),
            maps: (0..Finding::COUNT * 6).map(|cell| cell as f32).collect(),
            regions: std::array::from_fn(|finding| BBox::frame(side + finding as f32, 2.0)),
        };
        let rows = [row("a.png", 1.0), row("b.png", 9.0)];
        write(&path, &rows, (2, 3), "attend").unwrap();
        assert_eq!(read(&path, (2, 3)).unwrap(), rows);
        assert_eq!(rows[0].map(Finding::Mass)[0], (Finding::Mass.index() * 6) as f32);
        assert!(read(&path, (3, 3)).is_err(), "maps of another shape");
        write(&path, &[], (2, 3), "attend").unwrap();
        assert_eq!(read(&path, (2, 3)).unwrap(), []);
    }

    #[test]
    fn what_is_not_finite_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("class_maps.parquet");
        let row = |image_id: &str, last: f32| {
            let mut maps = vec![0.5; Finding::COUNT];
            maps[Finding::COUNT - 1] = last;
            let regions = [BBox::frame(1.0, 1.0); Finding::COUNT];
            Row { image_id: image_id.to_owned(), maps, regions }
        };
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = write(&path, &[row("a.png", 1.0), row("b.png", value)], (1, 1), "attend").unwrap_err();
            let said = error.to_string();
            assert!(said.contains("maps") && said.contains("row 1") && said.contains("finite numbers"), "{said}");
        }
        write(&path, &[row("a.png", 1.0), row("b.png", 0.0)], (1, 1), "attend").unwrap();
    }
}
