//! What `global` and `local` have in common: images are loaded from tables, a network is trained on them and scores them
//! all, and weights, features, predictions and learning curve are written.
//!
//! The two stages differ in their images only: [`images`] loads whole images, [`regions`] attended regions; [`main()`] is
//! their program. A [`training()`] is taken from the store or made by [`train`]; [`score`] applies the network to all
//! images; [`write_training`] and [`write_scores`] write the results. [`Config`] is the recipe. `fusion` shares
//! [`training()`], [`TrainingSettings`], [`Watch`], [`write_epochs`] and [`headline`].
//!
//! The trunk of a foundation model is frozen ([`nets::Backbone::is_frozen`]): the features of all images are a result of
//! their own, and only the linear layer is trained, on them.
//!
//! A pass over all images, for features, scores or the heat maps of `attend`, goes on where it was interrupted ([`Parts`]).
//!
//! An image is decoded once, and augmented whenever it is used. The grey values of all images (7.3 GB for 112,120 images of
//! 256 x 256 px) stay in memory where they may, and in a file where they may not ([`Room`]).

mod config;
mod error;
mod frozen;
mod init;
mod load;
mod originals;
mod parts;
mod program;
mod score;
mod together;
mod train;
mod training;
mod watch;
mod write;

pub use config::defaults::LossName;
pub use config::{Config, LrSchedule, TrainingSettings};
pub use error::Error;
pub use init::{Init, WeightsFile};
pub use load::{Images, Room, images, images_of, images_px, regions, regions_px};
pub use nets::OnLines;
pub use originals::{Originals, raw_folder};
pub use parts::Parts;
pub use program::{Load, Source, main};
pub use score::{Scores, frame, score};
pub use train::{identity, train};
pub use training::{TRAINED, training};
pub use watch::Watch;
pub use write::{headline, write_epochs, write_scores, write_training};
