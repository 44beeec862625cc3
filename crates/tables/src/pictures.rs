//! Images in anybody's Parquet table: ours, Hugging Face's, or a column of paths.

use std::path::Path;

use arrow::array::{Array, BinaryArray, StringArray, StructArray};
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;

use crate::pages::Pages;
use crate::sink::TABLE;
use crate::source::guarded;
use crate::{Error, answers};

/// Names of the column, the best first: a struct of `bytes` and `path` as Hugging Face has it, or text, which is a path.
const COLUMNS: [&str; 5] = ["image", "path", "image_path", "file_name", "file"];
/// Rows read at a time.
const ROWS: usize = 16;

/// An image of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its path, relative to the table's folder; where it has none, `<row>`, counted from 0.
    pub name: String,
    /// The bytes of its file, where the table has them.
    pub bytes: Option<Vec<u8>>,
}

/// Reads the images of a table, a few rows at a time.
///
/// # Errors
/// What is no regular file, or no Parquet table; a table without such a column; what `each` returns.
pub fn read<E: From<Error>>(path: &Path, each: &mut dyn FnMut(Row) -> Result<(), E>) -> Result<(), E> {
    let (file, _) = guard::open(path).map_err(Error::from)?.into_parts();
    // Parquet's own types: Arrow's would make large texts, views and dictionaries of the same columns (polars, pandas).
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = guarded(path, || Pages::open(file, options))?;
    // Answers name images as they were named to `predict`, not as seen from the table's folder.
    let metadata = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let ours = metadata.filter(|entry| entry.key == TABLE).find_map(|entry| entry.value.clone());
    if let Some(got) = ours.filter(|table| table == answers::TABLE) {
        return Err(Error::Table { path: path.to_owned(), expected: "pictures", got: format!("`{got}`") }.into());
    }
    let schema = builder.schema().clone();
    let name = COLUMNS.into_iter().find(|name| {
        schema.field_with_name(name).is_ok_and(|field| match field.data_type() {
            DataType::Utf8 => true,
            DataType::Struct(fields) => ["bytes", "path"].iter().any(|part| fields.find(part).is_some()),
            _ => false,
        })
    });
    let name = name.ok_or_else(|| {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Error::Column {
            path: path.to_owned(),
            table: "pictures",
            column: COLUMNS.join(" or "),
            expected: "an image (a struct of bytes and path), or a path".to_owned(),
            got: names.join(", "),
        }
    })?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), [name]);
    let mut reader = guarded(path, || builder.with_batch_size(ROWS).with_projection(mask).build())?;
    let mut at = 0;
    while let Some(batch) = guarded(path, || reader.next().transpose())? {
        let column = batch.column(0);
        let parts = column.as_any().downcast_ref::<StructArray>();
        let part = |name: &str| parts.and_then(|parts| parts.column_by_name(name));
        let texts = match parts {
            Some(_) => part("path").and_then(|array| array.as_any().downcast_ref::<StringArray>()),
            None => column.as_any().downcast_ref::<StringArray>(),
        };
        let bytes = part("bytes").and_then(|array| array.as_any().downcast_ref::<BinaryArray>());
        for row in 0..batch.num_rows() {
            let text = texts.filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row).to_owned());
            let bytes = bytes.filter(|bytes| bytes.is_valid(row)).map(|bytes| bytes.value(row).to_vec());
            each(Row { name: text.unwrap_or_else(|| format!("<{at}>")), bytes })?;
            at += 1;
        }
    }
    Ok(())
}
