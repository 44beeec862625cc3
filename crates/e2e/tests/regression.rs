//! One test per reported problem, named by it, with the report's words above it.

use e2e::{STAGES, binaries};

/// "`cargo test --release` builds debug binaries, then runs stale or missing ones."
#[test]
fn release_tests_ran_debug_binaries() {
    let test = std::env::current_exe().unwrap();
    let folder = binaries();
    assert_eq!(Some(folder), test.parent().and_then(|deps| deps.parent()));
    for stage in STAGES {
        assert!(folder.join(stage).is_file(), "{stage} is not in {}", folder.display());
    }
}
