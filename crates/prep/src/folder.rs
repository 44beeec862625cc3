//! Any folder of images with a table of labels.
//!
//! Pure but for the tree, which looks which files are there: the table's bytes in, rows out.

mod rows;
mod tree;

#[cfg(test)]
mod tests;

pub use rows::Rows;
pub(crate) use rows::read;
pub(crate) use tree::Tree;
