//! What `global` and `local` have in common: images are loaded from tables, a network is trained on them and scores them
//! all, and weights, features, predictions and learning curve are written.
//!
//! The two stages differ in their images only: [`images`] loads whole images, [`regions`] attended regions. [`train`] fits
//! a network to them, [`score`] applies it to all of them; [`write_training`] and [`write_scores`] write the results.
//! [`Config`] is the recipe. `fusion` shares [`Watch`], [`write_epochs`] and [`headline`].
//!
//! An image is decoded once; the grey values of all images stay in memory (7.3 GB for 112,120 images of 256 x 256 px) and
//! are augmented on the fly.

mod config;
mod error;
mod init;
mod load;
mod score;
mod train;
mod watch;
mod write;

pub use config::{Config, LrSchedule};
pub use error::Error;
pub use init::{Init, WeightsFile};
pub use load::{ImageKey, Images, images, regions};
pub use nets::Checkpoints;
pub use score::{Scores, frame, score};
pub use train::{identity, train};
pub use watch::Watch;
pub use write::{headline, write_epochs, write_scores, write_training};
