//! Tests only: the whole pipeline on tiny data.
//!
//! [`Pipeline`] is a private folder in which the real binaries run, as a user would run them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The stages in the order in which `just all` runs them.
pub const STAGES: [&str; 7] = ["phantom", "prep", "global", "attend", "local", "fusion", "report"];

/// Configuration of the tiny run: a few patients, the smallest network, seconds in all.
pub const TINY: &str = include_str!("../../../profiles/smoke.toml");

/// The folder with the stages' binaries, brought up to date once per test process.
///
/// # Panics
/// Where `cargo build` fails.
pub fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--bins"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .status()
            .expect("cargo starts");
        assert!(built.success(), "cargo build --bins failed");
        let test = std::env::current_exe().expect("this test has a path");
        // target/debug/deps/<test> -> target/debug
        test.ancestors().nth(2).expect("tests lie in target/<profile>/deps").to_path_buf()
    })
}

/// A folder with a configuration and its artefacts.
pub struct Pipeline {
    folder: tempfile::TempDir,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipeline {
    /// A fresh folder with the tiny configuration.
    ///
    /// # Panics
    /// Where the folder cannot be made.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("tiny.toml"), TINY).expect("writing the configuration");
        Pipeline { folder }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What `stage` published in run `run`.
    pub fn published(&self, run: &str, stage: &str) -> PathBuf {
        self.path().join("artifacts").join(run).join(stage)
    }

    /// The command that runs one stage, to be changed further before it starts.
    pub fn command(&self, stage: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binaries().join(stage));
        command.current_dir(self.path()).args(["--config", "tiny.toml"]).args(args);
        command.env("RAYON_NUM_THREADS", "2").env("NO_COLOR", "1");
        command
    }

    /// Runs one stage and hands back what it did.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    pub fn stage(&self, stage: &str, args: &[&str]) -> Ran {
        Ran::new(stage, self.command(stage, args).output().expect("the stage's binary starts"))
    }

    /// `just all`: every stage, each of which must succeed; returns the names of those that did work.
    ///
    /// # Panics
    /// Where a stage fails.
    pub fn all(&self, args: &[&str]) -> Vec<&'static str> {
        let mut worked = Vec::new();
        for stage in STAGES {
            let ran = self.stage(stage, args);
            assert_eq!(ran.code, 0, "{stage}: {}", ran.stderr);
            if !ran.current() {
                worked.push(stage);
            }
        }
        worked
    }
}

/// What one stage's process did.
#[derive(Debug)]
pub struct Ran {
    /// Name of the stage.
    pub stage: String,
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    fn new(stage: &str, output: Output) -> Self {
        Ran {
            stage: stage.to_owned(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Whether the stage said that nothing had changed.
    pub fn current(&self) -> bool {
        self.code == 0 && self.stderr.contains("current")
    }
}
