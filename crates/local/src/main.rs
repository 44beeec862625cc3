//! Trains the local branch on the regions that `attend` found, then scores every image.

use std::process::ExitCode;

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: branch::OnLines = branch::OnLines;

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
