//! Trains the local branch on the regions that `attend` found, then scores every image.

use std::process::ExitCode;

fn main() -> ExitCode {
    let source = branch::Source {
        stage: "attend",
        prefix: "regions-",
        size_px: branch::regions_px,
        size_settings: &["attend.size", "prep.size"],
        load: branch::regions,
    };
    branch::main(&local::SPEC, source)
}
