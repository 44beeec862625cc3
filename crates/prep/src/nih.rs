//! Readers of NIH's text files, in every variant found in the wild.
//!
//! Pure: bytes in, rows out; `path` is for messages only. Columns are found by name, so that their order, additional
//! columns, and the trailing commas that some headers or rows have do not matter; neither do a byte order mark,
//! CRLF line ends, blank lines, or a missing end of the last line.

mod boxes;
mod entries;
mod error;
mod list;
mod table;

#[cfg(test)]
mod tests;

pub use boxes::{BOX_FRAME_PX, boxes};
pub(crate) use entries::age_years;
pub use entries::{Entries, MAX_AGE_YEARS, entries};
pub use error::Error;
pub use list::{Listed, list};
