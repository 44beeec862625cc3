//! Trains the local branch on the regions that `attend` found, then scores every image.

use std::process::ExitCode;

fn main() -> ExitCode {
    branch::main(&local::SPEC, branch::Source { stage: "attend", prefix: "regions-", load: branch::regions })
}
