//! Readers of NIH's text files, in every variant found in the wild.
//!
//! Pure: bytes in, rows out; `path` is for messages only. Columns are found by name, so that their order, additional
//! columns, and the trailing commas that some headers or rows have do not matter; encoding, separators, line ends, blank
//! lines and gzip are those of [`crate::table`].

mod boxes;
mod entries;
mod list;

#[cfg(test)]
mod tests;

pub use boxes::{BOX_FRAME_PX, boxes};
pub use entries::{Entries, entries};
pub use list::{Listed, list};
