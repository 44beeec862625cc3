//! What an open file and a listed object are.

use std::io::Read;

/// A file that is read from its beginning to its end.
pub struct Opened {
    /// Its contents.
    pub contents: Box<dyn Read + Send>,
    /// Its size in bytes.
    pub bytes: u64,
}

/// An object below a folder of an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its path below the folder, with `/`.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Last change, in nanoseconds since 1970.
    pub modified_ns: u128,
    /// The store's own mark of the contents, which changes with them.
    pub tag: Option<String>,
}
