//! The error of a name that is none of a few.

/// A text that names no variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {got:?}, expected one of {allowed}")]
pub struct UnknownName {
    /// What was to be named, e.g. `finding`.
    pub what: &'static str,
    /// The text.
    pub got: String,
    /// The names that are allowed, separated by commas.
    pub allowed: String,
}
