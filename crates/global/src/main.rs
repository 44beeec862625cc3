//! Trains the global branch on whole images, then scores every image.

use std::process::ExitCode;

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: branch::OnLines = branch::OnLines;

fn main() -> ExitCode {
    let source = branch::Source {
        stage: "prep",
        prefix: "images/",
        size_px: branch::images_px,
        size_settings: &["prep.size"],
        load: branch::images,
    };
    branch::main(&global::SPEC, source)
}
