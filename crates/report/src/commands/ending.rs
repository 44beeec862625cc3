//! How the commands end: interrupted, or with an exit code.

use std::io::ErrorKind;
use std::ops::ControlFlow;

use stage::Fail;

use crate::Error;

/// Whether Ctrl-C or SIGTERM asked to stop.
pub(super) fn keep_going() -> ControlFlow<()> {
    if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The failure that an error is to the user.
pub(super) fn fail(error: impl Into<Error>) -> Fail {
    let error = error.into();
    let hint = error.hint();
    let fail = match error.kind() {
        ErrorKind::Interrupted => Fail::interrupted(),
        ErrorKind::InvalidInput => Fail::usage(error),
        ErrorKind::NotFound => Fail::missing(error),
        ErrorKind::InvalidData => Fail::bad_data(error),
        _ => Fail::failed(error),
    };
    match hint {
        Some(hint) => fail.hint(hint),
        None => fail,
    }
}
