//! `attend` finds where the global branch looks in every image, and cuts the region out
//! (Guan et al., arXiv 1801.09927, section III-B).
//!
//! [`heat_maps`] makes one map per image from the frozen network's last feature map; [`region::find`] thresholds it and
//! boxes the largest connected component; [`cut`] takes the pixels under the box. Heat maps are stored with the regions,
//! so another threshold needs no network: [`Heat::stored`] takes them from the earlier result.
//!
//! Two frames of pixels: the *evaluation frame*, the centre crop that the network is shown, in which components are
//! found; and the *prepared frame*, the picture that `prep` stored, in which boxes are published.

mod config;
mod cut;
mod error;
mod heat;
mod heatmap;
pub mod region;

pub use config::{Config, Source};
pub use cut::{Attended, Originals, cut, write};
pub use error::Error;
pub use heat::{Heat, Subjects};
pub use heatmap::{Normalise, Statistic, heat_maps, normalise, upsample};

/// What this stage is.
pub const SPEC: stage::Spec = stage::Spec { name: "attend", version: 1, defaults: include_str!("../default.toml") };
