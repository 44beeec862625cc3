//! Files of others, which may be anything: a pipe that nobody writes to, a device without an end, bytes on which a decoder
//! panics. [`open`] takes regular files only, and [`caught`] makes an error of a panic.

mod caught;
mod file;

pub use caught::caught;
pub use file::{open, read, read_to_string};
