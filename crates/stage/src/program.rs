//! The frame of every program: command line, settings, story, exit code.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use anyhow::anyhow;

use crate::{Common, Fail, Outcome, Run, Settings, Spec, exit_code};

/// The program of a stage: parses the command line, reads and checks the configuration, opens the run, and lets
/// `story` read inputs, compute and publish.
pub fn main<C: Settings>(spec: &Spec, story: impl FnOnce(Run, C) -> Result<Outcome, Fail>) -> ExitCode {
    let common = spec.parse();
    exit(|| {
        refuse_company(spec.name, &common)?;
        open(spec, &common, story)
    })
}

/// As [`main()`], for a stage whose result several processes compute together, started by `mpirun` or `srun`.
///
/// Rank 0 decides what is to be done, publishes and speaks; the others follow it ([`Run::begin`], [`Run::step`]).
pub fn main_together<C: Settings>(spec: &Spec, story: impl FnOnce(Run, C) -> Result<Outcome, Fail>) -> ExitCode {
    let common = spec.parse();
    exit(|| {
        ranks::start().map_err(|refused| {
            let hint = refused.hint();
            Fail::usage(refused).hint(hint)
        })?;
        crate::signals::watch_ranks();
        if ranks::world().local_size() > 1 {
            // A second pool of threads in one process (tests) is refused, and needless.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(crate::threads()).build_global();
        }
        open(spec, &common, story)
    })
}

fn open<C: Settings>(
    spec: &Spec,
    common: &Common,
    story: impl FnOnce(Run, C) -> Result<Outcome, Fail>,
) -> Result<Outcome, Fail> {
    let (run, config) = Run::open(spec, common)?;
    let places = ranks::world().places();
    if !places.is_empty() {
        let threads = crate::threads();
        let each: Vec<String> = places.iter().enumerate().map(|(rank, place)| format!("{rank} on {place}")).collect();
        tracing::info!("{} ranks of {threads} threads: {}", places.len(), each.join(", "));
    }
    if run.printed_config()? { Ok(Outcome::Nothing) } else { story(run, config) }
}

/// Several processes of a stage that works alone would be in each other's way, unless each has a shard.
fn refuse_company(stage: &str, common: &Common) -> Result<(), Fail> {
    match ranks::tasks() {
        Some((variable, tasks)) if tasks > 1 && common.sharing.shard.is_none() => {
            Err(Fail::usage(anyhow!("{stage} works alone, and {tasks} of it were started ({variable} = {tasks})"))
                .hint("start one, without mpirun or with `srun -n 1`; global and local train on several"))
        }
        _ => Ok(()),
    }
}

/// Starts the log of a command that opens no run: `-q`, `-v` as in all of them.
pub fn start_log(common: &crate::Common) {
    crate::log::start(common.verbose, common.quiet);
}

/// Runs a program's story and turns its end into an exit code.
///
/// Errors are printed to stderr as a chain of causes, then `hint:`. A reader of stdout that went away is no failure.
///
/// A rank of several that fails ends them all, with its exit code; all stop together on request.
pub fn exit(story: impl FnOnce() -> Result<Outcome, Fail>) -> ExitCode {
    crate::signals::catch();
    let code = match catch_unwind(AssertUnwindSafe(story)) {
        Ok(Ok(_)) => exit_code::DONE,
        Ok(Err(fail)) => {
            if fail.code == exit_code::INTERRUPTED && !ranks::world().is_alone() {
                // Whoever is interrupted alone ends in here, without a word; see `signals`.
                ranks::finish();
            }
            let speaks = match fail.code {
                exit_code::DONE => false,
                exit_code::INTERRUPTED => ranks::world().leads(),
                _ => true,
            };
            if speaks {
                crate::log::error(&fail.error, fail.hint.as_deref());
            }
            fail.code
        }
        Err(panic) => {
            match panic.downcast_ref::<ranks::Broken>() {
                Some(ranks::Broken(why)) => crate::signals::broken(why),
                None if ranks::world().is_alone() => resume_unwind(panic),
                None => crate::log::error(&anyhow!("a defect of this program, see above"), None),
            }
            exit_code::FAILED
        }
    };
    if ![exit_code::DONE, exit_code::INTERRUPTED].contains(&code) {
        ranks::world().abort(code);
        if ranks::world().is_linked() {
            crate::signals::end(code);
        }
    }
    // Ranks that were interrupted have left.
    if code != exit_code::INTERRUPTED {
        ranks::finish();
    }
    ExitCode::from(code)
}
