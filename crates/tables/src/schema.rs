//! Small words for building schemas.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use cxr::output_names;

/// A table: its name, the version of its schema, its columns.
pub struct Schema {
    pub(crate) table: &'static str,
    pub(crate) version: u32,
    pub(crate) fields: Vec<Field>,
}

/// A column that is never null.
pub(crate) fn field(name: &str, data_type: DataType, description: &str) -> Field {
    Field::new(name, data_type, false).with_metadata([("description", description)])
}

/// Changes to a [`Field`] that read well at the end of its line.
pub(crate) trait FieldExt {
    /// States the unit of the values.
    fn unit(self, unit: &str) -> Field;
    /// States any other property.
    fn with(self, key: &str, value: &str) -> Field;
    /// Allows nulls.
    fn nullable(self) -> Field;
}

impl FieldExt for Field {
    fn unit(self, unit: &str) -> Field {
        self.with("unit", unit)
    }

    fn with(mut self, key: &str, value: &str) -> Field {
        self.metadata_mut().insert(key, value);
        self
    }

    fn nullable(self) -> Field {
        self.with_nullable(true)
    }
}

/// `FixedSizeList<f32, len>`.
pub(crate) fn f32_list(len: usize) -> DataType {
    DataType::FixedSizeList(f32_item(), i32::try_from(len).unwrap_or(i32::MAX))
}

pub(crate) fn f32_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float32, false))
}

/// `struct<bytes, path>`, Hugging Face's image: all nullable, for `datasets` compares the type exactly.
pub(crate) fn image_type() -> DataType {
    DataType::Struct(image_fields())
}

pub(crate) fn image_fields() -> Fields {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
}

pub(crate) fn is_image(data_type: &DataType) -> bool {
    *data_type == image_type()
}

pub(crate) fn image_id_field() -> Field {
    field(
        "image_id",
        DataType::Utf8,
        "NIH's Image Index, or the path of the file in other data; the key, sorted, unique",
    )
}

pub(crate) fn split_field() -> Field {
    field("split", DataType::Utf8, "what the image may be used for: train, validation or test")
}

/// The columns of a [`cxr::ImageKey`]: `image_id`, `patient_id`, `split`, and `label_<finding>` for the 14 findings and
/// `no_finding`.
pub(crate) fn key_fields() -> Vec<Field> {
    let labels = output_names().into_iter().map(|name| {
        let description = match name {
            "no_finding" => "whether none of the 14 findings is reported; null where that is unknown".to_owned(),
            finding => format!("whether {finding} is reported; null where that is unknown"),
        };
        field(&format!("label_{name}"), DataType::Boolean, &description).nullable()
    });
    let patient_id =
        field("patient_id", DataType::UInt32, "NIH's Patient ID, or a number for each patient of other data");
    [image_id_field(), patient_id, split_field()].into_iter().chain(labels).collect()
}

/// A schema as text, one line per column, for snapshots and messages.
#[cfg(test)]
pub(crate) fn describe(schema: &Schema) -> String {
    let mut text = format!("{} version {}\n", schema.table, schema.version);
    for field in &schema.fields {
        let mut notes: Vec<_> = field.metadata().iter().collect();
        notes.sort();
        let notes: Vec<String> = notes.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let null = if field.is_nullable() { " or null" } else { "" };
        text += &format!("{}: {}{null}  ({})\n", field.name(), field.data_type(), notes.join("; "));
    }
    text
}
