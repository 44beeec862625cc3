//! Tests only: the whole pipeline on tiny data.
//!
//! [`Pipeline`] is a private folder in which the real binaries run as a user would run them.
//! [`Ran`] is what one of them did; printed, it says everything that explains a failure.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};

/// The stages in the order in which `just all` runs them.
pub const STAGES: [&str; 7] = ["phantom", "prep", "global", "attend", "local", "fusion", "report"];

/// Configuration of the tiny run: a few patients, the smallest network, seconds in all.
pub const TINY: &str = include_str!("../../../profiles/smoke.toml");

/// The most files that a failure lists.
const LISTED: usize = 200;

/// The folder with the stages' binaries, built in the profile of the running test, once per test process.
///
/// # Panics
/// Where `cargo build` fails.
pub fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // A test is <target>/<profile>/deps/<name>, and the profile `dev` lies in `debug`.
        let test = std::env::current_exe().expect("this test has a path");
        let folder = test.ancestors().nth(2).expect("tests lie in <target>/<profile>/deps");
        let target = folder.parent().expect("a profile lies in a target folder");
        let profile = folder.file_name().and_then(|name| name.to_str()).expect("a profile has a name");
        let profile = if profile == "debug" { "dev" } else { profile };
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo says of this test's own crate. Build scripts that look at it (ring's) would run again, and with them all
        // would compile again that stands on theirs.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| text.starts_with(start)) {
                cargo.env_remove(&name);
            }
        }
        let built = cargo
            .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile, "--target-dir"])
            .arg(target)
            .args(if cfg!(feature = "cloud") { &["--features", "cloud"][..] } else { &[] })
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .output()
            .expect("cargo starts");
        assert!(built.status.success(), "cargo build --bins failed: {}", String::from_utf8_lossy(&built.stderr));
        folder.to_path_buf()
    })
}

/// A folder with a configuration and its artefacts, removed at the end.
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
        fs::write(folder.path().join("tiny.toml"), TINY).expect("writing the configuration");
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

    /// Runs one stage and returns what it did.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    pub fn stage(&self, stage: &str, args: &[&str]) -> Ran {
        self.run(self.command(stage, args))
    }

    /// Runs the program that lists and cleans up the store: `runs`, `gc`, ...
    ///
    /// # Panics
    /// Where the binary cannot be started.
    pub fn store(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(binaries().join("store"));
        command.current_dir(self.path()).args(args).env("NO_COLOR", "1");
        self.run(command)
    }

    /// Runs a command in this folder, mostly one that [`Pipeline::command`] made.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    pub fn run(&self, mut command: Command) -> Ran {
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", line(&command)));
        Ran::new(line(&command), self.path(), output)
    }

    /// Starts a stage, interrupts it (SIGINT) as soon as it has said `words`, and returns its exit code and what it said.
    ///
    /// # Panics
    /// Where it ends before it says so, or by a signal.
    pub fn interrupted_at(&self, stage: &str, args: &[&str], words: &str) -> (i32, String) {
        let mut command = self.command(stage, args);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut said = String::new();
        for line in lines.map_while(Result::ok) {
            said += &(line.clone() + "\n");
            if line.contains(words) {
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
                kill_process(pid, Signal::INT).expect("it is still there");
            }
        }
        assert!(said.contains(words), "{said}");
        (child.wait().expect("a child").code().expect("an exit code"), said)
    }

    /// `just all`: every stage, each of which must succeed; returns the names of those that computed.
    ///
    /// # Panics
    /// Where a stage fails.
    pub fn all(&self, args: &[&str]) -> Vec<&'static str> {
        STAGES.into_iter().filter(|stage| !self.stage(stage, args).expect(0).current()).collect()
    }
}

/// All files below `folder` with their bytes, by their path in it, but the manifest, which says when and where.
///
/// # Panics
/// Where one cannot be read.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry of a folder").path();
            let name = path.strip_prefix(folder).expect("a path below the folder").to_path_buf();
            if path.is_dir() {
                folders.push(path);
            } else if name != Path::new("manifest.json") {
                files.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

/// How many rounds of disturbance a test goes through: `usual`, or what `AGCNN_ROUNDS` says, as `just torture` does.
///
/// # Panics
/// Where `AGCNN_ROUNDS` is no number.
pub fn rounds(usual: usize) -> usize {
    std::env::var("AGCNN_ROUNDS").map_or(usual, |text| text.parse().expect("AGCNN_ROUNDS is a number"))
}

/// SplitMix64 (Steele et al., OOPSLA 2014): the same disturbances in every run of a test.
pub struct Random(pub u64);

impl Random {
    /// A number in 0..1.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in `0..end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() * end as f64) as usize).min(end.saturating_sub(1))
    }
}

/// Overwrites a file, as a user does who makes it writable first.
///
/// # Panics
/// Where it cannot be written.
pub fn edit(path: &Path, bytes: &[u8]) {
    let mut permissions = fs::metadata(path).expect("a file").permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file of a test, removed at its end")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).expect("a file of ours");
    fs::write(path, bytes).expect("a writable file");
}

/// What one stage's process did.
///
/// Its [`Display`] prints command, folder, files, exit status and both streams: `assert!(.., "{ran}")`.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    command: String,
    folder: PathBuf,
    status: ExitStatus,
}

impl Ran {
    fn new(command: String, folder: &Path, output: Output) -> Self {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command,
            folder: folder.to_path_buf(),
            status: output.status,
        }
    }

    /// The same, if it ended with exit code `code`.
    ///
    /// # Panics
    /// Where it ended otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code == code, "expected exit code {code}\n{self}");
        self
    }

    /// Whether the stage said that nothing had changed.
    pub fn current(&self) -> bool {
        self.code == 0 && self.stderr.contains("current")
    }
}

impl Display for Ran {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut files = Vec::new();
        list(&self.folder, &self.folder, &mut files);
        files.sort();
        let rest = files.len().saturating_sub(LISTED);
        files.truncate(LISTED);
        if rest > 0 {
            files.push(format!("and {rest} more"));
        }
        let rule = "-".repeat(79);
        writeln!(f, "{rule}\ncommand: {}\nfolder:  {}\nstatus:  {}", self.command, self.folder.display(), self.status)?;
        writeln!(f, "\nfiles:\n{}", files.join("\n"))?;
        write!(f, "\nstdout:\n{}\nstderr:\n{}\n{rule}", self.stdout, self.stderr)
    }
}

/// A command as a shell takes it: settings of its environment, program, arguments.
fn line(command: &Command) -> String {
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy())));
    let program = command.get_program().to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    set.chain([program]).chain(args).collect::<Vec<_>>().join(" ")
}

/// Adds a line for every file below `folder`, with its size or where it points; `root` is not printed.
fn list(root: &Path, folder: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap_or(&path).display();
        match (fs::read_link(&path), fs::symlink_metadata(&path)) {
            (Ok(target), _) => lines.push(format!("{name} -> {}", target.display())),
            (_, Ok(metadata)) if metadata.is_dir() => list(root, &path, lines),
            (_, Ok(metadata)) => lines.push(format!("{name} ({} bytes)", metadata.len())),
            (_, Err(error)) => lines.push(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_command_folder_files_status_and_streams() {
        let pipeline = Pipeline::new();
        let mut command = Command::new("sh");
        command.current_dir(pipeline.path()).env("A", "b");
        command
            .args(["-c", "mkdir deep && echo 12345 >deep/file && ln -s deep link && echo out && echo err >&2; exit 3"]);
        let said = pipeline.run(command).expect(3).to_string();
        let folder = pipeline.path().display().to_string();
        for part in
            ["A=b sh -c mkdir", &folder, "exit status: 3", "deep/file (6 bytes)", "link -> deep", "out\n", "err\n"]
        {
            assert!(said.contains(part), "{part:?} is missing:\n{said}");
        }
    }

    #[test]
    #[should_panic(expected = "expected exit code 0")]
    fn another_exit_code_is_a_failure() {
        let pipeline = Pipeline::new();
        pipeline.run(Command::new("false")).expect(0);
    }
}
