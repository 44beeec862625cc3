//! Pooling, over windows and over whole feature maps.

mod global;
pub(crate) mod shape;
mod windows;

pub use self::{
    global::{global_pool_backward, global_pool_forward},
    shape::Pool,
    windows::{avg_pool_backward, avg_pool_forward, max_pool_backward, max_pool_forward},
};
