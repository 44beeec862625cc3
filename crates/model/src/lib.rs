//! AG-CNN after training: one image in, what the three branches see in it out.

mod agcnn;
mod crop;
mod error;
pub mod fusion;
pub mod heat_map;
pub mod region;

pub use agcnn::{AgCnn, Attention, Preparation, Sight};
pub use crop::{crop_of, in_image};
pub use error::Error;
