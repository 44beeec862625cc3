//! Texts of others: tables of labels, lists of images, boxes.
//!
//! [`table`] turns a text into rows of cells, whatever encodes and separates them; [`rows`] turns cells into values;
//! [`nih`] knows NIH's table, lists and boxes, [`scores`] predictions, [`experts`] what
//! radiologists said later; [`texts`] finds these files in a folder. Who reads them for what
//! (`prep` for training, `report` for the predictions of others) is no business of this crate.

pub mod experts;
pub mod names;
pub mod nih;
pub mod reading;
pub mod rows;
pub mod scores;
pub mod table;
pub mod texts;

pub use reading::{Blank, ColumnNames, Reading, Uncertain, Views};
pub use rows::MAX_AGE_YEARS;
pub use table::Error;
pub use texts::Texts;
