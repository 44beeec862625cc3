//! `attend` finds where the global branch looks in every image, and cuts the region out
//! (Guan et al., arXiv 1801.09927, section III-B).
//!
//! [`Heat`] has one map per image, made from the frozen network's last feature map; [`locate`] thresholds each and boxes
//! the largest connected component; [`write()`] cuts the pixels under the boxes. Heat maps are stored with the regions, so
//! another threshold needs no network: [`Heat::stored`] takes them from an earlier result. What is done to one image is in
//! the crate [`model`], which does the same to an image that no table has.
//!
//! For a study, the region of an image may be put elsewhere, see [`place()`].
//!
//! Two frames of pixels: the *network's input*, in which components are found; and the *stored image* of `prep`, in which
//! boxes are published. [`cxr::EvalFrame`] leads from one to the other.

mod config;
mod cut;
mod error;
mod heat;
mod place;
mod regions;

pub use config::{Config, SPEC};
pub use cut::{Attended, facts, write};
pub use error::Error;
pub use heat::{Heat, Subjects, check_crop, check_precision, has_class_maps};
pub use place::place;
pub use regions::{locate, of_classes};
