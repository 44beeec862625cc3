//! Predictions of others: a file of scores becomes a result like a branch's.
//!
//! [`truth`] is what NIH's table and lists say; [`mod@join`] puts scores beside it; [`lists`] says which images they are;
//! [`scored`] measures one model; [`text`] is what the terminal shows.

pub mod join;
pub mod lists;
pub mod scored;
pub mod text;
pub mod truth;

pub use join::{Imported, join};
pub use lists::{Images, images, titles};
pub use scored::{Aurocs, Scored};
pub use truth::Truth;
