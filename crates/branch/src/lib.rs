//! What `global` and `local` have in common: rows become pictures, pictures train a network, its answers become rows.
//!
//! The two stages differ only in what they look at, so each tells its own story over these words: [`images`] or
//! [`regions`] loads pictures, [`train`] fits a network to them, [`score`] asks it about all of them, and [`write()`]
//! leaves weights, features, predictions and learning curve in a folder. [`Config`] is the recipe.
//!
//! A picture is decoded once; the grey values of all of them stay in memory (7.3 GB for 112,120 pictures of
//! 256 x 256) and are augmented on the fly.

mod config;
mod error;
mod init;
mod load;
mod score;
mod train;

pub use config::{Config, LrSchedule};
pub use cxr::ImageKey as Key;
pub use error::Error;
pub use init::Init;
pub use load::{Images, images, regions};
pub use score::{Scores, score, write};
pub use train::train;
