//! `attend` finds where the global branch looks in every image, and cuts the region out
//! (Guan et al., arXiv 1801.09927, section III-B).
//!
//! [`heat_maps`] makes one map per image from the frozen network's last feature map; [`region::locate`] thresholds each
//! and boxes the largest connected component; [`write()`] cuts the pixels under the boxes. Heat maps are stored with the
//! regions, so another threshold needs no network: [`Heat::stored`] takes them from an earlier result.
//!
//! Two frames of pixels: the *network's input*, in which components are found; and the *stored image* of `prep`, in which
//! boxes are published. [`cxr::EvalFrame`] leads from one to the other.

mod config;
mod cut;
mod error;
mod heat;
mod heatmap;
pub mod region;

pub use config::{Config, SPEC};
pub use cut::{Attended, Originals, facts, write};
pub use error::Error;
pub use heat::{Heat, Subjects};
pub use heatmap::{heat_maps, not_finite};
