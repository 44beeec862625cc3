//! Trains the global branch on whole images, then scores every image.

use std::process::ExitCode;

fn main() -> ExitCode {
    branch::main(&global::SPEC, branch::Source { stage: "prep", prefix: "images/", load: branch::images })
}
