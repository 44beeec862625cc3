//! One row per image: the pooled features of a branch, which the fusion layer is trained on.

use std::path::Path;

use arrow::array::StringArray;

use crate::Error;
use crate::columns::{f32_lists, finite, read_f32_lists, text};
use crate::schema::{FieldExt, Schema, f32_list, field, image_id_field};
use crate::sink::Sink;
use crate::source::Source;

const TABLE: &str = "features";
const VERSION: u32 = 1;

/// Pooled features of N images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// N keys, sorted and unique.
    pub image_ids: Vec<String>,
    /// K, the number of features of an image: the channels of the backbone's last map.
    pub dim: usize,
    /// `[N, K]`, row-major.
    pub pool: Vec<f32>,
}

impl Features {
    /// The K features of one image.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.pool[index * self.dim..][..self.dim]
    }
}

/// N and K of a table, from its footer.
///
/// # Errors
/// The file is no `features` table.
pub fn shape(path: &Path) -> Result<[usize; 2], Error> {
    let source = Source::open(path, TABLE, VERSION)?;
    Ok([source.rows(), source.list_len("pool")?])
}

/// Writes the table.
///
/// # Errors
/// `pool` is not N x K; a number is not finite; ids are not sorted and unique; the disk is full.
pub fn write(path: &Path, features: &Features, stage: &str) -> Result<(), Error> {
    let Features { image_ids, dim, pool } = features;
    let mut sink = Sink::create(path, schema(*dim), stage, None)?;
    if *dim == 0 || pool.len() != image_ids.len() * dim {
        let expected = format!("{} images x {dim} features (at least 1)", image_ids.len());
        return Err(sink.value("pool", 0, &expected, &format!("{} values", pool.len())));
    }
    sink.all_ids(image_ids.iter().map(String::as_str))?;
    finite(pool).map_err(|(index, value)| sink.value("pool", index / dim, "finite numbers", &value.to_string()))?;
    // 4096 rows x 2048 features are 32 MiB a row group.
    for (ids, pool) in image_ids.chunks(4096).zip(pool.chunks(4096 * dim)) {
        sink.write_with(|| Ok(vec![text(ids.iter().map(String::as_str)), f32_lists(pool.to_vec(), *dim)?]))?;
    }
    sink.finish().map(drop)
}

/// Reads the table.
///
/// # Errors
/// The file is no `features` table or has a value that cannot be.
pub fn read(path: &Path) -> Result<Features, Error> {
    let source = Source::open(path, TABLE, VERSION)?;
    let dim = source.list_len("pool")?;
    let mut features = Features { dim, ..Features::default() };
    let mut batches = source.batches(&schema(dim), 4096, None)?;
    while let Some(batch) = batches.next_images()? {
        let ids = batch.column::<StringArray>("image_id")?;
        features.image_ids.extend((0..batch.len()).map(|row| ids.value(row).to_owned()));
        features.pool.extend_from_slice(read_f32_lists(&batch, "pool")?);
    }
    Ok(features)
}

pub(crate) fn schema(dim: usize) -> Schema {
    let pool = field("pool", f32_list(dim), "the last map after global pooling, one value per channel")
        .with("shape", &format!("[{dim}]"))
        .with("dims", "channel")
        .with("layer", "pool");
    Schema { table: TABLE, version: VERSION, fields: vec![image_id_field(), pool] }
}
