//! `fusion` trains the third branch of AG-CNN (Guan et al., arXiv 1801.09927, section III-A): one linear layer on the
//! concatenated pooled features of the global and the local branch, both of which stay as they are.
//!
//! [`join`] joins the tables of two branches by image, [`start`] makes the initial weights, [`train`] fits them, [`score`]
//! applies them to every image, and [`write`](fn@write) writes weights and learning curve. [`Config`] is the
//! recipe.
//!
//! No backbone runs here: 50 epochs over thousands of images take seconds.
//!
//! Letters in shapes: `N` images, `K` features of a branch, `D` = `K` of global + `K` of local, in this order.

mod config;
mod error;
mod join;
mod layer;
mod score;
mod standard;
mod start;
mod train;

pub use config::{Config, Init, SPEC};
pub use error::{Difference, Error};
pub use join::{Branch, Samples, join};
pub use score::{score, write};
pub use start::start;
pub use train::{fit, identity, train};
