//! The frame of every program: command line, settings, story, exit code.

use std::process::ExitCode;

use crate::{Fail, Outcome, Run, Settings, Spec, exit_code};

/// The program of a stage: parses the command line, reads and checks the configuration, opens the run, and lets
/// `story` read inputs, compute and publish.
pub fn main<C: Settings>(spec: &Spec, story: impl FnOnce(Run, C) -> Result<Outcome, Fail>) -> ExitCode {
    let common = spec.parse();
    exit(|| {
        let (run, config) = Run::open(spec, &common)?;
        if run.printed_config()? { Ok(Outcome::Nothing) } else { story(run, config) }
    })
}

/// Starts the log of a command that opens no run: `-q`, `-v` as in all of them.
pub fn start_log(common: &crate::Common) {
    crate::log::start(common.verbose, common.quiet);
}

/// Runs a program's story and turns its end into an exit code.
///
/// Errors are printed to stderr as a chain of causes, then `hint:`. A reader of stdout that went away is no failure.
pub fn exit(story: impl FnOnce() -> Result<Outcome, Fail>) -> ExitCode {
    crate::signals::catch();
    let Err(fail) = story() else { return ExitCode::from(exit_code::DONE) };
    if fail.code != exit_code::DONE {
        crate::log::error(&fail.error, fail.hint.as_deref());
    }
    ExitCode::from(fail.code)
}
