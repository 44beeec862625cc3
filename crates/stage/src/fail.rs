//! How a stage ends: outcomes, failures, exit codes.

use std::fmt;
use std::io::ErrorKind;

/// Exit codes, as the README lists them.
pub mod exit_code {
    /// Done, or nothing to do.
    pub const DONE: u8 = 0;
    /// Failed for another reason than those below.
    pub const FAILED: u8 = 1;
    /// Wrong usage or configuration.
    pub const USAGE: u8 = 2;
    /// An input is missing or stale.
    pub const MISSING: u8 = 3;
    /// Bad data.
    pub const BAD_DATA: u8 = 4;
    /// Stopped by Ctrl-C or SIGTERM; the same command continues.
    pub const INTERRUPTED: u8 = 130;
}

/// The one table from the kind of an error to the exit code.
fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => exit_code::USAGE,
        ErrorKind::NotFound => exit_code::MISSING,
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => exit_code::BAD_DATA,
        ErrorKind::Interrupted => exit_code::INTERRUPTED,
        // The reader of stdout has what it wanted (`| head`).
        ErrorKind::BrokenPipe => exit_code::DONE,
        _ => exit_code::FAILED,
    }
}

/// How a stage ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and published.
    Done,
    /// The store had the result; the run's link points to it.
    Current,
    /// It was asked to do nothing (`--dry-run`, `--print-config`), or had nothing to do.
    Nothing,
}

/// An error of a stage's library: what kind it is decides the exit code.
pub trait Problem: std::error::Error + Send + Sync + 'static {
    /// `InvalidInput` for wrong usage, `NotFound` for a missing input, `InvalidData` for bad data, `Interrupted` for a
    /// stop on request, `BrokenPipe` for a reader of stdout that went away; any other kind is a failure.
    fn kind(&self) -> ErrorKind;

    /// What the user can do about it.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// An error with an exit code and, where we know one, a hint.
#[derive(Debug)]
pub struct Fail {
    pub(crate) code: u8,
    pub(crate) hint: Option<String>,
    pub(crate) error: anyhow::Error,
}

impl Fail {
    /// An error of that kind.
    pub fn new(kind: ErrorKind, error: impl Into<anyhow::Error>) -> Self {
        Fail { code: code(kind), hint: None, error: error.into() }
    }

    /// Wrong usage or configuration: exit code 2.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ErrorKind::InvalidInput, error)
    }

    /// An input is missing or stale: exit code 3.
    pub fn missing(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ErrorKind::NotFound, error)
    }

    /// Bad data: exit code 4.
    pub fn bad_data(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ErrorKind::InvalidData, error)
    }

    /// Any other failure: exit code 1.
    pub fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ErrorKind::Other, error)
    }

    /// Stopped on request: exit code 130.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, anyhow::anyhow!("interrupted")).hint(CONTINUE)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.code == exit_code::MISSING
    }

    /// The end with exit code 0, and without a word, where an input is missing.
    pub(crate) fn unless_missing(mut self) -> Self {
        if self.is_missing() {
            self.code = exit_code::DONE;
        }
        self
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The hint of every interruption.
pub(crate) const CONTINUE: &str = "run the same command again to continue";

impl<E: Problem> From<E> for Fail {
    fn from(error: E) -> Self {
        let (kind, hint) = (error.kind(), error.hint());
        let fail = Fail::new(kind, error);
        match hint {
            Some(hint) => fail.hint(hint),
            None if kind == ErrorKind::Interrupted => fail.hint(CONTINUE),
            None => fail,
        }
    }
}

/// Reading or writing a file failed: exit code 1. What an absent or malformed file means is for the caller to say. A reader
/// of stdout that went away is no failure.
impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Self {
        let gone = error.kind() == ErrorKind::BrokenPipe;
        Fail::new(if gone { ErrorKind::BrokenPipe } else { ErrorKind::Other }, error)
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Fail {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
