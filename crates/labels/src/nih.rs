//! Readers of NIH's text files, in every variant found in the wild.
//!
//! Pure: bytes in, rows out; `path` is for messages only. Columns are found by name, so that their order, additional
//! columns, and the trailing commas that some headers or rows have do not matter; encoding, separators, line ends, blank
//! lines and gzip are those of [`crate::table`].

/// Names under which the label table is looked for, the best first.
pub const LABELS: [&str; 3] = ["Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv"];
/// The list of boxes.
pub const BOXES: &str = "BBox_List_2017.csv";
/// The official list of training and validation images.
pub const TRAIN_VAL: &str = "train_val_list.txt";
/// The official list of test images.
pub const TEST: &str = "test_list.txt";

mod boxes;
mod entries;
mod list;

#[cfg(test)]
mod tests;

pub use boxes::{BOX_FRAME_PX, boxes};
pub use entries::{Entries, entries};
pub use list::{Listed, list};
