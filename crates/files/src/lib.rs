//! Files by a path or by a URL: on this machine, or in an object store (`s3://`, `gs://`, `az://`).
//!
//! A folder of files may be a bucket: `s3://bucket/nih` is a path whose files are objects, and joins, names and messages
//! work on it as on any path. Who opens, reads or lists by this crate need not know which it is.
//!
//! Every request to an object store is repeated where that may help, and a few parts of files are in memory at a time,
//! however large they are. Keys come from the environment, and no message contains them. Without the feature `cloud` a URL
//! of an object store is an error that says how to build with it.

mod address;
mod error;
mod object;
mod place;

#[cfg(feature = "cloud")]
mod cloud;
#[cfg(not(feature = "cloud"))]
#[path = "absent.rs"]
mod cloud;

pub use address::{is_remote, plain, refuse_secrets};
pub use error::Error;
pub use object::{Object, Opened};
pub use place::{check, is_file, is_folder, names, objects, open, put, read, read_if_there, upload};
