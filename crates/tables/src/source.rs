//! The reader under all tables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use cxr::{BBox, InvalidBox, Split};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::pages::Pages;
use crate::schema::Schema;
use crate::sink::{FACTS, TABLE, ascending};

/// A Parquet file that says it is the table asked for; its columns are checked by [`Source::batches`].
pub(crate) struct Source {
    path: PathBuf,
    table: &'static str,
    builder: ParquetRecordBatchReaderBuilder<Pages>,
}

impl Source {
    pub(crate) fn open(path: &Path, table: &'static str, version: u32) -> Result<Self, Error> {
        Source::open_with(path, table, version, PageIndexPolicy::Skip)
    }

    /// As [`Source::open`], for a few rows: pages without any of them can be passed over.
    pub(crate) fn open_indexed(path: &Path, table: &'static str, version: u32) -> Result<Self, Error> {
        Source::open_with(path, table, version, PageIndexPolicy::Optional)
    }

    fn open_with(path: &Path, table: &'static str, version: u32, index: PageIndexPolicy) -> Result<Self, Error> {
        let (file, _) = guard::open(path)?.into_parts();
        let options = ArrowReaderOptions::new().with_page_index_policy(index);
        let builder = guarded(path, || Pages::open(file, options))?;
        // The reader asserts what a damaged footer may break.
        let chunks = builder.metadata().row_groups().iter().flat_map(|group| group.columns());
        for chunk in chunks {
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            if start < 0 || chunk.compressed_size() < 0 {
                let column = chunk.column_path().string();
                let problem = format!("{column}: {} bytes at {start}", chunk.compressed_size());
                return Err(Error::parquet(path, ParquetError::General(problem)));
            }
        }
        let path = path.to_owned();
        let metadata = builder.schema().metadata();
        let stated = |key: &str| metadata.get(key).map_or("none".to_owned(), |value| format!("{value:?}"));
        if metadata.get(TABLE).is_none_or(|got| got != table) {
            return Err(Error::Table { path, expected: table, got: stated(TABLE) });
        }
        if metadata.get("agcnn.schema_version").is_none_or(|got| *got != version.to_string()) {
            return Err(Error::Version { path, table, expected: version, got: stated("agcnn.schema_version") });
        }
        Ok(Source { path, table, builder })
    }

    /// What the file says of the whole table.
    pub(crate) fn facts<F: DeserializeOwned>(&self) -> Result<F, Error> {
        let error = |got: String| Error::Facts { path: self.path.clone(), table: self.table, got };
        let text = self.builder.schema().metadata().get(FACTS).ok_or_else(|| error("none".to_owned()))?;
        serde_json::from_str(text).map_err(|problem| error(format!("{text}: {problem}")))
    }

    /// Rows of the file.
    pub(crate) fn rows(&self) -> usize {
        self.builder.metadata().file_metadata().num_rows().max(0) as usize
    }

    /// Length of the f32 lists of a column, which only the file knows.
    pub(crate) fn list_len(&self, column: &str) -> Result<usize, Error> {
        let field = self.field(column, "a fixed-size list of Float32")?;
        match field.data_type() {
            DataType::FixedSizeList(item, len) if *item.data_type() == DataType::Float32 && *len > 0 => {
                Ok(*len as usize)
            }
            other => Err(self.column(column, "a fixed-size list of Float32", &other.to_string())),
        }
    }

    /// A column's field, with its metadata.
    pub(crate) fn field(&self, column: &str, expected: &str) -> Result<&Field, Error> {
        self.builder.schema().field_with_name(column).map_err(|_| self.column(column, expected, "no such column"))
    }

    /// The error of a column that is not as the schema says.
    pub(crate) fn column(&self, column: &str, expected: &str, got: &str) -> Error {
        Error::Column {
            path: self.path.clone(),
            table: self.table,
            column: column.into(),
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// Checks all columns against the schema, then reads `rows` rows at a time, leaving out the column `without`
    /// (a dotted path). Nothing is read before it is asked for.
    pub(crate) fn batches(self, schema: &Schema, rows: usize, without: Option<&str>) -> Result<Batches, Error> {
        for field in &schema.fields {
            let expected = field.data_type().to_string();
            let got = self.field(field.name(), &expected)?.data_type();
            if !got.equals_datatype(field.data_type()) {
                return Err(self.column(field.name(), &expected, &got.to_string()));
            }
        }
        let parquet = self.builder.parquet_schema();
        let known = |name: &str| schema.fields.iter().any(|field| field.name() == name);
        let leaves = parquet.columns().iter().enumerate().filter(|(_, leaf)| {
            let path = leaf.path();
            path.parts().first().is_some_and(|name| known(name))
                && without.is_none_or(|left_out| path.string() != left_out)
        });
        let mask = ProjectionMask::leaves(parquet, leaves.map(|(index, _)| index));
        let reader = guarded(&self.path, || self.builder.with_batch_size(rows).with_projection(mask).build())?;
        Ok(Batches { path: self.path, table: self.table, reader, row: 0, last_id: None })
    }

    /// The rows, counted from 0, of those of the images that are here; reads no other column than `image_id`.
    pub(crate) fn rows_of(self, images: &BTreeSet<&str>) -> Result<Vec<usize>, Error> {
        let mut batches = self.column_alone("image_id")?;
        let mut rows = Vec::new();
        while let Some(batch) = batches.next_images()? {
            let ids = batch.column::<StringArray>("image_id")?;
            rows.extend((0..batch.len()).filter(|&row| images.contains(ids.value(row))).map(|row| batch.first + row));
        }
        Ok(rows)
    }

    /// Only these rows, which ascend: row groups without any are not read. Errors count rows among them.
    pub(crate) fn only(mut self, rows: &[usize]) -> Source {
        let ranges = rows.iter().map(|&row| row..row + 1);
        let total = self.rows();
        self.builder = self.builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, total));
        self
    }

    fn column_alone(self, column: &str) -> Result<Batches, Error> {
        let mask = ProjectionMask::columns(self.builder.parquet_schema(), [column]);
        let reader = guarded(&self.path, || self.builder.with_batch_size(8192).with_projection(mask).build())?;
        Ok(Batches { path: self.path, table: self.table, reader, row: 0, last_id: None })
    }

    /// The number of rows of each split; reads no other column.
    pub(crate) fn split_rows(self) -> Result<[usize; 3], Error> {
        let mut batches = self.column_alone("split")?;
        let mut rows = [0; 3];
        while let Some(batch) = batches.next()? {
            let splits = batch.column::<StringArray>("split")?;
            for row in 0..batch.len() {
                let split: Split = batch.parse("split", row, splits.value(row), "train, validation or test")?;
                rows[split as usize] += 1;
            }
        }
        Ok(rows)
    }
}

/// What a reader of Parquet says. Damaged files make it panic here and there, which is an error like others.
pub(crate) fn guarded<T, E: Into<ParquetError>>(path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<T, Error> {
    let read = guard::caught(|| Ok(read())).map_err(ParquetError::General).and_then(|read| read.map_err(Into::into));
    read.map_err(|error| Error::parquet(path, error))
}

/// The number of rows of each split in all `files` of a table.
pub(crate) fn split_rows(files: &[PathBuf], table: &'static str, version: u32) -> Result<[usize; 3], Error> {
    let mut rows = [0; 3];
    for path in files {
        let file = Source::open(path, table, version)?.split_rows()?;
        rows.iter_mut().zip(file).for_each(|(sum, rows)| *sum += rows);
    }
    Ok(rows)
}

/// The rows of one file, some at a time.
pub(crate) struct Batches {
    path: PathBuf,
    table: &'static str,
    reader: ParquetRecordBatchReader,
    row: usize,
    last_id: Option<String>,
}

impl Batches {
    pub(crate) fn next(&mut self) -> Result<Option<Batch>, Error> {
        let Some(rows) = guarded(&self.path, || self.reader.next().transpose())? else {
            return Ok(None);
        };
        let batch = Batch { path: self.path.clone(), table: self.table, first: self.row, rows };
        self.row += batch.len();
        Ok(Some(batch))
    }

    /// As [`Batches::next`], for tables of images: keys must ascend.
    pub(crate) fn next_images(&mut self) -> Result<Option<Batch>, Error> {
        let Some(batch) = self.next()? else {
            return Ok(None);
        };
        let ids = batch.column::<StringArray>("image_id")?;
        for row in 0..batch.len() {
            let last = if row > 0 { Some(ids.value(row - 1)) } else { self.last_id.as_deref() };
            ascending(last, ids.value(row)).map_err(|(expected, got)| batch.value("image_id", row, &expected, &got))?;
        }
        if let Some(last) = batch.len().checked_sub(1) {
            self.last_id = Some(ids.value(last).to_owned());
        }
        Ok(Some(batch))
    }
}

/// Some rows of a file.
pub struct Batch {
    path: PathBuf,
    table: &'static str,
    first: usize,
    rows: RecordBatch,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// A column without nulls.
    pub(crate) fn column<A: Array + 'static>(&self, name: &str) -> Result<&A, Error> {
        let array = self.nullable::<A>(name)?;
        self.no_nulls(name, array)?;
        Ok(array)
    }

    /// A column that may have nulls.
    pub(crate) fn nullable<A: Array + 'static>(&self, name: &str) -> Result<&A, Error> {
        let array = self.rows.column_by_name(name);
        let got = array.map_or("no such column".to_owned(), |array| array.data_type().to_string());
        array.and_then(|array| array.as_any().downcast_ref()).ok_or_else(|| Error::Column {
            path: self.path.clone(),
            table: self.table,
            column: name.into(),
            expected: std::any::type_name::<A>().to_owned(),
            got,
        })
    }

    /// Refuses nulls, here or in the child of a list.
    pub(crate) fn no_nulls(&self, column: &str, array: &dyn Array) -> Result<(), Error> {
        match (0..array.len()).find(|&row| array.is_null(row)) {
            Some(row) => Err(self.value(column, row.min(self.len().saturating_sub(1)), "a value", "null")),
            None => Ok(()),
        }
    }

    /// A child of a struct, or the values of a list.
    pub(crate) fn child<'a, A: Array + 'static>(
        &self,
        column: &str,
        array: Option<&'a dyn Array>,
    ) -> Result<&'a A, Error> {
        let child = array.and_then(|array| array.as_any().downcast_ref::<A>());
        let child = child.ok_or_else(|| self.value(column, 0, std::any::type_name::<A>(), "another type"))?;
        self.no_nulls(column, child)?;
        Ok(child)
    }

    /// A text that is one of a few words.
    pub(crate) fn parse<T: FromStr>(&self, column: &str, row: usize, text: &str, expected: &str) -> Result<T, Error> {
        text.parse().map_err(|_| self.value(column, row, expected, &format!("{text:?}")))
    }

    /// As [`Batch::parse`], of a column that may have nulls.
    pub(crate) fn parse_nullable<T: FromStr>(
        &self,
        column: &str,
        row: usize,
        texts: &StringArray,
        expected: &str,
    ) -> Result<Option<T>, Error> {
        texts.is_valid(row).then(|| self.parse(column, row, texts.value(row), expected)).transpose()
    }

    /// A box whose edges are those of one.
    pub(crate) fn valid_box(&self, column: &str, row: usize, bbox: Result<BBox, InvalidBox>) -> Result<BBox, Error> {
        bbox.map_err(|error| self.value(column, row, error.expected, &format!("{:?}", error.edges)))
    }

    /// The error of a value; `row` counts within the batch.
    pub(crate) fn value(&self, column: &str, row: usize, expected: &str, got: &str) -> Error {
        Error::Value {
            path: self.path.clone(),
            table: self.table,
            column: column.into(),
            row: self.first + row,
            expected: expected.into(),
            got: got.into(),
        }
    }
}
