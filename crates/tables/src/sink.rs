//! The writer under all tables.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use fs_err::File;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use serde_json::json;

use crate::Error;
use crate::schema::{Schema, is_image};

/// Rows per write inside the Parquet library, between which it checks the size of a page: few, for images are large.
const ROWS_PER_PAGE_CHECK: usize = 64;

/// Metadata key of the table's name.
pub(crate) const TABLE: &str = "agcnn.table";
/// Metadata key of what holds for a whole table.
pub(crate) const FACTS: &str = "agcnn.facts";

/// The file under a writer; it remembers why it could not be written, which the Parquet library turns into a text.
struct Disk {
    file: File,
    failed: Failure,
}

type Failure = Arc<Mutex<Option<std::io::Error>>>;

impl Disk {
    fn remember<T>(&self, result: std::io::Result<T>) -> std::io::Result<T> {
        if let (Err(error), Ok(mut failed)) = (&result, self.failed.lock()) {
            *failed = Some(std::io::Error::new(error.kind(), error.to_string()));
        }
        result
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes);
        self.remember(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = self.file.flush();
        self.remember(flushed)
    }
}

/// What the Parquet library says, or else why the disk refused.
fn failure(path: &Path, failed: &Failure, error: impl Into<ParquetError>) -> Error {
    match failed.lock().ok().and_then(|mut failed| failed.take()) {
        Some(error) => Error::Io(error),
        None => Error::parquet(path, error),
    }
}

/// A table being written: one row group per [`Sink::write_with`].
pub(crate) struct Sink {
    path: PathBuf,
    table: &'static str,
    schema: SchemaRef,
    writer: ArrowWriter<Disk>,
    failed: Failure,
    rows: u64,
}

impl Sink {
    /// Creates the file; `facts` are JSON about the whole table.
    pub(crate) fn create(path: &Path, schema: Schema, stage: &str, facts: Option<String>) -> Result<Self, Error> {
        let table = schema.table;
        let metadata = metadata(&schema, stage, facts);
        let properties = properties(&schema, &metadata);
        // Twice, as pyarrow does it: pyarrow and `datasets` read the schema's, DuckDB and parquet tools the file's.
        let schema = arrow::datatypes::Schema::new(schema.fields).with_metadata(metadata);
        let schema = Arc::new(schema);
        let failed = Failure::default();
        let disk = Disk { file: File::create(path)?, failed: failed.clone() };
        let writer = ArrowWriter::try_new(disk, schema.clone(), Some(properties))
            .map_err(|error| failure(path, &failed, error))?;
        Ok(Sink { path: path.to_owned(), table, schema, writer, failed, rows: 0 })
    }

    /// Appends rows, given by column in the schema's order, as one row group.
    pub(crate) fn write_with(
        &mut self,
        columns: impl FnOnce() -> Result<Vec<ArrayRef>, ArrowError>,
    ) -> Result<(), Error> {
        let batch = columns().and_then(|columns| RecordBatch::try_new(self.schema.clone(), columns));
        let batch = batch.map_err(|error| Error::parquet(&self.path, error))?;
        self.rows += batch.num_rows() as u64;
        let written = self.writer.write(&batch).and_then(|()| self.writer.flush());
        written.map_err(|error| failure(&self.path, &self.failed, error))
    }

    /// Checks that the key of a row, counted from those written, comes after `last`.
    pub(crate) fn next_id(&self, row: usize, last: Option<&str>, image_id: &str) -> Result<(), Error> {
        ascending(last, image_id).map_err(|(expected, got)| self.value("image_id", row, &expected, &got))
    }

    /// As [`Sink::next_id`], for all rows of a table.
    pub(crate) fn all_ids<'a>(&self, mut image_ids: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        let mut last = image_ids.next();
        for (row, image_id) in (1..).zip(image_ids) {
            self.next_id(row, last.replace(image_id), image_id)?;
        }
        Ok(())
    }

    /// The error of a row that must not be written; `row` counts from those written.
    pub(crate) fn value(&self, column: &str, row: usize, expected: &str, got: &str) -> Error {
        Error::Value {
            path: self.path.clone(),
            table: self.table,
            column: column.into(),
            row: self.rows as usize + row,
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// Writes the footer and syncs; returns the number of rows.
    pub(crate) fn finish(self) -> Result<u64, Error> {
        let disk = self.writer.into_inner().map_err(|error| failure(&self.path, &self.failed, error))?;
        disk.file.sync_all()?;
        Ok(self.rows)
    }
}

/// `image_id` sorted and unique: expected and got where it is not.
pub(crate) fn ascending(last: Option<&str>, next: &str) -> Result<(), (String, String)> {
    match last {
        Some(last) if last >= next => Err((format!("an id after {last:?} (sorted, unique)"), format!("{next:?}"))),
        _ => Ok(()),
    }
}

/// zstd, except for images (PNG does not shrink); f32 as byte streams, which zstd shrinks best.
fn properties(schema: &Schema, metadata: &BTreeMap<String, String>) -> WriterProperties {
    let entries = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
        .set_write_batch_size(ROWS_PER_PAGE_CHECK)
        .set_key_value_metadata(Some(entries.collect()));
    for field in &schema.fields {
        builder = match field.data_type() {
            DataType::Float32 => byte_streams(builder, vec![field.name().clone()]),
            DataType::FixedSizeList(item, _) if *item.data_type() == DataType::Float32 => {
                byte_streams(builder, vec![field.name().clone(), "list".into(), item.name().clone()])
            }
            image if is_image(image) => {
                let bytes = ColumnPath::new(vec![field.name().clone(), "bytes".into()]);
                builder
                    .set_column_compression(bytes.clone(), Compression::UNCOMPRESSED)
                    .set_column_dictionary_enabled(bytes.clone(), false)
                    .set_column_statistics_enabled(bytes, EnabledStatistics::None)
            }
            _ => builder,
        };
    }
    builder.build()
}

fn byte_streams(builder: WriterPropertiesBuilder, path: Vec<String>) -> WriterPropertiesBuilder {
    let path = ColumnPath::new(path);
    builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT)
}

fn metadata(schema: &Schema, stage: &str, facts: Option<String>) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        (TABLE.to_owned(), schema.table.to_owned()),
        ("agcnn.schema_version".to_owned(), schema.version.to_string()),
        ("agcnn.stage".to_owned(), stage.to_owned()),
    ]);
    metadata.extend(facts.map(|facts| (FACTS.to_owned(), facts)));
    // https://huggingface.co/docs/datasets/about_dataset_features: columns that are not named here are inferred.
    let images: serde_json::Map<String, serde_json::Value> = (schema.fields.iter())
        .filter(|field| is_image(field.data_type()))
        .map(|field| (field.name().clone(), json!({ "_type": "Image" })))
        .collect();
    if !images.is_empty() {
        let features = json!({ "info": { "features": images } });
        metadata.insert("huggingface".to_owned(), features.to_string());
    }
    metadata
}
