//! How intervals are made, and when to stop.

use std::ops::ControlFlow;

use cxr::metrics::Bootstrap;

use crate::Error;

/// Asked between two steps of any long work: whether to go on.
pub type KeepGoing<'a> = &'a dyn Fn() -> ControlFlow<()>;

/// Asks, and turns a stop into an error.
///
/// # Errors
/// [`Error::Interrupted`] where the answer is [`ControlFlow::Break`].
pub fn check(keep_going: KeepGoing) -> Result<(), Error> {
    match keep_going() {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

/// How an interval is made.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The draws.
    pub bootstrap: Bootstrap,
    /// Share of the draws inside an interval.
    pub confidence: f64,
    /// Asked before every finding of every branch.
    pub keep_going: KeepGoing<'a>,
}

impl Plan<'_> {
    /// See [`check`].
    ///
    /// # Errors
    /// As [`check`].
    pub fn check(&self) -> Result<(), Error> {
        check(self.keep_going)
    }
}
