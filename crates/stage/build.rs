//! Records the commit that the program is built from.

use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let build = git(&["rev-parse", "--short=12", "HEAD"]).map(|commit| {
        let clean = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| changes.is_empty());
        if clean { commit } else { commit + "-dirty" }
    });
    println!("cargo::rustc-env=AGCNN_BUILD={}", build.unwrap_or_default());
    // Every commit and checkout appends to this file.
    match git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        Some(log) if std::path::Path::new(&log).exists() => println!("cargo::rerun-if-changed={log}"),
        _ => println!("cargo::rerun-if-changed=build.rs"),
    }
}
