//! The program that serves a tiny model.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::tiny::model;

/// The program at work; it is ended where the test forgets it.
pub struct Server {
    pub address: SocketAddr,
    pub child: Child,
    pub model: tempfile::TempDir,
}

impl Server {
    /// Starts the program on a free port, with further arguments.
    pub fn start(args: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        model(folder.path());
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("predict"))
            .args(["serve", "--port", "0", "--model"])
            .arg(folder.path())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{line:?}, {}", said(&mut child)));
        Server { address, child, model: folder }
    }

    /// The most memory that the program has had so far, MiB.
    pub fn peak_mib(&self) -> u64 {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Asks the program to stop.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the program's end; also what it said on stderr.
    pub fn ended(&mut self, within: Duration) -> (ExitStatus, String) {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, said(&mut self.child));
            }
            assert!(since.elapsed() < within, "the server still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
    text
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
