//! What a client may ask for, and all of them together.

use std::time::Duration;

/// What a client may ask for; the flags of `predict serve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a request's body.
    pub body_bytes: usize,
    /// The most pixels of an image: what a decoder may take memory for.
    pub pixels: u64,
    /// The longest that a request's header, then its body, may take to arrive.
    pub patience: Duration,
    /// Images that are decoded and looked at at a time.
    pub parallel: usize,
}

impl Limits {
    /// Images that wait while others are looked at.
    pub const WAITING: usize = 64;
    /// Bodies of the largest size that are in memory at a time.
    pub const BODIES: usize = 8;
    /// Open connections; others wait to be accepted.
    pub const CONNECTIONS: usize = 256;
    /// The most bytes of a request's line and header.
    pub const HEADER_BYTES: usize = 32 << 10;
    /// The longest that a connection is kept, whatever it does.
    pub const CONNECTION_AGE: Duration = Duration::from_secs(600);
    /// The longest that answers are waited for after a signal.
    pub const FAREWELL: Duration = Duration::from_secs(10);
}
