//! How a stage ends: its outcome, its failures, its exit code.

use std::fmt;
use std::process::ExitCode;

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

/// How a stage ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and published.
    Done,
    /// Nothing had changed.
    Current,
    /// It was asked to do nothing (`--dry-run`, `--print-config`), or had nothing to do.
    Nothing,
}

/// An error with an exit code and, where we know one, a hint.
#[derive(Debug)]
pub struct Fail {
    code: u8,
    hint: Option<String>,
    error: anyhow::Error,
}

impl Fail {
    fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Fail { code, hint: None, error: error.into() }
    }

    /// Wrong usage or configuration: exit code 2.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(exit_code::USAGE, error)
    }

    /// An input is missing or stale: exit code 3.
    pub fn missing(error: impl Into<anyhow::Error>) -> Self {
        Self::new(exit_code::MISSING, error)
    }

    /// Bad data: exit code 4.
    pub fn bad_data(error: impl Into<anyhow::Error>) -> Self {
        Self::new(exit_code::BAD_DATA, error)
    }

    /// Any other failure: exit code 1.
    pub fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::new(exit_code::FAILED, error)
    }

    /// Stopped on request: exit code 130.
    pub fn interrupted() -> Self {
        Self::new(exit_code::INTERRUPTED, anyhow::anyhow!("interrupted")).hint("run the same command again to continue")
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
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

/// Runs a stage's story and turns its end into an exit code.
///
/// Errors are printed to stderr as a chain of causes, then `hint:`. A reader of stdout that went away is no failure.
pub fn main(story: impl FnOnce() -> anyhow::Result<Outcome>) -> ExitCode {
    crate::log::catch_signals();
    let error = match story() {
        Ok(_) => return ExitCode::from(exit_code::DONE),
        Err(error) => error,
    };
    let broken_pipe = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return ExitCode::from(exit_code::DONE);
    }
    let fail = error.chain().find_map(|cause| cause.downcast_ref::<Fail>());
    crate::log::error(&error, fail.and_then(|fail| fail.hint.as_deref()));
    ExitCode::from(fail.map_or(exit_code::FAILED, |fail| fail.code))
}
