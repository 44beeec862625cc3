//! How the commands end: interrupted, or with an exit code.

use std::io::ErrorKind;
use std::ops::ControlFlow;

use stage::{Fail, Problem};

use crate::Error;

/// Whether Ctrl-C or SIGTERM asked to stop.
pub(super) fn keep_going() -> ControlFlow<()> {
    if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The failure that an error is to the user.
pub(super) fn fail(error: impl Into<Error>) -> Fail {
    error.into().into()
}

impl Problem for Error {
    fn kind(&self) -> ErrorKind {
        Error::kind(self)
    }

    fn hint(&self) -> Option<String> {
        Error::hint(self)
    }
}
